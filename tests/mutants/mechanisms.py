"""The mechanisms behind the guarantees, and how each is taken out.

`tests/unit/test_mutants.py` holds the list to the code and to docs/guarantees.md.
"""

from __future__ import annotations

from dataclasses import dataclass

CHAT = "layers/common/chat"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mechanism, and the edit that takes it out."""

    mechanism: str
    test: str
    """Fails without it."""
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "cancel: the subscription's acknowledgement is awaited before the key is read",
        "tests/invariants/test_cancel_schedules.py::test_a_cancel_between_subscribing_and_its_acknowledgement_is_found_before_the_ai_is_called",
        f"{CHAT}/adapters/redis/coordination.py",
        "        await self._watch.acknowledged()\n        who, now",
        "        who, now",
    ),
    Mutant(
        "cancel: the key is polled",
        "tests/integration/test_coordination_contract.py::TestRealServer::test_a_lost_message_is_made_up_for_by_the_poll",
        f"{CHAT}/adapters/redis/coordination.py",
        "        if now >= self._next_poll:\n",
        "        if False:\n",
    ),
    Mutant(
        "cancel: a message is listened to",
        "tests/integration/test_coordination_contract.py::TestRealServer::test_a_message_is_heard_without_the_key",
        f"{CHAT}/adapters/redis/subscription.py",
        '        elif kind == b"message":\n',
        '        elif kind == b"never":\n',
    ),
    Mutant(
        "cancel: the key is set as well as the message published",
        "tests/invariants/test_cancel_schedules.py::test_no_cancel_is_lost_in_any_schedule",
        f"{CHAT}/adapters/redis/coordination.py",
        '("SET", key, note, "EX", self.kept_seconds), ("PUBLISH", key, note)',
        '("PING",), ("PUBLISH", key, note)',
    ),
    Mutant(
        "cancel: an intent is read when the message arrives",
        "tests/integration/test_coordination_contract.py::test_an_intent_is_found_by_the_first_answer_only",
        f"{CHAT}/adapters/redis/coordination.py",
        '("MGET", self._cancel, self._intent) if self._intent',
        '("MGET", self._cancel) if self._intent',
    ),
    Mutant(
        "cancel: MySQL is looked at again once the intent is left",
        "tests/unit/test_cancel.py::test_a_message_that_arrives_between_the_look_and_the_intent_is_cancelled",
        f"{CHAT}/application/cancel_answer.py",
        "        answer = await self.chats.find_answer_to(chat_id, target.user_message_id)\n",
        "        answer = None\n",
    ),
    Mutant(
        "cancel: an intent concerns the message's first answer only",
        "tests/unit/test_cancel.py::test_an_intent_that_the_first_answer_never_read_does_not_reach_its_retry",
        f"{CHAT}/application/run_answer.py",
        "self._lease.register(self._started.is_first)",
        "self._lease.register(True)",
    ),
    Mutant(
        "cancel: heard twice, it is done once",
        "tests/unit/test_stream.py::test_cancelled_again_while_the_ai_is_being_closed_it_raises_nothing_at_whoever_tells",
        f"{CHAT}/application/stop_signal.py",
        "if self._scope is not None and not self._scope.expired():",
        "if self._scope is not None:",
    ),
    Mutant(
        "cancel: key and channel carry the answer's id",
        "tests/invariants/test_wrong_cancels.py::test_of_fifty_answers_cancels_stop_those_they_name_and_no_other",
        f"{CHAT}/adapters/redis/keys.py",
        'return f"chat:{{{chat_id}}}:cancel:{message_id}"',
        'return f"chat:{{{chat_id}}}:cancel"',
    ),
    Mutant(
        "end: the UPDATE demands an answer that is still streaming",
        "tests/integration/test_chats_contract.py::TestFinish::test_it_happens_once",
        f"{CHAT}/adapters/mysql/statements.py",
        "messages.c.status == Status.STREAMING, ",
        "",
    ),
    Mutant(
        "end: the UPDATE demands the owner's token",
        "tests/integration/test_chats_contract.py::TestFinish::test_nobody_but_the_owner_can",
        f"{CHAT}/adapters/mysql/statements.py",
        ', messages.c.owner_token == bindparam("b_token")',
        "",
    ),
    Mutant(
        "end: stored before `done` is delivered",
        "tests/unit/test_stream.py::test_it_is_stored_before_done_is_delivered",
        f"{CHAT}/application/run_answer.py",
        "        result = await self._final_store.store(final)\n",
        "        from chat.application.final_store import StoreResult\n"
        "        result, store = StoreResult(is_saved=True), self._final_store.store\n"
        "        asyncio.get_running_loop().call_later(0.2, lambda: asyncio.ensure_future(store(final)))\n",
    ),
    Mutant(
        "end: tried again while MySQL is away",
        "tests/unit/test_stream.py::TestMySqlAwayAtTheEnd::test_it_is_retried_parked_and_honest",
        f"{CHAT}/application/final_store.py",
        "                elif loop.time() + RETRY_SECONDS >= until:\n",
        "                elif True:\n",
    ),
    Mutant(
        "end: parked in Redis when MySQL stays away",
        "tests/unit/test_stream.py::TestMySqlAwayAtTheEnd::test_the_next_stream_stores_it",
        f"{CHAT}/application/final_store.py",
        "        is_stashed = await self._lease.stash_final(final)\n",
        "        is_stashed = False\n",
    ),
    Mutant(
        "end: a commit whose reply was lost is recognised",
        "tests/unit/test_stream.py::TestLostOwnership::test_a_commit_whose_reply_was_lost_is_recognised",
        f"{CHAT}/application/final_store.py",
        "stored_by_other=None if is_the_same else stored",
        "stored_by_other=stored",
    ),
    Mutant(
        "death: a checkpoint is written every few seconds",
        "tests/unit/test_stream.py::test_checkpoints_hold_the_partial_text",
        f"{CHAT}/application/checkpoints.py",
        "is_ours = await deps.chats.checkpoint(self._answer, self._owner_token, deps.now())",
        "is_ours = True",
    ),
    Mutant(
        "death: the log is written",
        "tests/integration/test_coordination_contract.py::test_the_log_holds_every_event_and_then_the_end",
        f"{CHAT}/adapters/redis/coordination.py",
        "        new = self._answer.events[self._logged : self._logged + most]\n",
        "        new = self._answer.events[self._logged : 0]\n",
    ),
    Mutant(
        "death: whoever reaps takes the longest text known",
        "tests/unit/test_stream.py::TestReap::test_the_longest_text_known_is_kept",
        f"{CHAT}/application/recover_orphans.py",
        "        text = max(stored.text, logged.text, key=len)\n",
        "        text = stored.text\n",
    ),
    Mutant(
        "death: the first clock, no lease in Redis",
        "tests/unit/test_stream.py::TestReap::test_dead_is_who_is_dead_by_both_clocks",
        f"{CHAT}/application/recover_orphans.py",
        "        if owner is not None and owner.is_alive:\n",
        "        if False:\n",
    ),
    Mutant(
        "death: the second clock, no sign of life in MySQL",
        "tests/unit/test_stream.py::TestReap::test_dead_is_who_is_dead_by_both_clocks",
        f"{CHAT}/application/recover_orphans.py",
        "now - stored.owner_seen_at > timeout or now > stored.deadline_at + CLOCK_TOLERANCE",
        "owner is not None or now > stored.deadline_at + CLOCK_TOLERANCE",
    ),
    Mutant(
        "death: longer patience while Redis cannot be asked",
        "tests/unit/test_stream.py::TestReap::test_dead_is_who_is_dead_by_both_clocks",
        f"{CHAT}/application/recover_orphans.py",
        "OWNER_TIMEOUT if owner is not None else OWNER_TIMEOUT_UNCONFIRMED",
        "OWNER_TIMEOUT",
    ),
    Mutant(
        "death: the reaper's UPDATE compares the sign of life it judged by",
        "tests/unit/test_stream.py::TestReap::test_an_owner_that_gave_a_sign_of_life_meanwhile_is_not_reaped",
        f"{CHAT}/application/recover_orphans.py",
        "final, if_seen_at=stored.owner_seen_at\n",
        "final\n",
    ),
    Mutant(
        "death: an owner that lost its answer stops",
        "tests/unit/test_stream.py::TestLostOwnership::test_an_owner_whose_answer_was_reaped_starts_afresh_with_what_is_stored",
        f"{CHAT}/application/checkpoints.py",
        "                self._on_lost()\n                return\n",
        "                return\n",
    ),
    Mutant(
        "send: a message that is known is not stored again",
        "tests/integration/test_chats_contract.py::TestRepeat::test_sent_twenty_times_at_once_it_is_one_answer",
        f"{CHAT}/adapters/mysql/opening.py",
        "    if standing.told_id is not None and not Status(standing.told_status).retryable:\n",
        "    if False:\n",
    ),
    Mutant(
        "send: one active answer for each session",
        "tests/integration/test_chats_contract.py::TestOpen::test_of_two_sends_at_once_in_one_session_one_is_busy",
        f"{CHAT}/adapters/mysql/opening.py",
        "    if standing.active_id is not None:\n",
        "    if False:\n",
    ),
    Mutant(
        "send: somebody else's chat is not found",
        "tests/integration/test_chats_contract.py::TestOpen::test_someone_elses_chat_is_not_found_and_stays_as_it_is",
        f"{CHAT}/adapters/mysql/statements.py",
        "chats.c.user_id == _USER, chats.c.deleted_at",
        "chats.c.deleted_at",
    ),
    Mutant(
        "AI: what has no finish reason is not completed",
        "tests/integration/test_ai_client.py::test_a_failure_has_its_code_keeps_what_came_and_is_not_sent_twice",
        f"{CHAT}/adapters/llm/chunks.py",
        "return None if self.is_finished else FailureCode.AI_INCOMPLETE",
        "return None",
    ),
    Mutant(
        "AI: the deadline ends a silent answer",
        "tests/unit/test_stream.py::test_the_deadline_ends_a_silent_answer_in_time",
        f"{CHAT}/application/stop_signal.py",
        "asyncio.timeout_at(stops_at) as self._scope",
        "asyncio.timeout(None) as self._scope",
    ),
    Mutant(
        "AI: keep-alives are no words",
        "tests/integration/test_ai_client.py::test_silence_ends_and_keep_alives_do_not_break_it",
        f"{CHAT}/adapters/llm/client.py",
        "if decoder.is_done or decoder.is_finished > was_finished or any(map(_is_sign_of_life, parts)):\n",
        "if True:\n",
    ),
    Mutant(
        "resume: a lost log is written again from its beginning",
        "tests/integration/test_coordination_contract.py::TestRealServer::test_a_lost_log_is_written_again_from_its_beginning",
        f"{CHAT}/adapters/redis/coordination.py",
        "        if reply is None:\n            self._logged, self._is_log_begun = 0, False\n        elif",
        "        if",
    ),
    Mutant(
        "resume: with the log gone a watcher gets the checkpoints",
        "tests/unit/test_follow.py::test_with_redis_away_a_watcher_gets_the_checkpoints_and_the_end",
        f"{CHAT}/application/follow_answer.py",
        "            await self._follow_rows()\n",
        "            return\n",
    ),
    Mutant(
        "limits: a place is given back",
        "tests/integration/test_limits.py::test_a_place_given_back_is_free_again",
        f"{CHAT}/adapters/redis/limit_scripts.py",
        "redis.call('ZREM', KEYS[1], ARGV[1])\n",
        "",
    ),
    Mutant(
        "limits: a message has one place, however often it is sent",
        "tests/integration/test_limits.py::test_attempts_at_one_message_take_one_place_and_count_once",
        f"{CHAT}/adapters/redis/limit_scripts.py",
        "if not active[message] then",
        "if true then",
    ),
    Mutant(
        "limits: each attempt counts for itself",
        "tests/integration/test_limits.py::test_an_attempt_counts_that_starts_an_answer_beside_one_that_does_not",
        f"{CHAT}/adapters/redis/limit_scripts.py",
        "if minute_limit > 0 then\n  redis.call('ZADD'",
        "if minute_limit > 0 and not active[message] then\n  redis.call('ZADD'",
    ),
    Mutant(
        "limits: what could not be given back is when Redis is back",
        "tests/integration/test_limits.py::test_what_could_not_be_given_back_is_when_redis_is_back",
        f"{CHAT}/adapters/redis/rate_limiter.py",
        "            self._owed.extendleft(reversed(unpaid))\n",
        "            pass\n",
    ),
    Mutant(
        "limits: places of the living are kept",
        "tests/integration/test_limits.py::test_places_of_the_living_do_not",
        f"{CHAT}/adapters/redis/rate_limiter.py",
        "if now >= self._renew_at:",
        "if now < 0:",
    ),
    Mutant(
        "limits: an attempt gives back nothing of another",
        "tests/integration/test_limits.py::test_an_attempt_gives_back_nothing_of_another",
        f"{CHAT}/adapters/redis/rate_limiter.py",
        'f"{attempt.message}:{attempt.name}")',
        'f"{attempt.message}:")',
    ),
    Mutant(
        "limits: open streams are counted",
        "tests/integration/test_stream_places.py::test_a_place_given_back_is_free_again",
        f"{CHAT}/adapters/redis/limit_scripts.py",
        "redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3])",
        "false",
    ),
    Mutant(
        "limits: a stream's place is given back when its client goes",
        "tests/unit/test_web_events.py::test_a_stream_is_closed_when_its_client_has_gone",
        f"{CHAT}/http/event_stream.py",
        "            await self._stream.close()\n",
        "            pass\n",
    ),
    Mutant(
        "limits: with Redis away a process bounds its streams itself",
        "tests/integration/test_stream_places.py::test_with_redis_away_a_process_bounds_them_itself",
        f"{CHAT}/adapters/redis/rate_limiter.py",
        "if any(self._streams[place.key] > self._settings.streams for place in places):",
        "if False:",
    ),
    Mutant(
        "limits: places that Redis lost are taken again",
        "tests/integration/test_stream_places.py::test_streams_that_redis_forgot_are_counted_again",
        f"{CHAT}/adapters/redis/rate_limiter.py",
        "restored = [place for place in self._lost if place in self._places]",
        "restored: list[Place] = []",
    ),
    Mutant(
        "limits: new chats and waiting cancels are counted",
        "tests/integration/test_stream_places.py"
        "::test_of_a_hundred_new_chats_at_once_as_many_are_made_as_a_minute_allows",
        f"{CHAT}/adapters/redis/limit_scripts.py",
        "redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2])",
        "false",
    ),
    Mutant(
        "limits: what an answer may use is reserved, its context included",
        "tests/integration/test_limits.py::test_ten_sends_at_once_use_no_more_than_the_limit_and_one_answer",
        f"{CHAT}/application/deps.py",
        "max(self.context_tokens, estimate_input",
        "max(0, estimate_input",
    ),
    Mutant(
        "places: locally /health does not wait behind streams",
        "tests/e2e/test_one_account.py::test_health_and_cancels_do_not_wait_behind_streams_that_wait_for_a_place",
        "local/plan.py",
        '("/api/chat/create", "/health"),',
        '("/api/chat/create",),',
    ),
    Mutant(
        "memory: a message on the subscription is bounded",
        "tests/e2e/test_client_floods.py::test_a_subscription_that_a_stranger_floods_costs_no_memory_and_cancels_work",
        f"{CHAT}/adapters/redis/connection.py",
        "if self._received > self.max_reply_bytes + self._read_size:",
        "if False:",
    ),
    Mutant(
        "resume: text from MySQL outdates the ids of the log",
        "tests/unit/test_follow.py::test_who_was_cut_while_redis_was_away_gets_no_text_twice_when_it_is_back",
        f"{CHAT}/application/follow_answer.py",
        "        self._deliver([restart(self._stored)], True)\n        while",
        "        self._deliver([restart(self._stored)], False)\n        while",
    ),
    Mutant(
        "neighbours: one that fails in the beat harms no other",
        "tests/unit/test_redis_flush_loop.py::test_one_that_fails_harms_no_other_and_is_told_of_in_the_log",
        f"{CHAT}/adapters/redis/flush_loop.py",
        "                member.on_replies(replies)\n        except Exception:\n",
        "                member.on_replies(replies)\n        except ZeroDivisionError:\n",
    ),
    Mutant(
        "neighbours: a client that does not read is given up",
        "tests/unit/test_sse_writer.py::test_a_client_that_reads_nothing_is_given_up",
        f"{CHAT}/http/sse_writer.py",
        "        elif self._is_sending:\n            self._scope.reschedule(self._ends_at)\n",
        "        elif self._is_sending:\n            pass\n",
    ),
    Mutant(
        "outage: one round trip to Redis is bounded",
        "tests/invariants/test_redis_outages.py::TestFrozen::test_an_outage_from_mid_answer_to_its_end_costs_bounded_waits",
        f"{CHAT}/adapters/redis/pipelined_client.py",
        "TRIP_SECONDS = 0.5\n",
        "TRIP_SECONDS = 20.0\n",
    ),
    Mutant(
        "outage: a process that stood still does not blame Redis",
        "tests/unit/test_redis_pipelined_client.py::test_a_process_that_stood_still_does_not_blame_the_server",
        f"{CHAT}/adapters/redis/pipelined_client.py",
        "LOOKS = 5\n",
        "LOOKS = 1\n",
    ),
    Mutant(
        "outage: after a failure Redis is left in peace for a second",
        "tests/invariants/test_redis_outages.py::TestFrozen::test_a_stopped_server_that_goes_on_has_the_whole_log_again",
        f"{CHAT}/adapters/redis/pipelined_client.py",
        "        return time.monotonic() < self._unavailable_until\n",
        "        return False\n",
    ),
    Mutant(
        "outage: a cancel that Redis refused says so",
        "tests/invariants/test_redis_outages.py::TestForgetful::test_out_of_memory_no_cancel_is_pretended",
        f"{CHAT}/adapters/redis/coordination.py",
        '        raise RedisUnavailable(f"Redis refused: {type(reply).__name__}") from reply\n',
        "        return\n",
    ),
    Mutant(
        "outage: the message is stored before the AI is called",
        "tests/invariants/test_mysql_outages.py::test_away_at_the_start_is_503_and_no_ai_call",
        f"{CHAT}/application/start_answer.py",
        "        started: Started | AlreadyAnswered | SessionBusy | None = None\n",
        "        await anext(aiter(deps.ai.answer([], 9)), None)\n"
        "        started: Started | AlreadyAnswered | SessionBusy | None = None\n",
    ),
    Mutant(
        "outage: a missed checkpoint is not the end of checkpoints",
        "tests/invariants/test_mysql_outages.py::test_away_only_in_mid_answer_costs_checkpoints_and_nothing_else",
        f"{CHAT}/application/checkpoints.py",
        "self._answer.identity.message_id))\n                continue\n",
        "self._answer.identity.message_id))\n                return\n",
    ),
    Mutant(
        "client: an answer goes on without it",
        "tests/invariants/test_clients_gone.py::test_gone_at_each_chunk_the_whole_answer_is_stored_and_no_connection_left",
        f"{CHAT}/http/event_stream.py",
        "            if self._must_finish:\n                await asyncio.wait([work])\n",
        "            if False:\n                await asyncio.wait([work])\n",
    ),
    Mutant(
        "snapshot: what was connected is left before it is taken",
        "tests/e2e/test_snapshot.py::test_copies_of_one_snapshot_share_no_id_token_lease_or_pseudonym_and_no_connection",
        "packages/lambda-stream/src/lambda_stream/_snapshot.py",
        "        await lifespan.shutdown(api.timeouts.shutdown)\n",
        "",
    ),
    Mutant(
        "snapshot: settings and secrets are read anew after a restore",
        "tests/e2e/test_snapshot.py::test_a_restored_copy_has_read_its_secrets_anew",
        f"{CHAT}/http/rebuilt.py",
        "            try:\n                self.rebuild()\n",
        "            try:\n                pass\n",
    ),
)
