"""The clients of the soak: each slot runs one stream after the other, and judges each when it is over."""

from __future__ import annotations

import asyncio
import time
import uuid
from array import array
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from random import Random

from tests.soak.checks import Fault, Record, broken, story
from tests.soak.client import request
from tests.soak.plan import KINDS, Plan, draw
from tests.soak.rows import Rows
from tests.soak.view import View

_STUCK_SECONDS = 120
_ASK_AGAIN_SECONDS = 0.3
_STREAMS_A_CHAT = 5
_STEADY = {"plain", "long", "korean", "reasoning", "watched"}
"""Kinds whose clients read without a break: their gaps are figures."""


@dataclass
class Tally:
    """What all streams came to."""

    running: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    undisturbed: int = 0
    """Streams that no fault could excuse anything."""
    deltas: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    breaks: int = 0
    gaps: array[float] = field(default_factory=lambda: array("d"))
    quiet_gaps: array[float] = field(default_factory=lambda: array("d"))
    """Those of undisturbed streams."""
    broken: list[str] = field(default_factory=list)


class Clients:
    """All slots."""

    def __init__(self, port: int, rows: Rows, seed: int, pace_seconds: float) -> None:
        self.tally = Tally()
        self.faults: list[Fault] = []
        self._port, self._rows, self._seed, self._pace = port, rows, seed, pace_seconds
        self._number = 0

    async def slot(self, index: int, until: float) -> None:
        """Run streams one after the other until that moment; the last may end later."""
        random = Random(f"{self._seed}:{index}")
        chat_id, begun = "", 0
        while time.monotonic() < until:
            if begun % _STREAMS_A_CHAT == 0:
                chat_id = await self._create(f"soak-{index}")
            begun += 1
            self._number += 1
            kind = KINDS[self._number - 1] if self._number <= len(KINDS) else None
            plan = draw(random, self._number, self._pace, kind)
            await self._one(Stream(self._port, plan, f"soak-{index}", chat_id, random))

    async def _create(self, user: str) -> str:
        while True:
            try:
                async with request(self._port, "POST", "/api/chat/create", {"X-User-Id": user}, {}) as response:
                    if response.status == 201:
                        return str((await response.json())["chatId"])
                    why = f"create {response.status}"
            except (OSError, asyncio.IncompleteReadError):
                why = "create without a response"
            self.tally.refusals[why] += 1
            if not any(fault.touches(time.monotonic() - 30, time.monotonic()) for fault in self.faults):
                self.tally.broken.append(f"{why} without a fault")
            await asyncio.sleep(_ASK_AGAIN_SECONDS)

    async def _one(self, stream: Stream) -> None:
        record, tally = stream.record, self.tally
        tally.running += 1
        try:
            async with asyncio.timeout(_STUCK_SECONDS):
                await stream.run()
                record.stored = await stream.settled(self._rows)
        except TimeoutError:
            record.problem = f"stuck for {_STUCK_SECONDS} s"
            record.stored = await self._rows.answers(stream.chat_id, stream.user_message_id)
        finally:
            tally.running -= 1
        record.ended = time.monotonic()
        self._add(record)

    def _add(self, record: Record) -> None:
        tally, plan = self.tally, record.plan
        tally.broken += [f"{what}; {story(record, self.faults)}" for what in broken(record, self.faults)]
        tally.kinds[plan.kind] += 1
        tally.statuses[record.views[0].done["status"] if record.views and record.views[0].done else "none"] += 1
        tally.refusals.update(record.refusals)
        tally.breaks += len(record.breaks)
        is_quiet = not any(fault.touches(record.began, record.ended) for fault in self.faults)
        tally.undisturbed += is_quiet
        for view in record.views:
            tally.deltas += len(view.deltas)
            if plan.kind in _STEADY and not view.lost:
                gaps = [later - before for before, later in zip(view.times, view.times[1:], strict=False)]
                tally.gaps.extend(gaps)
                if is_quiet:
                    tally.quiet_gaps.extend(gaps)


