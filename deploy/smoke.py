"""Tries a running service as a client would, and what only a real deployment can show. Exits 1 if anything fails.

    python -m deploy.smoke http://localhost:8000                  one address for all functions (make run)
    python -m deploy.smoke CREATE_URL STREAM_URL CANCEL_URL       Function URLs, in this order
    python -m deploy.smoke --stack aiva-chat                      the same, read from the stack's outputs

`CHAT_TOKEN` in the environment is sent as bearer token; without it requests to Function URLs are signed (AWS_IAM).
It makes a few short answers, which the AI's owner bills.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.client import Caller, Event, NoAccess, Service, signer

Check = Callable[[Service], Awaitable[str]]

_QUESTION = "Explain in about ten sentences how a rainbow comes about."
_HANGS_SECONDS = 10.0
"""Answers without a body must be there by then: Function URLs are reported to hold them back."""


class Failed(AssertionError):
    """A check did not hold; the message says what was found instead."""


@dataclass(slots=True)
class Talk:
    """One answer as it arrived."""

    events: list[Event]
    text: str
    spread_seconds: float

    @property
    def end(self) -> dict[str, Any]:
        return self.events[-1].data


def expect(holds: object, found: str) -> None:
    """Fail the check with what was found, unless it holds."""
    if not holds:
        raise Failed(found)


async def new_chat(service: Service) -> str:
    """Make a chat and return its id."""
    response = await service.create.send("POST", "/api/chat/create", {"title": "smoke"})
    expect(response.status_code == 201, f"{response.status_code} {response.text[:200]}")
    return str(response.json()["chatId"])


async def talk(
    service: Service, chat: str, content: str = _QUESTION, on_delta: Callable[[], None] | None = None
) -> Talk:
    """Ask, and listen to the end; `on_delta` is called at the first words."""
    events, text, times = [], "", []
    async for event in service.stream.events("POST", f"/api/chat/{chat}/stream", {"content": content}):
        events.append(event)
        if event.name == "message":
            text += event.data["delta"]
            times.append(time.monotonic())
            if on_delta is not None and len(times) == 1:
                on_delta()
    expect(events and events[-1].name == "done", f"the stream ended with {events[-1].name if events else 'nothing'}")
    return Talk(events, text, times[-1] - times[0] if times else 0.0)


async def check_health(service: Service) -> str:
    """each function is healthy"""
    found = []
    for caller in {id(c): c for c in (service.create, service.stream, service.cancel)}.values():
        response = await caller.send("GET", "/health")
        body = response.json()
        expect(response.status_code == 200 and body["status"] == "ok", f"{response.status_code} {response.text[:200]}")
        found.append(f"MySQL {body['mysql']['latencyMs']} ms, Redis {body['redis']['latencyMs']} ms")
    return "; ".join(found)


async def check_stream(service: Service) -> str:
    """an answer arrives piece by piece, and is stored when it is done"""
    chat = await new_chat(service)
    answer = await talk(service, chat)
    expect(answer.events[0].name == "start", f"the first event is {answer.events[0].name}")
    expect(answer.end["status"] == "completed", f"done says {answer.end}")
    expect(answer.end["characters"] == len(answer.text), "done counts other characters than arrived")
    deltas = sum(event.name == "message" for event in answer.events)
    expect(
        deltas > 1 and answer.spread_seconds > 0.2, f"{deltas} deltas within {answer.spread_seconds:.2f} s: buffered?"
    )
    message = answer.events[0].data["messageId"]
    again = [e async for e in service.stream.events("GET", f"/api/chat/{chat}/stream?messageId={message}")]
    stored = "".join(event.data["delta"] for event in again if event.name == "message")
    expect(stored == answer.text, "the stored text is another than what arrived")
    return f"{deltas} deltas over {answer.spread_seconds:.1f} s"


async def check_cancel(service: Service) -> str:
    """a cancel ends a running answer"""
    chat = await new_chat(service)
    begun = asyncio.Event()
    listening = asyncio.create_task(talk(service, chat, on_delta=begun.set))
    waiting = asyncio.create_task(begun.wait())
    await asyncio.wait({listening, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    expect(begun.is_set(), "the answer ended before its first words")
    started = time.monotonic()
    response = await service.cancel.send("POST", f"/api/chat/{chat}/cancel")
    took = (time.monotonic() - started) * 1000
    answer = await listening
    expect(response.json().get("success") is True, f"{response.status_code} {response.text[:200]}")
    expect(answer.end["status"] == "cancelled", f"the stream ended as {answer.end['status']}")
    return f"{response.json()['status']} after {took:.0f} ms, {answer.end['characters']} characters kept"


async def check_nothing_to_follow(service: Service) -> str:
    """204 without a body arrives, and does not hang"""
    chat = await new_chat(service)
    async with asyncio.timeout(_HANGS_SECONDS):
        response = await service.stream.send("GET", f"/api/chat/{chat}/stream")
    expect(response.status_code == 204, f"{response.status_code} {response.text[:200]}")
    return "204"


async def check_head(service: Service) -> str:
    """HEAD and OPTIONS are answered, and do not hang"""
    async with asyncio.timeout(_HANGS_SECONDS):
        codes = [(await service.stream.send(method, "/health")).status_code for method in ("HEAD", "OPTIONS")]
    expect(all(code < 500 for code in codes), f"{codes}")
    return f"{codes[0]}, {codes[1]}"


async def check_problems(service: Service) -> str:
    """errors are problem documents, and somebody else's chat looks like none"""
    found = []
    for caller, method, path in (
        (service.create, "GET", "/api/chat/create"),
        (service.stream, "POST", f"/api/chat/{uuid.uuid4()}/stream"),
        (service.cancel, "POST", f"/api/chat/{uuid.uuid4()}/cancel"),
    ):
        response = await caller.send(method, path, {"content": "hello"} if "stream" in path else None)
        kind = response.headers.get("content-type", "")
        expect(kind.startswith("application/problem+json"), f"{response.status_code} {kind}")
        found.append(f"{response.status_code} {response.json()['code']}")
    expect(found == ["405 method_not_allowed", "404 chat_not_found", "404 chat_not_found"], ", ".join(found))
    return ", ".join(found)


