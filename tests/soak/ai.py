"""`python -m tests.soak.ai`: the AI of the soak, in a process of its own; prints its port, serves until stdin ends."""

import asyncio
import sys

from tests.kit.ai_server import DONE, AIServer, Call, chunk, event, finish, status, text, usage
from tests.soak.plan import Plan, read

_KEPT_CALLS = 500


async def answer(call: Call) -> None:
    """Say what the plan in the last message wants, each delta when it is due."""
    plan = read(call.json["messages"][-1]["content"])
    if plan.kind == "error_before":
        await status(400 if plan.number % 2 else 401)(call)
        return
    await call.start()
    await _say(call, plan)
    if plan.kind == "error_after":
        await call.send(event({"error": {"message": "quokka overloaded", "code": 500}}))
    elif plan.kind == "truncated":
        call.hang_up()
        return
    else:
        await call.send(finish() + usage(10, plan.count) + DONE)
    await call.end()


async def _say(call: Call, plan: Plan) -> None:
    parts = [event(chunk({"reasoning_content": thought})) for thought in plan.reasoning]
    parts += [text(delta) for delta in plan.deltas]
    if plan.sources:
        cited = [{"type": "url_citation", "url_citation": source} for source in plan.sources]
        parts.append(event(chunk({"annotations": cited})))
    due = asyncio.get_running_loop().time()
    for part in parts:
        await call.send(part)
        due += plan.pace_seconds
        await asyncio.sleep(due - asyncio.get_running_loop().time())


async def serve() -> None:
    """Serve until nobody holds standard input any more."""

    async def bounded(call: Call) -> None:
        server.calls[:-_KEPT_CALLS] = [old for old in server.calls[:-_KEPT_CALLS] if not old.answered.is_set()]
        await answer(call)

    async with AIServer() as server:
        server.default = bounded
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
