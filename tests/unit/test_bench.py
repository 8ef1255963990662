"""The bench understands what its peers say."""

import json

from bench.asking import Ask
from bench.peers.hello import hello


async def test_the_hello_world_says_a_first_delta_though_it_asks_no_ai():
    ask = Ask()
    ask.take(json.dumps({"statusCode": 200, "body": json.dumps(hello())}).encode())
    assert ask.first.done()
    assert ask.thought_ns == 0