async def check_hangul(service: Service) -> str:
    """a long question in Hangul and emoji is accepted"""
    chat = await new_chat(service)
    answer = await talk(service, chat, "무지개는 어떻게 생기나요? 🌈 " * 500)
    expect(answer.end["status"] == "completed", f"done says {answer.end}")
    return f"{answer.end['characters']} characters"


CHECKS: tuple[Check, ...] = (
    check_health,
    check_stream,
    check_cancel,
    check_nothing_to_follow,
    check_head,
    check_problems,
    check_hangul,
)


async def run(service: Service, checks: Sequence[Check] = CHECKS, say: Callable[[str], None] = print) -> bool:
    """Run all checks one after another, say what each found, and return whether all held."""
    good = True
    for check in checks:
        try:
            found = await check(service)
        except (Failed, httpx.HTTPError, TimeoutError, ValueError, KeyError, IndexError) as error:
            good = False
            say(f"FAILED  {check.__doc__}: {error or type(error).__name__}")
        else:
            say(f"ok      {check.__doc__}: {found}")
    return good


def addresses(stack: str) -> list[str]:
    """Return the three Function URLs of a stack.

    Raises:
        NoAccess: the stack cannot be read.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        (found,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except (BotoCoreError, ClientError) as error:
        raise NoAccess(f"the stack {stack} cannot be read: {error}") from error
    outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in found["Outputs"]}
    return [outputs[name] for name in ("CreateChatUrl", "StreamChatUrl", "CancelStreamUrl")]


async def try_service(urls: Sequence[str], token: str | None) -> bool:
    """Run all checks as a user and a session of their own."""
    user, session = f"smoke-{uuid.uuid4()}", f"smoke-{uuid.uuid4()}"
    headers = {"X-Session-Id": session, **({"Authorization": f"Bearer {token}"} if token else {"X-User-Id": user})}
    async with httpx.AsyncClient(timeout=httpx.Timeout(60, connect=10), headers=headers) as client:
        callers = [Caller(client, url.rstrip("/"), None if token else signer(url)) for url in urls]
        create, stream, cancel = callers if len(callers) == 3 else callers * 3
        return await run(Service(create, stream, cancel))


def main(arguments: Sequence[str] | None = None) -> None:
    """Try the service that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="*", metavar="URL", help="one address, or those of create, stream and cancel")
    parser.add_argument("--stack", help="a deployed stack, instead of addresses")
    asked = parser.parse_args(arguments)
    if not asked.stack and len(asked.url) not in (1, 3):
        parser.error(
            "give an address (make smoke URL=http://localhost:8000), three (create, stream, cancel), or --stack"
        )
    if wrong := [url for url in asked.url if not url.startswith(("http://", "https://"))]:
        parser.error(f"{wrong[0]} is no address: it has to begin with http:// or https://")
    try:
        urls = addresses(asked.stack) if asked.stack else asked.url
        sys.exit(not asyncio.run(try_service(urls, os.environ.get("CHAT_TOKEN"))))
    except NoAccess as error:
        sys.exit(f"smoke: {error}")


if __name__ == "__main__":
    main()
