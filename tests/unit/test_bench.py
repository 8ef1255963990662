"""The bench understands what its peers say."""

from fastapi.testclient import TestClient

from bench.asking import Ask
from bench.peers.hello import app


async def test_the_hello_world_says_a_first_delta_though_it_asks_no_ai():
    ask = Ask()
    ask.take(TestClient(app).post("/").content)
    assert ask.first.done()
    assert ask.thought_ns == 0
