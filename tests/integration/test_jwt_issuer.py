"""The issuer's keys over a real connection: kept, rotated, and what happens when the issuer misbehaves."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import pytest

from chat.domain.errors import StorageUnavailable
from chat.http.auth import jwks
from chat.http.auth.identity import token_verifier
from chat.http.auth.jwks import Jwks
from chat.http.auth.tokens import InvalidToken, Tokens
from chat.settings import AuthSettings
from tests.kit.issuer import AUDIENCE, ISSUER, Issuer, public_jwk, token
from tests.kit.waiting import until

ALGORITHMS = ("RS256", "ES256")
PATIENCE_SECONDS = 30.0


class Clock:
    """A wall clock that moves only when told to."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


class Kit:
    """An issuer, and tokens checked against what it publishes."""

    def __init__(self, issuer):
        self.issuer = issuer
        self.clock = Clock()
        self.clients = []
        auth = AuthSettings("jwt", issuer.url, None, ALGORITHMS, ISSUER, (AUDIENCE,))
        self.keys = Jwks(issuer.url, ALGORITHMS, self.new_client, self.clock)
        self.keys.timeout_seconds = PATIENCE_SECONDS
        self.tokens = Tokens(auth, self.keys)

    async def user_id(self, sent):
        return (await self.tokens.user(sent)).id

    def new_client(self):
        self.clients.append(httpx.AsyncClient(timeout=None))  # a client without limits: ours must do
        return self.clients[-1]

    def later(self, seconds):
        self.clock.time += seconds


@pytest.fixture
async def issuer():
    async with Issuer(public_jwk("k1"), public_jwk("e1", "ES256")) as issuer:
        yield issuer


@pytest.fixture
def kit(issuer):
    return Kit(issuer)


async def test_keys_are_fetched_once_and_used_until_they_are_old(kit):
    assert await kit.user_id(token()) == "alice"
    kit.later(jwks.FRESH_SECONDS - 1)
    assert await kit.user_id(token("e1", "ES256", sub="bob")) == "bob"
    assert kit.issuer.fetches == 1
    kit.later(1)
    assert await kit.user_id(token()) == "alice"
    assert kit.issuer.fetches == 2


async def test_the_verifier_that_the_settings_ask_for_fetches_by_itself(issuer):
    verifier = token_verifier(AuthSettings("jwt", issuer.url, None, ALGORITHMS, ISSUER, (AUDIENCE,)))
    assert (await verifier.user(token())).id == "alice"
    with pytest.raises(InvalidToken, match="signature"):
        await verifier.user(token("k2", headers={"kid": "k1"}))
    assert issuer.fetches == 1


async def test_no_connection_stays_open_between_fetches(kit):
    await kit.user_id(token())
    assert [client.is_closed for client in kit.clients] == [True]


async def test_many_requests_at_once_make_one_fetch(kit):
    kit.issuer.gate.clear()
    asked = [asyncio.create_task(kit.user_id(token())) for _ in range(50)]
    await until(lambda: kit.issuer.fetches, "the first fetch has arrived")
    kit.issuer.gate.set()
    assert set(await asyncio.gather(*asked)) == {"alice"}
    assert kit.issuer.fetches == 1


async def test_a_new_key_is_found_and_a_withdrawn_one_is_refused(kit):
    await kit.user_id(token())
    kit.issuer.keys = [public_jwk("k2")]
    kit.later(jwks.RETRY_SECONDS)
    assert await kit.user_id(token("k2")) == "alice"
    with pytest.raises(InvalidToken, match="does not publish"):
        await kit.user_id(token())


async def test_unknown_keys_cause_no_storm_of_fetches_and_do_not_evict_known_ones(kit):
    await kit.user_id(token())
    for _ in range(3):
        kit.later(jwks.RETRY_SECONDS)
        for number in range(20):
            with pytest.raises(InvalidToken, match="does not publish"):
                await kit.user_id(token("k9", headers={"kid": f"unknown-{number}"}))
    assert kit.issuer.fetches == 4
    assert await kit.user_id(token()) == "alice"
    assert kit.issuer.fetches == 4


async def test_a_token_without_a_kid_is_checked_with_the_only_key_there_is_for_its_algorithm(kit):
    kit.issuer.keys = [public_jwk("k1"), public_jwk("e1", "ES256")]
    assert await kit.user_id(token("e1", "ES256", {"kid": None})) == "alice"
    kit.issuer.keys.append(public_jwk("e2", "ES256"))
    kit.later(jwks.FRESH_SECONDS)
    with pytest.raises(InvalidToken, match="does not publish"):
        await kit.user_id(token("e1", "ES256", {"kid": None}))


async def switched_off(kit):
    await kit.issuer.stop()


async def failing(kit):
    kit.issuer.status = "500 Internal Server Error"


async def redirecting(kit):
    kit.issuer.status, kit.issuer.headers = "302 Found", [f"Location: {kit.issuer.url}?again"]


