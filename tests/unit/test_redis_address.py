"""What a Redis URL says."""

import ssl

import pytest

from chat.adapters.redis.address import read_address
from chat.settings import SettingsError


def test_a_plain_url():
    address = read_address("redis://cache.example:6380/2")
    assert (address.host, address.port, address.database, address.path) == ("cache.example", 6380, 2, None)
    assert address.login == ()
    assert address.tls() is None


def test_what_is_left_out_has_the_usual_values():
    address = read_address("redis://cache.example")
    assert (address.port, address.database) == (6379, 0)


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("redis://:p%40ss%2Fword@h", ("p@ss/word",)),
        ("redis://us%3Aer:pw@h", ("us:er", "pw")),
        ("redis://user:@h", ("user", "")),
        ("redis://h", ()),
    ],
)
def test_logins_are_decoded(url: str, login: tuple[str, ...]):
    assert read_address(url).login == login


def test_tls_verifies_certificate_and_name_unless_told_otherwise():
    context = read_address("rediss://h").tls()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    careless = read_address("rediss://h?ssl_cert_reqs=none").tls()
    assert careless is not None
    assert (careless.verify_mode, careless.check_hostname) == (ssl.CERT_NONE, False)


def test_a_unix_socket():
    address = read_address("unix://:pw@/run/red%20is.sock?db=3")
    assert (address.path, address.database, address.login) == ("/run/red is.sock", 3, ("pw",))


@pytest.mark.parametrize("url", ["redis://h/x", "redis://h?db=-1", "redis://:secret@h?max_connections=3"])
def test_what_is_not_known_is_refused_without_showing_the_url(url: str):
    with pytest.raises(SettingsError, match="REDIS_URL") as refused:
        read_address(url)
    assert "secret" not in str(refused.value)
