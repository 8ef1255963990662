"""Redis as `EventLog`, `CancelSignals` and `Leases`. Losing any of it loses no answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from redis.exceptions import ResponseError

from chat.adapters.redis import event_log, final_records, keys
from chat.adapters.redis.connection import Command, RedisUnavailable
from chat.adapters.redis.flush_loop import FlushLoop
from chat.adapters.redis.servers import RedisServers
from chat.adapters.redis.subscription import Subscription
from chat.application.ports import ChatPart, LogPage, OwnerStatus
from chat.domain.answer import Answer, to_json
from chat.domain.errors import StorageUnavailable
from chat.domain.model import FinalAnswer

LEASE_SECONDS = 15
LEASE_REFRESH_SECONDS = 5.0
POLL_SECONDS = 0.1
SESSION_REFRESH_SECONDS = 60.0
TRIM_SECONDS = 60.0
REFUSED_SECONDS = 1.0
"""How long nothing is logged after Redis refused it, being out of memory: what it refused is sent once more."""
INTENT_SECONDS = 60
FORGOTTEN_AT_ONCE = 500
"""How many keys one command deletes at most."""
MAX_EVENTS = 1000
"""In one append, while the answer runs: what an outage has heaped up must not keep all streams waiting at once."""

logger = logging.getLogger(__name__)

RELEASE = """
redis.call('DEL', KEYS[1])
if redis.call('HGET', KEYS[2], 'active') == ARGV[1] then redis.call('HDEL', KEYS[2], 'active', 'since') end
return 1
"""
"""Takes the lease back, and the session's entry unless it already names a later answer."""


class RedisCoordination:
    """One for each process: a pipelined connection to each node and one subscription, for all answers and followers."""

    def __init__(
        self,
        servers: RedisServers,
        kept_seconds: int,
        on_unavailable: Callable[[], None] = lambda: None,
        on_counted: Callable[[int], None] = lambda active: None,
    ) -> None:
        self.client = servers.client(on_unavailable)
        self.subscription = Subscription(servers.subscriber)
        self.flush_loop = FlushLoop(self.client)
        self.kept_seconds = kept_seconds
        self.on_counted = on_counted
        self._next_trim = 0.0

    async def close(self) -> None:
        """Close both connections."""
        await self.subscription.close()
        await self.client.close()

    def claim(self, answer: Answer, owner_token: str, user_id: str, on_cancel: Callable[[], None]) -> RedisAnswerLease:
        return RedisAnswerLease(self, answer, owner_token, user_id, on_cancel)

    async def request_cancel(self, chat_id: str, message_id: str, by_session: str) -> None:
        key = keys.cancel(chat_id, message_id)
        note = _note(by_session)
        with _needed():
            kept, _ = await self.client.run(("SET", key, note, "EX", self.kept_seconds), ("PUBLISH", key, note))
            _must_be_kept(kept)

    async def put_pending_cancel(self, chat_id: str, user_message_id: str, by_session: str) -> None:
        key, known = keys.intent(chat_id, user_message_id), keys.intents(chat_id)
        with _needed():
            replies = await self.client.run(
                ("SADD", known, user_message_id),
                ("EXPIRE", known, INTENT_SECONDS),
                ("SET", key, _note(by_session), "EX", INTENT_SECONDS),
            )
            for reply in replies:
                _must_be_kept(reply)

    async def delete_pending_cancel(self, chat_id: str, user_message_id: str) -> None:
        await self._forget(keys.intent(chat_id, user_message_id))

    async def delete_stashed_final(self, chat_id: str, message_id: str) -> None:
        await self._forget(keys.final(chat_id, message_id))

    async def read(self, chat_id: str, message_id: str, after: int) -> LogPage | None:
        with _needed():
            entries, exists = await self.client.run(*event_log.read(chat_id, message_id, after))
            if isinstance(entries, ResponseError) or isinstance(exists, ResponseError):
                raise RedisUnavailable("the log cannot be read")
            return event_log.page(entries, exists, after)

    async def owner_status(self, chat_id: str, message_id: str) -> OwnerStatus | None:
        try:
            lease, parked = await self.client.run(
                ("GET", keys.lease(chat_id, message_id)), ("GET", keys.final(chat_id, message_id))
            )
        except RedisUnavailable:
            return None
        if isinstance(lease, ResponseError) or isinstance(parked, ResponseError):
            return None
        final = final_records.load(parked) if parked else None
        if parked and final is None:
            logger.warning("a stashed final record cannot be read", extra={"messageId": message_id})
        return OwnerStatus(lease is not None, final)

    async def count_active(self) -> int | None:
        try:
            (count,) = await self.client.run(_count_command())
        except RedisUnavailable:
            return None
        return count if isinstance(count, int) else None

    async def forget_messages(self, chat_id: str, part: ChatPart) -> None:
        kinds = (keys.lease, keys.cancel, keys.intent, keys.final, keys.events)
        names = [kind(chat_id, message_id) for message_id in part.message_ids for kind in kinds]
        names += [keys.session(chat_id, session_id) for session_id in part.session_ids]
        with _needed():
            for at in range(0, len(names), FORGOTTEN_AT_ONCE):
                (reply,) = await self.client.run(("UNLINK", *names[at : at + FORGOTTEN_AT_ONCE]))
                _must_be_kept(reply)
            if part.message_ids:
                (reply,) = await self.client.run(("ZREM", keys.ACTIVE, *part.message_ids))
                _must_be_kept(reply)

    async def forget_chat(self, chat_id: str) -> None:
        known = keys.intents(chat_id)
        with _needed():
            (waiting,) = await self.client.run(("SMEMBERS", known))
            _must_be_kept(waiting)
            names = [keys.intent(chat_id, each.decode()) for each in waiting]
            (reply,) = await self.client.run(("UNLINK", known, *names))
            _must_be_kept(reply)

    async def forget_user(self, user_id: str) -> None:
        with _needed():
            (reply,) = await self.client.run(("UNLINK", *keys.limits(user_id)))
            _must_be_kept(reply)

    async def ping(self) -> None:
        with _needed():
            (reply,) = await self.client.run(("PING",))
            _must_be_kept(reply)

    def trim(self, moment: float) -> list[Command]:
        """Return what keeps the list of active answers short and mortal, once a minute of the event loop's clock."""
        if moment < self._next_trim:
            return []
        self._next_trim = moment + TRIM_SECONDS
        return [
            ("ZREMRANGEBYSCORE", keys.ACTIVE, "-inf", time.time() - LEASE_SECONDS),
            ("EXPIRE", keys.ACTIVE, self.kept_seconds),
        ]

    async def _forget(self, key: str) -> None:
        with suppress(RedisUnavailable):  # it expires by itself
            await self.client.run(("DEL", key))


