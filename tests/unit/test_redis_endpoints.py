"""What a Redis URL says."""

import ssl

import pytest

from chat.adapters.redis.connection import TcpChannel, TlsChannel, UnixChannel
from chat.adapters.redis.elasticache_iam import ElastiCacheIam
from chat.adapters.redis.endpoints import UrlEndpoint, read_address
from chat.settings import Secret, SettingsError


def channel(url: str):
    endpoint = UrlEndpoint(Secret(url))
    return endpoint.channel_to(endpoint.address)


def test_a_plain_url():
    plain = channel("redis://cache.example:6380/2")
    assert type(plain) is TcpChannel
    assert (plain.host, plain.port, plain.db, plain.username, plain.password) == ("cache.example", 6380, 2, None, None)


def test_what_is_left_out_has_the_usual_values():
    plain = channel("redis://cache.example")
    assert (plain.port, plain.db) == (6379, 0)


@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "unix:///run/redis.sock", "redis://h/?cluster=true"])
def test_no_limit_or_greeting_of_redis_py_is_left_in_place(url: str):
    """Waits are bounded here, and a cold start pays no CLIENT SETINFO."""
    made = channel(url)
    assert (made.socket_timeout, made.socket_connect_timeout, made.health_check_interval) == (None, None, 0)
    assert (made.driver_info, made.client_name, made.protocol, made.retry.get_retries()) == (None, None, 2, 0)


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("redis://:p%40ss%2Fword@h", (None, "p@ss/word")),
        ("redis://us%3Aer:pw@h", ("us:er", "pw")),
        ("redis://h", (None, None)),
    ],
)
def test_logins_are_decoded(url: str, login: tuple[str | None, str | None]):
    made = channel(url)
    assert (made.username, made.password) == login


def test_tls_verifies_certificate_and_name_unless_told_otherwise():
    made = channel("rediss://h")
    assert type(made) is TlsChannel
    context = made.ssl_context.get()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    careless = channel("rediss://h?ssl_cert_reqs=none").ssl_context.get()
    assert (careless.verify_mode, careless.check_hostname) == (ssl.CERT_NONE, False)


def test_a_unix_socket():
    made = channel("unix://:pw@/run/red%20is.sock?db=3")
    assert type(made) is UnixChannel
    assert (made.path, made.db, made.password) == ("/run/red is.sock", 3, "pw")


def test_sentinels_name_a_service_whose_master_is_asked_for():
    address = read_address("redis+sentinel://user:pw@one:26380,two,[::1]:26379/my%20master/3?ssl_ca_certs=/ca.pem")
    assert address.sentinels == (("one", 26380), ("two", 26379), ("::1", 26379))
    assert (address.service, address.kwargs["db"], address.kwargs["password"]) == ("my master", 3, "pw")
    assert read_address("rediss+sentinel://one/m").kind is TlsChannel


def test_a_cluster_is_asked_for_by_name():
    assert read_address("redis://h/?cluster=true").is_cluster
    assert not read_address("redis://h").is_cluster


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/x",
        "redis://h?db=-1",
        "redis://:secret@h?max_connections=3",
        "redis://:secret@h?socket_timeout=9",
        "redis+sentinel://:secret@h:26379",
        "redis+sentinel://:secret@h:port/service",
        "redis+sentinel://:secret@/service",
    ],
)
def test_what_is_not_known_is_refused_without_showing_the_url(url: str):
    with pytest.raises(SettingsError, match="REDIS_URL") as refused:
        read_address(url)
    assert "secret" not in str(refused.value)


class Session:
    """botocore's session with credentials of a test."""

    def __init__(self, region: str | None = "eu-central-1") -> None:
        self.region = region

    def get_credentials(self):
        from botocore.credentials import Credentials

        return Credentials("AKID", "SECRET", "SESSION")

    def get_config_variable(self, name: str):
        assert name == "region"
        return self.region


@pytest.mark.parametrize("is_serverless", [False, True])
async def test_an_iam_login_is_a_presigned_request_for_the_cache(is_serverless: bool):
    from urllib.parse import parse_qs, urlsplit

    user, token = await ElastiCacheIam("chat", "My-Cache", is_serverless, Session()).get_credentials_async()
    parts = urlsplit(f"https://{token}")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert (user, parts.netloc, parts.path) == ("chat", "my-cache", "/")
    assert (query["Action"], query["User"], query["X-Amz-Expires"]) == ("connect", "chat", "900")
    assert query["X-Amz-Credential"].split("/")[2:] == ["eu-central-1", "elasticache", "aws4_request"]
    assert query["X-Amz-Security-Token"] == "SESSION"
    assert query.get("ResourceType") == ("ServerlessCache" if is_serverless else None)
    assert "X-Amz-Signature" in query


def test_an_iam_login_is_what_redis_py_asks_when_it_connects():
    made = channel("rediss://chat@cache:6379/0?iam=my-cache&iam_serverless=true")
    assert isinstance(made.credential_provider, ElastiCacheIam)
    assert (made.username, made.password) == (None, None)
