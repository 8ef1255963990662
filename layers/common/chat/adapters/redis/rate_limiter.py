"""Per-user limits in Redis: one script takes everything or nothing, and repeating it changes nothing."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from chat.adapters.redis import keys
from chat.adapters.redis.connection import Command, RedisUnavailable, Replies
from chat.adapters.redis.flush_loop import FlushLoop
from chat.adapters.redis.limit_scripts import ADMIT, COUNT, OPEN_STREAM, RENEW, RESERVE, RESTORE, SETTLE
from chat.adapters.redis.servers import CommandClient
from chat.application.ports import AdmissionRequest, StreamRequest
from chat.domain.errors import RateLimited
from chat.settings import LimitSettings

PLACE_SECONDS = 30.0
"""How long a place is kept for a process that is heard of no more."""
RETRY_SECONDS = 5
"""When to come back for the place of a stream."""
MAX_OWED = 1000
OWED_AT_ONCE = 50
"""How much of what is owed goes with one request once Redis has refused some."""

REASONS = {
    "active": "Too many answers are being generated for you at once: wait for one, or cancel one.",
    "minute": "Too many messages within a minute.",
    "tokens": "The number of tokens for today is used up.",
    "chats": "Too many chats within a minute.",
    "cancels": "Too many cancels are waiting for their messages.",
    "reserved": "Answers in progress may use up the tokens for today: wait for one to end.",
    "streams": "Too many streams are open for you at once: close one, or wait for one to end.",
}


class Place(NamedTuple):
    """A member of one of the sorted sets in which places are kept, each until it expires."""

    key: str
    member: str
    is_stream: bool = False


class RedisRateLimiter:
    """Counts attempts, those at one message as one, and open streams, each for itself.

    With Redis down, or out of memory, answers and messages pass, and `on_unavailable` hears of it; open streams are
    then counted in this process alone. What could not be released then goes with the next request; should there be
    none, the place is free when it is no longer renewed, the reservation with the day. A place that Redis has lost, or
    never heard of, is taken again when places are renewed.
    """

    def __init__(
        self,
        client: CommandClient,
        flush_loop: FlushLoop,
        settings: LimitSettings,
        on_unavailable: Callable[[], None] = lambda: None,
        place_seconds: float = PLACE_SECONDS,
    ) -> None:
        self._client, self._flush_loop = client, flush_loop
        self._settings = settings
        self._on_unavailable = on_unavailable
        self._place_seconds = place_seconds
        self._is_on = bool(
            settings.active_answers or settings.messages_per_minute or settings.tokens_per_day or settings.streams
        )
        self._places: dict[Place, bool] = {}
        """Those that are held, and whether Redis may know of them: if not, nothing is owed for them."""
        self._streams: Counter[str] = Counter()
        """How many streams each user, by the key of their places, has open in this process."""
        self._renew_at = 0.0
        """In the event loop's seconds."""
        self._renewing: list[list[Place]] = []
        self._lost: list[Place] = []
        self._reservations: dict[AdmissionRequest, int] = {}
        """Those that are to be replaced with the next flush."""
        self._owed: deque[Command] = deque(maxlen=MAX_OWED)
        self._is_refused = False

    async def acquire(self, attempt: AdmissionRequest, tokens: int) -> None:
        if not self._is_on:
            return
        limits, slot, stream = self._settings, _slot(attempt), _stream(attempt)
        command: Command = (
            "EVAL",
            ADMIT,
            4,
            *_counters(attempt),
            stream.key,
            attempt.message,
            slot.member,
            self._place_seconds,
            tokens,
            limits.active_answers,
            limits.messages_per_minute,
            limits.tokens_per_day,
            stream.member,
            limits.streams,
        )
        await self._take(command, [slot, stream] if limits.streams else [slot])

    def reserve(self, attempt: AdmissionRequest, tokens: int) -> None:
        if self._settings.tokens_per_day and _slot(attempt) in self._places:
            self._reservations[attempt] = tokens

    async def release(self, attempt: AdmissionRequest, tokens: int, has_started: bool) -> None:
        slot = _slot(attempt)
        if slot not in self._places:
            return
        self._reservations.pop(attempt, None)
        if self._drop(slot):
            self._owed.append(("EVAL", SETTLE, 3, *_counters(attempt), slot.member, tokens, int(has_started)))
        await self._pay()

    async def open_stream(self, stream: StreamRequest) -> None:
        limit = self._settings.streams
        if limit:
            place = _stream(stream)
            await self._take(("EVAL", OPEN_STREAM, 1, place.key, place.member, self._place_seconds, limit), [place])

    async def close_stream(self, stream: StreamRequest) -> None:
        place = _stream(stream)
        if place not in self._places:
            return
        if self._drop(place):
            self._owed.append(("ZREM", place.key, place.member))
        await self._pay()

    async def count_chat(self, user_id: str, name: str) -> None:
        if self._settings.chats_per_minute:
            await self._count(keys.limit(user_id, "chats"), name, self._settings.chats_per_minute, "chats")

    async def count_pending_cancel(self, owner: str, name: str) -> None:
        if self._settings.pending_cancels:
            await self._count(keys.limit(owner, "cancels"), name, self._settings.pending_cancels, "cancels")

    async def _count(self, key: str, name: str, most: int, limit: str) -> None:
        try:
            (*_, reply) = await self._run(("EVAL", COUNT, 1, key, name, most, limit))
        except RedisUnavailable:
            self._on_unavailable()
            return
        if isinstance(reply, ResponseError):
            self._on_unavailable()
        elif reply[0]:
            raise RateLimited(REASONS[limit], int(reply[1]), limit)

    def pending_commands(self, now: float) -> Sequence[Command]:
        """Return what renews all places, a few times in their life, restores those lost, and replaces reservations."""
        reservations, self._reservations = self._reservations, {}
        restored = [place for place in self._lost if place in self._places]
        self._lost, self._renewing = [], []
        if now >= self._renew_at:
            self._renew_at = now + self._place_seconds / 3
            of_key: dict[str, list[Place]] = defaultdict(list)
            for place in self._places:
                of_key[place.key].append(place)
            self._renewing = list(of_key.values())
        return [
            *[_renew(RENEW, places, self._place_seconds) for places in self._renewing],
            *[_renew(RESTORE, [place], self._place_seconds) for place in restored],
            *[
                ("EVAL", RESERVE, 1, keys.limit(attempt.user_id, "tokens"), _slot(attempt).member, tokens)
                for attempt, tokens in reservations.items()
            ],
        ]

    def on_replies(self, replies: Sequence[Any]) -> None:
        """Note which places Redis has lost."""
        for places, lost in zip(self._renewing, replies, strict=False):
            if not isinstance(lost, ResponseError):
                self._lost += [places[at] for at in lost]
        for place in self._lost:
            if place in self._places:
                self._places[place] = True

    async def _take(self, command: Command, places: Sequence[Place]) -> None:
        """Ask for `places`; hold them unless they are refused.

        Raises:
            RateLimited: a limit is reached, or Redis is away and this process has too many streams of this user.
        """
        if self._client.is_unavailable:  # nothing is asked, so nothing is owed
            self._hold(places, may_be_known=False)
            await self._pass(places)
            return
        self._hold(places, may_be_known=True)
        try:
            reply = (await self._run(command))[-1]
        except RedisUnavailable:
            await self._pass(places)
            return
        if isinstance(reply, ResponseError):
            await self._pass(places)
        elif reply[0]:
            await self._refuse(places, reply[0].decode(), int(reply[1]))

    async def _pass(self, places: Sequence[Place]) -> None:
        """Let pass what nobody could be asked about, but for streams that are too many in this process alone."""
        self._on_unavailable()
        if any(self._streams[place.key] > self._settings.streams for place in places):
            await self._refuse(places, "streams", RETRY_SECONDS)

    async def _refuse(self, places: Sequence[Place], limit: str, seconds: int) -> None:
        for place in places:
            self._drop(place)
        await self._rest()
        raise RateLimited(REASONS[limit], seconds, limit)

    def _hold(self, places: Sequence[Place], may_be_known: bool) -> None:
        if not self._places:
            self._renew_at = asyncio.get_running_loop().time() + self._place_seconds / 3
        for place in places:
            if place not in self._places and place.is_stream:
                self._streams[place.key] += 1
            self._places[place] = may_be_known
        self._flush_loop.join(self)

    def _drop(self, place: Place) -> bool:
        """Hold a place no longer, and tell whether Redis may know of it."""
        may_be_known = self._places.pop(place)
        if place.is_stream:
            self._streams[place.key] -= 1
            if not self._streams[place.key]:
                del self._streams[place.key]
        if not self._places:
            self._flush_loop.drop(self)
        return may_be_known

    async def _pay(self) -> None:
        with suppress(RedisUnavailable):
            await self._run()
        await self._rest()

    async def _rest(self) -> None:
        if not self._places:
            await self._flush_loop.leave(self)

    async def _run(self, *commands: Command) -> Replies:
        """Send some of what is owed, then `commands`."""
        most = OWED_AT_ONCE if self._is_refused else MAX_OWED
        owed = [self._owed.popleft() for _ in range(min(len(self._owed), most))]
        unpaid = owed
        try:
            replies = await self._client.run(*owed, *commands)
            unpaid = [
                command for command, reply in zip(owed, replies, strict=False) if isinstance(reply, ResponseError)
            ]
            self._is_refused = bool(unpaid)
        finally:
            self._owed.extendleft(reversed(unpaid))
        return replies


def _slot(attempt: AdmissionRequest) -> Place:
    return Place(keys.limit(attempt.user_id, "active"), f"{attempt.message}:{attempt.name}")


def _stream(request: AdmissionRequest | StreamRequest) -> Place:
    return Place(keys.limit(request.user_id, "streams"), request.name, is_stream=True)


def _counters(attempt: AdmissionRequest) -> Sequence[str]:
    return [keys.limit(attempt.user_id, what) for what in ("active", "minute", "tokens")]


def _renew(script: str, places: Sequence[Place], seconds: float) -> Command:
    return ("EVAL", script, 1, places[0].key, seconds, *[place.member for place in places])