async def publishing_garbage(kit):
    kit.issuer.body = b"<html>maintenance</html>"


async def publishing_nothing(kit):
    kit.issuer.keys = []


async def publishing_too_much(kit):
    kit.issuer.body = json.dumps({"keys": [public_jwk("k1")], "padding": " " * jwks.MAX_BYTES}).encode()


async def publishing_too_many(kit):
    kit.issuer.body = json.dumps({"keys": [public_jwk("k1"), *[{}] * jwks.MAX_KEYS]}).encode()


async def publishing_without_end(kit):
    kit.issuer.body = b'{"keys":[' + b"{}," * 2_000_000


async def publishing_deep_json(kit):
    kit.issuer.body = b'{"keys":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


async def speaking_no_http(kit):
    kit.issuer.status = "\x00"


async def never_finishing(kit):
    kit.issuer.gate.clear()
    kit.keys.timeout_seconds = 0.1


MISBEHAVING = [
    switched_off,
    failing,
    redirecting,
    publishing_garbage,
    publishing_nothing,
    publishing_too_much,
    publishing_too_many,
    publishing_without_end,
    publishing_deep_json,
    speaking_no_http,
    never_finishing,
]


@pytest.mark.parametrize("misbehave", MISBEHAVING)
async def test_known_keys_outlive_an_issuer_that_misbehaves_until_they_are_a_day_old(kit, misbehave, caplog):
    await kit.user_id(token())
    await misbehave(kit)

    kit.later(jwks.FRESH_SECONDS)
    assert await kit.user_id(token()) == "alice"
    assert len(kit.clients) == 2
    with pytest.raises(InvalidToken, match="does not publish"):
        await kit.user_id(token("k2"))
    assert await kit.user_id(token()) == "alice"
    assert len(kit.clients) == 2, "a failed fetch is not repeated at once"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]

    kit.later(jwks.USABLE_SECONDS - jwks.FRESH_SECONDS - 1)
    assert await kit.user_id(token()) == "alice"
    kit.later(1)
    with pytest.raises(StorageUnavailable):
        await kit.user_id(token())


@pytest.mark.parametrize("misbehave", MISBEHAVING)
async def test_without_any_key_the_answer_is_503_and_the_next_second_tries_again(kit, issuer, misbehave):
    await misbehave(kit)
    for _ in range(5):
        with pytest.raises(StorageUnavailable) as caught:
            await kit.user_id(token())
    assert len(kit.clients) == 1
    assert issuer.url not in caught.value.detail

    if misbehave is switched_off:
        await issuer.start()
    issuer.keys, issuer.status, issuer.headers, issuer.body = [public_jwk("k1")], "200 OK", [], None
    issuer.gate.set()
    kit.keys.timeout_seconds = PATIENCE_SECONDS
    kit.later(jwks.FIRST_RETRY_SECONDS)
    assert await kit.user_id(token()) == "alice"


async def test_a_redirect_is_not_followed(kit):
    await redirecting(kit)
    with pytest.raises(StorageUnavailable):
        await kit.user_id(token())
    assert kit.issuer.fetches == 1


async def test_while_a_refresh_is_under_way_known_keys_are_used_without_waiting_for_it(kit):
    await kit.user_id(token())
    kit.later(jwks.FRESH_SECONDS)
    kit.issuer.gate.clear()
    refreshing = asyncio.create_task(kit.user_id(token()))
    await until(lambda: kit.issuer.fetches == 2, "the refresh has begun")
    assert await kit.user_id(token()) == "alice"
    assert not refreshing.done()
    kit.issuer.gate.set()
    assert await refreshing == "alice"


async def test_a_fetch_whose_request_is_cancelled_is_done_by_the_next_in_line(kit):
    kit.issuer.gate.clear()
    first = asyncio.create_task(kit.user_id(token()))
    await until(lambda: kit.issuer.fetches == 1, "the first fetch has arrived")
    second = asyncio.create_task(kit.user_id(token()))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    kit.issuer.gate.set()
    assert await second == "alice"
    assert kit.issuer.fetches == 2


async def test_a_clock_that_was_set_back_makes_keys_be_fetched_anew(kit):
    await kit.user_id(token())
    kit.later(-3600)
    assert await kit.user_id(token()) == "alice"
    assert kit.issuer.fetches == 2


def test_one_verifier_serves_one_invocation_after_the_other_in_the_processs_loop():
    """As under Mangum: the loop stands still between invocations, and so does everything in it."""
    loop = asyncio.new_event_loop()
    try:
        issuer = Issuer(public_jwk("k1"))
        loop.run_until_complete(issuer.start())
        kit = Kit(issuer)
        assert loop.run_until_complete(kit.user_id(token())) == "alice"
        kit.later(jwks.FRESH_SECONDS)
        assert loop.run_until_complete(kit.user_id(token())) == "alice"
        loop.run_until_complete(issuer.stop())
        assert issuer.fetches == 2
    finally:
        loop.close()