class Stream:
    """One message, from its POST until its answer's end is known."""

    def __init__(self, port: int, plan: Plan, user: str, chat_id: str, random: Random) -> None:
        self.record = Record(plan, time.monotonic(), time.monotonic())
        self.chat_id, self.user_message_id = chat_id, str(uuid.UUID(int=random.getrandbits(128), version=4))
        self._port, self._plan, self._random = port, plan, random
        self._user = {"X-User-Id": user}
        self._path = f"/api/chat/{chat_id}"
        self._progress = asyncio.Condition()

    async def run(self) -> None:
        """Do what the plan's kind is."""
        first = self._view()
        also: list[Awaitable[None]] = []
        kind, at = self._plan.kind, self._plan.at
        if kind.startswith("cancel"):
            also.append(self._cancel(first))
        elif kind == "watched":
            also.append(self._watch(first))
        elif kind == "duplicate":
            also.append(self._send_again())
        leaves = kind in ("leaves", "resumes")
        await asyncio.gather(self._read(first, leave_after=at if leaves else None, is_slow=kind == "slow"), *also)
        if kind == "leaves":
            await self._come_back(first, self._plan.count * self._plan.pace_seconds, from_start=True)
        elif kind == "resumes":
            await self._come_back(first, 1, leave_after=at + 5)
            await self._come_back(first, 1)

    async def settled(self, rows: Rows) -> list[tuple[str, str, str]]:
        """Return what is stored; an end that could not be stored, or a dead process's, is stored by reading it."""
        while True:
            found = await rows.answers(self.chat_id, self.user_message_id)
            active = [message_id for message_id, status, _ in found if status == "streaming"]
            if not active:
                return found
            await self._read(View(active[0]))

    def _view(self) -> View:
        self.record.views.append(View())
        return self.record.views[-1]

    async def _read(self, view: View, leave_after: int | None = None, is_slow: bool = False, device: str = "") -> None:
        """Send, or go on, until `done`, or until the client leaves; connections that break are made anew."""
        while view.done is None:
            method, path, more, body = self._wanted(view)
            headers = self._user | {"X-Session-Id": f"phone{device}"} | more
            try:
                async with request(self._port, method, path, headers, body, is_slow) as response:
                    if response.status == 200:
                        async for event in response.events():
                            view.take(event)
                            async with self._progress:
                                self._progress.notify_all()
                            if leave_after is not None and view.message_id and len(view.deltas) >= leave_after:
                                return
                            if is_slow:
                                await asyncio.sleep(self._plan.pace_seconds * 1.5)
                        if view.done is None:
                            self.record.breaks.append(time.monotonic())
                        view.reconnect()
                    else:
                        self.record.refusals.append(f"{method} {response.status}")
            except (OSError, asyncio.IncompleteReadError):
                self.record.refusals.append(f"{method} without a response")
            if view.done is None:
                await asyncio.sleep(_ASK_AGAIN_SECONDS)

    def _wanted(self, view: View) -> tuple[str, str, dict[str, str], object]:
        if not view.message_id:
            body = {"content": self._plan.content, "userMessageId": self.user_message_id}
            return "POST", f"{self._path}/stream", {}, body
        after = {"Last-Event-ID": view.last_id} if view.last_id else {}
        return "GET", f"{self._path}/stream?messageId={view.message_id}", after, None

    async def _come_back(
        self, view: View, within_seconds: float, leave_after: int | None = None, from_start: bool = False
    ) -> None:
        if view.done is None:
            await asyncio.sleep(self._random.random() * within_seconds)
            view.reconnect()
            if from_start:
                view.last_id = ""
            await self._read(view, leave_after)

    async def _reached(self, view: View) -> None:
        async with self._progress:
            await self._progress.wait_for(
                lambda: (view.message_id and len(view.deltas) >= self._plan.at) or view.done is not None
            )

    async def _watch(self, first: View) -> None:
        await self._reached(first)
        second = self._view()
        # The watcher knows only the id; its view begins with `start` as any other.
        second.message_id, second.user_message_id = first.message_id, first.user_message_id
        second.reconnect()
        await self._read(second, device="-other")

    async def _send_again(self) -> None:
        await asyncio.sleep(self._random.random() * 0.5)
        await self._read(self._view())

    async def _cancel(self, view: View) -> None:
        kind = self._plan.kind
        if kind == "cancel_user_message" and self._plan.at % 2:
            await asyncio.sleep(self._random.random() * 0.2)  # perhaps before the stream has arrived
        else:
            await self._reached(view)
        wanted = {"cancel_message": {"messageId": view.message_id}}
        wanted["cancel_user_message"] = {"userMessageId": self.user_message_id}
        headers = self._user | {"X-Session-Id": "phone"}
        while True:
            try:
                async with request(self._port, "POST", f"{self._path}/cancel", headers, wanted.get(kind)) as response:
                    if response.status == 200:
                        self.record.cancel = (await response.json())["status"]
                        return
                    self.record.refusals.append(f"cancel {response.status}")
            except (OSError, asyncio.IncompleteReadError):
                self.record.refusals.append("cancel without a response")
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