class RedisAnswerLease:
    """The lease of one running answer; takes part in every flush from `register` to `release`."""

    def __init__(
        self,
        coordination: RedisCoordination,
        answer: Answer,
        owner_token: str,
        user_id: str,
        on_cancel: Callable[[], None],
    ) -> None:
        self._coordination = coordination
        self._answer = answer
        self._user_id = user_id
        self._on_cancel = on_cancel
        who = answer.identity
        self._chat_id, self._message_id = who.chat_id, who.message_id
        self._lease = keys.lease(who.chat_id, who.message_id)
        self._cancel = keys.cancel(who.chat_id, who.message_id)
        self._intent: str | None = None
        self._session = keys.session(who.chat_id, who.session_id)
        self._token = owner_token
        self._logged = 0
        self._is_log_begun = False
        self._appending = 0
        self._next_append = self._next_poll = self._next_lease = self._next_session = 0.0
        self._due: list[Callable[[Any], None]] = []
        self._watch = coordination.subscription.watch(self._cancel, on_cancel)

    async def register(self, look_for_pending_cancel: bool) -> bool:
        if look_for_pending_cancel:
            self._intent = keys.intent(self._chat_id, self._answer.identity.user_message_id)
        self._coordination.flush_loop.join(self)
        if self._coordination.client.is_unavailable:
            return False
        await self._watch.acknowledged()
        who, now, moment = self._answer.identity, time.time(), asyncio.get_running_loop().time()
        session = ("user", self._user_id, "active", who.message_id, "since", now, "seen", now)
        try:
            *_, active, waiting = await self._coordination.client.run(
                self._lease_command(),
                ("HSET", self._session, *session),
                ("EXPIRE", self._session, self._coordination.kept_seconds),
                ("ZADD", keys.ACTIVE, now, who.message_id),
                *self._coordination.trim(moment),
                _count_command(),
                self._poll_command(),
            )
        except RedisUnavailable:
            return False
        if isinstance(active, int):
            self._coordination.on_counted(active)
        self._next_poll = moment + POLL_SECONDS
        self._next_lease = moment + LEASE_REFRESH_SECONDS
        self._next_session = moment + SESSION_REFRESH_SECONDS
        return self._is_cancel(waiting)

    def pending_commands(self, now: float) -> Sequence[Command]:
        """Return what this answer asks of the next round trip."""
        commands: list[Command] = []
        self._due = []
        for command, take in self._wanted(now):
            commands.append(command)
            self._due.append(take)
        return commands

    def on_replies(self, replies: Sequence[Any]) -> None:
        """Take the replies."""
        for take, reply in zip(self._due, replies, strict=True):
            take(reply)

    async def release(self) -> None:
        self._coordination.flush_loop.drop(self)
        who = self._answer.identity
        commands = [command for command, _ in self._append_commands(len(self._answer.events))]
        commands.append(("EVAL", RELEASE, 2, self._lease, self._session, who.message_id))
        commands.append(("ZREM", keys.ACTIVE, who.message_id))
        try:
            replies = await self._coordination.client.run(*commands)
            if replies[0] is None:  # the log was lost since the last beat
                self._logged, self._is_log_begun = 0, False
                await self._coordination.client.run(
                    *[command for command, _ in self._append_commands(len(self._answer.events))]
                )
        except RedisUnavailable:
            pass  # followers look at MySQL

    async def discard(self) -> None:
        self._coordination.flush_loop.drop(self)
        who = self._answer.identity
        with suppress(StorageUnavailable):
            part = ChatPart([who.message_id, who.user_message_id], [who.session_id])
            await self._coordination.forget_messages(self._chat_id, part)

    async def stash_final(self, final: FinalAnswer) -> bool:
        key = keys.final(self._chat_id, self._message_id)
        try:
            (kept,) = await self._coordination.client.run(
                ("SET", key, final_records.dump(final), "EX", self._coordination.kept_seconds)
            )
        except RedisUnavailable:
            return False
        return not isinstance(kept, ResponseError)

    async def close(self) -> None:
        # All lead back here: an answer that has ended would wait for the garbage collector.
        self._due, self._on_cancel, self._watch.callback = [], _nothing, _nothing
        try:
            await self._coordination.flush_loop.leave(self)
        finally:  # also if nobody waits for it any more
            await self._coordination.subscription.unwatch(self._cancel)

    def _wanted(self, now: float) -> Iterator[tuple[Command, Callable[[Any], None]]]:
        if now >= self._next_append:
            yield from self._append_commands(MAX_EVENTS)
        if now >= self._next_poll:
            self._next_poll = now + POLL_SECONDS
            yield self._poll_command(), self._heard_poll
        if now >= self._next_lease:
            self._next_lease = now + LEASE_REFRESH_SECONDS
            yield self._lease_command(), _ignore
            yield ("ZADD", keys.ACTIVE, time.time(), self._message_id), _ignore
        if now >= self._next_session:
            self._next_session = now + SESSION_REFRESH_SECONDS
            yield ("HSET", self._session, "seen", time.time()), _ignore
            yield ("EXPIRE", self._session, self._coordination.kept_seconds), _ignore
            for command in self._coordination.trim(now):
                yield command, _ignore

    def _append_commands(self, most: int) -> Iterator[tuple[Command, Callable[[Any], None]]]:
        new = self._answer.events[self._logged : self._logged + most]
        if not new:
            return
        self._appending = self._logged + len(new)
        is_new = not self._is_log_begun
        yield event_log.append(self._chat_id, self._message_id, self._logged + 1, new, is_new), self._heard_append
        if is_new:
            yield ("EXPIRE", keys.events(self._chat_id, self._message_id), self._coordination.kept_seconds), _ignore

    def _heard_append(self, reply: Any) -> None:
        if reply is None:
            self._logged, self._is_log_begun = 0, False
        elif not isinstance(reply, ResponseError) or "equal or smaller" in str(reply):
            # "Equal or smaller" answers an append that had arrived before its reply was lost.
            self._logged, self._is_log_begun = self._appending, True
        else:
            self._next_append = asyncio.get_running_loop().time() + REFUSED_SECONDS

    def _heard_poll(self, reply: Any) -> None:
        if self._is_cancel(reply):
            self._on_cancel()

    def _is_cancel(self, reply: Any) -> bool:
        if isinstance(reply, ResponseError):
            return False
        self._intent = None  # it has been looked at, and concerns only the first answer's start
        return any(value is not None for value in reply)

    def _lease_command(self) -> Command:
        return ("SET", self._lease, self._token, "EX", LEASE_SECONDS)

    def _poll_command(self) -> Command:
        return ("MGET", self._cancel, self._intent) if self._intent else ("MGET", self._cancel)


def _ignore(_: Any) -> None:
    return


def _nothing() -> None:
    return


def _count_command() -> Command:
    return ("ZCOUNT", keys.ACTIVE, time.time() - LEASE_SECONDS, "+inf")


def _note(by_session: str) -> str:
    return to_json({"session": by_session, "at": time.time()})


@contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except RedisUnavailable as error:
        raise StorageUnavailable from error


def _must_be_kept(reply: Any) -> None:
    if isinstance(reply, ResponseError):
        raise RedisUnavailable(f"Redis refused: {type(reply).__name__}") from reply
