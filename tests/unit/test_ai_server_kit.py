"""The scriptable AI server itself, spoken to by httpx's own transport."""

import asyncio
import json

import httpx
import pytest

from tests.kit import ai_server
from tests.kit.ai_server import AIServer, Gate


async def post(client: httpx.AsyncClient, server: AIServer) -> httpx.Response:
    return await client.post(f"{server.url}/chat/completions", json={"model": "m"})


async def test_it_plays_one_script_for_each_request_and_then_the_default():
    async with AIServer() as server, httpx.AsyncClient() as client:
        server.script(ai_server.status(503), ai_server.say("one"))
        responses = [await post(client, server) for _ in range(3)]
        assert [response.status_code for response in responses] == [503, 200, 200]
        assert '"one"' in responses[1].text
        assert '" world"' in responses[2].text
        assert [call.json for call in server.calls] == [{"model": "m"}] * 3
        assert [call.connection for call in server.calls] == [1, 1, 1]


async def test_a_gate_lets_one_delta_through_for_each_release():
    gate = Gate()
    async with AIServer() as server, httpx.AsyncClient() as client:
        server.script(ai_server.say("a", "b", gate=gate))
        async with client.stream("POST", f"{server.url}/chat/completions", json={}) as response:
            lines = response.aiter_lines()
            seen = [await anext(lines), await anext(lines)]
            await gate.reached()
            for _ in "ab":
                await gate.release()
                seen += [await anext(lines), await anext(lines)]
            await gate.reached()
            contents = [json.loads(line[6:])["choices"][0]["delta"]["content"] for line in seen if line]
            assert contents == ["", "a", "b"]


async def test_it_knows_when_the_client_has_closed():
    async with AIServer() as server, httpx.AsyncClient() as client:
        server.script(ai_server.silent(ai_server.text("a")))
        async with client.stream("POST", f"{server.url}/chat/completions", json={}) as response:
            await anext(response.aiter_bytes())
            assert not server.calls[0].closed.is_set()
        await server.calls[0].closed.wait()
        await server.has_connections(0)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (ai_server.reset(with_head=False), httpx.ReadError),
        (ai_server.reset(ai_server.text("a")), httpx.ReadError),
        (ai_server.cut(ai_server.text("a")), httpx.RemoteProtocolError),
        (ai_server.exactly(b"nonsense\r\n\r\n"), httpx.RemoteProtocolError),
    ],
)
async def test_it_breaks_connections_as_told(script: ai_server.Script, error: type[Exception]):
    async with AIServer() as server, httpx.AsyncClient() as client:
        server.script(script)
        with pytest.raises(error):
            await post(client, server)


async def test_compressed_events_come_out_as_they_went_in():
    async with AIServer() as server, httpx.AsyncClient() as client:
        server.script(ai_server.gzip(ai_server.text("안녕"), ai_server.DONE))
        assert (await post(client, server)).content == ai_server.text("안녕") + ai_server.DONE


async def test_a_mistake_in_a_script_fails_the_test():
    async def broken(call: ai_server.Call) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with AIServer() as server, httpx.AsyncClient() as client:
            server.script(broken)
            with pytest.raises(httpx.RemoteProtocolError):
                await post(client, server)


async def test_nothing_is_left_open_when_it_stops():
    async with AIServer() as server, httpx.AsyncClient() as client:
        server.script(ai_server.mute())
        asking = asyncio.ensure_future(post(client, server))
        call = await server.called()
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await asking
    assert call.closed.is_set()
