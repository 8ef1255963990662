"""Whom the one address of `make run` answers."""

import json

import httpx
import pytest

from local.gateway import Gateway
from tests.kit.web_request import Body, Reply, scope_of


@pytest.fixture
def gateway(tmp_path):
    (tmp_path / "index.html").write_text("<p>hello</p>")
    return Gateway([], tmp_path, ["Chat.Example"])


async def get(gateway: Gateway, *hosts: str, path: str = "/") -> Reply:
    reply = Reply()
    await gateway(scope_of([("Host", host) for host in hosts], method="GET", path=path), Body(), reply)
    return reply


@pytest.mark.parametrize("path", ["/", "/index.html", "/c/0190a0b0-0000-7000-8000-000000000000"])
async def test_the_page_is_at_the_address_of_each_chat(gateway, path):
    reply = await get(gateway, "localhost", path=path)
    assert (reply.status, reply.body) == (200, b"<p>hello</p>")


@pytest.mark.parametrize("path", ["/c/", "/c/a/b", "/c/../index.html", "/nothing"])
async def test_elsewhere_there_is_nothing(gateway, path):
    assert (await get(gateway, "localhost", path=path)).status == 404


async def test_the_page_is_told_its_settings(tmp_path):
    gateway = Gateway([], tmp_path, page_settings={"model": "demo"})
    reply = await get(gateway, "localhost", path="/page-settings.json")
    assert json.loads(reply.body) == {"model": "demo"}
    assert reply.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST:8000", "127.0.0.1:80", "[::1]", "[::1]:8000", "chat.example:1"]
)
async def test_it_answers_to_this_machine_and_to_the_names_it_is_given(gateway, host):
    reply = await get(gateway, host)
    assert (reply.status, reply.body) == (200, b"<p>hello</p>")
    assert reply.headers["content-security-policy"] == "frame-ancestors 'none'"


@pytest.mark.parametrize(
    "hosts",
    [
        ["attacker.example"],
        ["attacker.example:8000"],
        ["localhost.attacker.example"],
        ["localhost:8000.attacker.example"],
        ["127.0.0.1.attacker.example"],
        ["localhost", "attacker.example"],
        ["localhost:"],
        [""],
        [],
    ],
)
async def test_a_name_that_was_made_to_lead_here_gets_nothing(gateway, hosts):
    """DNS rebinding: a page of the attacker's would have the same origin."""
    reply = await get(gateway, *hosts)
    assert (reply.status, json.loads(reply.body)["code"]) == (403, "forbidden")


async def test_the_description_of_all_functions_is_served_and_shown(tmp_path):
    gateway = Gateway([], tmp_path)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://localhost") as client:
        document = (await client.get("/openapi.json")).json()
        shown = await client.get("/docs")
    assert "/api/chats" in document["paths"]
    assert '"/openapi.json"' in shown.text or "'/openapi.json'" in shown.text
    assert shown.headers["content-security-policy"] == "frame-ancestors 'none'"
