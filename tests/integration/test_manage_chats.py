"""The chats themselves, through the applications on real stores and a real AI's wire."""

import asyncio
from urllib.parse import quote

import httpx
import pytest
from redis import Redis
from sqlalchemy import select

from chat.adapters.mysql.engine import open_engine
from chat.adapters.mysql.tables import metadata
from chat.domain.model import new_id
from chat.settings import Secret
from tests.integration.test_contract import ID, Functions, events, problem
from tests.kit.ai_server import DONE, AIServer, Call, Gate, chunk, event, finish, say, status, text
from tests.kit.log_lines import metrics, of, parse
from tests.kit.waiting import until

OTHER = {"X-User-Id": "somebody-else"}


@pytest.fixture
async def ai():
    async with AIServer() as server:
        yield server


class Library(Functions):
    """The functions, with a user of the test's own: on MySQL the tests share a database."""

    def __init__(self, environ, ai) -> None:
        super().__init__(environ, ai)
        self.user = {"X-User-Id": new_id()}
        self.device = {**self.user, "X-Session-Id": "phone"}

    async def get(self, path: str, headers=None, **query) -> httpx.Response:
        return await self.ask("manage", "GET", path, headers=headers or self.user, params=query)

    async def change(self, chat_id: str, headers=None, **body) -> httpx.Response:
        more = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        return await self.ask("manage", "PATCH", f"/api/chat/{chat_id}", headers={**self.user, **more}, json=body)

    async def delete(self, path: str, headers=None) -> httpx.Response:
        return await self.ask("manage", "DELETE", path, headers=headers or self.user)

    async def say(self, chat_id: str, content: str, **body) -> dict:
        """Send a message, receive the answer, and return both ids and the end."""
        response = await self.stream(chat_id, {"content": content, **body}, self.device)
        told = events(response)
        return {**told[0][2], **told[-1][2]}

    async def chat(self, *contents: str) -> str:
        chat_id = await self.new_chat(self.user)
        for content in contents:
            await self.say(chat_id, content)
        return chat_id

    async def messages(self, chat_id: str, **query) -> dict:
        response = await self.get(f"/api/chat/{chat_id}/messages", **query)
        assert response.status_code == 200, response.text
        return response.json()

    async def listed(self, **query) -> list[dict]:
        response = await self.get("/api/chats", **query)
        assert response.status_code == 200, response.text
        return response.json()["chats"]


@pytest.fixture
async def library(ai, embedded_redis, database_url):
    environ = {
        "REDIS_URL": embedded_redis,
        "MYSQL_URL": database_url,
        "OPENAI_BASE_URL": ai.url,
        "CHAT_MODELS": "small,large",
        "CHAT_MAX_ACTIVE_ANSWERS_PER_USER": "0",
        "CHAT_MESSAGES_PER_MINUTE": "0",
        "CHAT_CHATS_PER_MINUTE": "0",
    }
    async with Library(environ, ai) as library:
        yield library


def details(cached: int, reasoning: int):
    """Answer with a word, and tell what of the tokens was cached and thought."""

    async def script(call: Call) -> None:
        await call.start()
        used = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": cached}}
        used["completion_tokens_details"] = {"reasoning_tokens": reasoning}
        await call.send(text("word") + finish() + event(chunk(choices=[], usage=used)) + DONE)
        await call.end()

    return script


async def test_tokens_that_were_cached_or_thought_are_told_and_stored(library, ai):
    ai.script(details(8, 3))
    chat_id = await library.new_chat(library.user)
    usage = (await library.say(chat_id, "one"))["usage"]
    assert usage == {"inputTokens": 9, "outputTokens": 5, "estimated": False, "cachedTokens": 8, "reasoningTokens": 3}
    (_, answer) = (await library.messages(chat_id))["messages"]
    assert answer["usage"] == usage


async def test_the_ai_is_asked_with_the_same_beginning_until_the_window_is_full(embedded_redis, database_url, ai):
    """A provider's prompt cache hits only what begins like the request before."""
    environ = {"REDIS_URL": embedded_redis, "MYSQL_URL": database_url, "OPENAI_BASE_URL": ai.url}
    limits = {"CHAT_MESSAGES_PER_MINUTE": "0", "CHAT_CONTEXT_TOKENS": "400"}
    async with Library(environ | limits, ai) as library:
        await library.chat(*(f"question {number} {'word ' * 10}" for number in range(40)))
    asked = [call.json["messages"] for call in ai.calls]
    moves = [number for number in range(1, 40) if asked[number][0] != asked[number - 1][0]]
    assert 2 <= len(moves) <= 40 / 4
    assert all(len(asked[number]) < len(asked[number - 1]) for number in moves)


class TestList:
    async def test_the_newest_activity_comes_first(self, library):
        first, second = await library.chat("one"), await library.chat("two")
        await library.say(first, "three")
        found = await library.listed()
        assert [chat["chatId"] for chat in found] == [first, second]
        assert set(found[0]) == {
            *("chatId", "title", "model", "createdAt", "updatedAt", "activeMessageIds", "preview"),
        }
        assert (found[0]["title"], found[0]["preview"], found[0]["activeMessageIds"]) == ("one", "Hello world", [])

    async def test_pages_join_to_the_whole_list_also_while_chats_move(self, library):
        chats = [await library.chat() for _ in range(7)]
        page = (await library.get("/api/chats", limit=3)).json()
        await library.say(chats[0], "moved to the front")
        rest = (await library.get("/api/chats", limit=3, cursor=page["nextCursor"])).json()
        assert [chat["chatId"] for one in (page, rest) for chat in one["chats"]] == chats[:0:-1]
        assert rest["nextCursor"] is None

    async def test_a_cursor_is_good_for_its_list_only(self, library):
        for _ in range(3):
            await library.chat()
        cursor = (await library.get("/api/chats", limit=1)).json()["nextCursor"]
        another = ("B" if cursor[0] == "A" else "A") + cursor[1:]
        for bad in (cursor[:-1], cursor + "A", another, "x", "=", cursor.swapcase()):
            problem(await library.get("/api/chats", cursor=bad), 400, "invalid_request")
        problem(await library.get("/api/chats", headers=OTHER, cursor=cursor), 400, "invalid_request")
        problem(await library.get("/api/chats", cursor=cursor, q="words"), 400, "invalid_request")

    async def test_nobody_sees_the_chats_of_others(self, library):
        await library.chat("secret")
        response = await library.get("/api/chats", headers={"X-User-Id": new_id()})
        assert response.json() == {"chats": [], "nextCursor": None}

    async def test_a_preview_is_cut_between_characters(self, library, ai):
        ai.script(say("가" * 119 + "👩‍👩‍👧‍👦" + "나"))
        await library.chat("one")
        assert (await library.listed())[0]["preview"] == "가" * 119

    @pytest.mark.parametrize(
        ("name", "value"), [("limit", "0"), ("limit", "101"), ("limit", "x"), ("q", "x"), ("q", " y ")]
    )
    async def test_a_bad_query_is_refused_by_name(self, library, name, value):
        assert name in problem(await library.get("/api/chats", **{name: value}), 400, "invalid_request")["detail"]

    async def test_head_is_answered_like_get_without_a_body(self, library):
        response = await library.ask("manage", "HEAD", "/api/chats", headers=library.user)
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


class TestSearch:
    async def test_words_are_found_in_titles_and_messages_in_any_language(self, library, ai):
        ai.script(say("스트리밍 응답은 서버에서 보냅니다"), say("Lambda streams domains and data"))
        korean, english = await library.chat("서버리스가 뭐야?"), await library.chat("What is it?")
        named = await library.chat()
        await library.change(named, title="여행 계획 2026")
        for query, expected in {
            "스트리밍": [korean],
            "트리": [korean],
            "서버 응답": [korean],
            "서버리스": [korean],
            "LAMBDA": [english],
            "domain data": [english],
            "main": [english],
            "여행": [named],
            "계획 2026": [named],
            "lambda 스트리밍": [],
            "nothing of it": [],
        }.items():
            found = await library.listed(q=query)
            assert [chat["chatId"] for chat in found] == expected, query
            assert all(chat["snippet"] for chat in found)

    async def test_a_snippet_shows_where_the_words_are(self, library, ai):
        ai.script(say("a " * 200 + "needle" + " b" * 200))
        await library.chat("one")
        snippet = (await library.listed(q="needle"))[0]["snippet"]
        assert "needle" in snippet
        assert len(snippet) < 200

    async def test_what_means_something_to_a_pattern_or_a_query_is_searched_as_it_is(self, library, ai):
        ai.script(say('100% of "it" (really) + more_less -x @y ~z < > * \\'))
        chat_id = await library.chat("one")
        for query in ("100%", "(really)", "more_less"):
            assert [chat["chatId"] for chat in await library.listed(q=query)] == [chat_id], query
        for query in ("100_", "more%less", "lessmore"):
            assert await library.listed(q=query) == [], query
        for query in ('""', '"it', "+-", "*" * 5, "\\\\", "@@", "((", "%%", "~~", "<>", "-x @y", "\x00\x01"):
            assert (await library.get("/api/chats", q=query)).status_code == 200, query

    async def test_a_renamed_chat_is_no_longer_found_by_its_old_name(self, library):
        chat_id = await library.chat()
        await library.change(chat_id, title="before")
        await library.change(chat_id, title="after")
        assert await library.listed(q="before") == []
        assert len(await library.listed(q="after")) == 1

    async def test_nobody_finds_the_texts_of_others(self, library):
        await library.chat("a secret word")
        assert (await library.get("/api/chats", headers={"X-User-Id": new_id()}, q="secret")).json()["chats"] == []


class TestRead:
    async def test_a_chat_is_told_with_all_that_was_chosen_for_it(self, library):
        response = await library.create(library.user, json={"title": "Mine", "systemPrompt": "Be brief."})
        chat_id = response.json()["chatId"]
        chat = (await library.get(f"/api/chat/{chat_id}")).json()
        assert chat == {
            "chatId": chat_id,
            "title": "Mine",
            "systemPrompt": "Be brief.",
            "model": None,
            "createdAt": response.json()["createdAt"],
            "updatedAt": response.json()["createdAt"],
            "activeMessageIds": [],
        }

    async def test_what_belongs_to_somebody_else_looks_like_what_is_unknown(self, library):
        chat_id = await library.chat("one")
        paths = ["", "/messages", f"/messages/{ID}/feedback"]
        for method, path in [
            ("GET", paths[0]),
            ("GET", paths[1]),
            ("PATCH", ""),
            ("DELETE", ""),
            ("PUT", paths[2]),
            ("DELETE", paths[2]),
        ]:
            body = {"PATCH": {"title": "x"}, "PUT": {"rating": "up"}}.get(method)
            told = []
            for one in (chat_id, new_id()):
                response = await library.ask("manage", method, f"/api/chat/{one}{path}", headers=OTHER, json=body)
                document = problem(response, 404, "chat_not_found")
                document.pop("requestId")
                told.append(document)
            assert told[0] == told[1]

    async def test_a_running_answer_is_named_and_shown_as_far_as_it_is_stored(self, library, ai):
        gate = Gate()
        ai.script(say("Hello", " world", gate=gate))
        chat_id = await library.new_chat(library.user)
        sending = asyncio.create_task(library.say(chat_id, "one"))
        await ai.called()
        chat = (await library.get(f"/api/chat/{chat_id}")).json()
        question, answer = (await library.messages(chat_id))["messages"]
        assert chat["activeMessageIds"] == [answer["messageId"]]
        assert (await library.listed())[0]["activeMessageIds"] == [answer["messageId"]]
        assert (question["content"], answer["status"], answer["finishedAt"]) == ("one", "streaming", None)
        await gate.open()
        await sending


class TestMessages:
    async def test_messages_are_told_oldest_first_with_all_that_is_known(self, library, ai):
        chat_id = await library.chat("one")
        question, answer = (await library.messages(chat_id))["messages"]
        assert question == {
            "userMessageId": question["userMessageId"],
            "role": "user",
            "parentId": None,
            "content": "one",
            "reasoning": None,
            "sources": [],
            "status": "completed",
            "finishReason": None,
            "failure": None,
            "model": None,
            "usage": None,
            "createdAt": question["createdAt"],
            "finishedAt": None,
            "feedback": None,
        }
        assert answer == {
            "messageId": answer["messageId"],
            "role": "assistant",
            "parentId": question["userMessageId"],
            "content": "Hello world",
            "reasoning": None,
            "sources": [],
            "status": "completed",
            "finishReason": "stop",
            "failure": None,
            "model": "small",
            "usage": {"inputTokens": 3, "outputTokens": 2, "estimated": False},
            "createdAt": answer["createdAt"],
            "finishedAt": answer["finishedAt"],
            "feedback": None,
        }

    async def test_a_failed_answer_says_why(self, library, ai):
        ai.script(status(400))
        _, answer = (await library.messages(await library.chat("one")))["messages"]
        assert (answer["status"], answer["failure"]["code"], answer["failure"]["retryable"]) == (
            "failed",
            "ai_rejected",
            False,
        )

    async def test_pages_go_back_in_time_and_join_to_the_whole(self, library):
        chat_id = await library.chat(*(f"q{n}" for n in range(4)))
        whole = (await library.messages(chat_id))["messages"]
        found, cursor = [], None
        while True:
            page = await library.messages(chat_id, limit=3, **({"cursor": cursor} if cursor else {}))
            found = page["messages"] + found
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert found == whole
        assert [one["content"] for one in whole[::2]] == ["q0", "q1", "q2", "q3"]

    async def test_a_page_ends_where_it_comes_to_a_mebibyte(self, library, ai):
        ai.script(*(say("x" * 600_000) for _ in range(2)))
        chat_id = await library.chat("one", "two")
        page = await library.messages(chat_id)
        assert [len(one["content"]) for one in page["messages"]] == [3, 600_000]
        assert page["nextCursor"] is not None

    async def test_the_active_branch_is_the_newest_and_others_are_read_by_their_leaf(self, library):
        chat_id = await library.new_chat(library.user)
        first = await library.say(chat_id, "q1")
        second = await library.say(chat_id, "q2")
        edited = await library.say(chat_id, "q2, edited", parentMessageId=first["messageId"])

        async def contents(**query) -> list[str]:
            return [one["content"] for one in (await library.messages(chat_id, **query))["messages"]]

        assert await contents() == ["q1", "Hello world", "q2, edited", "Hello world"]
        assert await contents(leaf=second["messageId"]) == ["q1", "Hello world", "q2", "Hello world"]
        assert await contents(leaf=second["userMessageId"]) == ["q1", "Hello world", "q2"]
        assert len(await contents(all="true")) == 6
        tree = (await library.messages(chat_id, all="true"))["messages"]
        parents = {one.get("messageId") or one.get("userMessageId"): one["parentId"] for one in tree}
        assert parents[second["userMessageId"]] == parents[edited["userMessageId"]] == first["messageId"]
        problem(await library.get(f"/api/chat/{chat_id}/messages", leaf=ID), 404, "message_not_found")
        problem(await library.get(f"/api/chat/{chat_id}/messages", leaf=ID, all="true"), 400, "invalid_request")

    async def test_a_page_of_a_branch_stays_on_it_when_another_becomes_active(self, library):
        chat_id = await library.new_chat(library.user)
        first = await library.say(chat_id, "q1")
        await library.say(chat_id, "q2")
        page = await library.messages(chat_id, limit=2)
        await library.say(chat_id, "q1, edited", parentMessageId=None)
        rest = await library.messages(chat_id, limit=2, cursor=page["nextCursor"])
        assert [one.get("messageId") for one in rest["messages"]] == [None, first["messageId"]]

    async def test_a_cursor_is_good_for_its_chat_and_view_only(self, library):
        one, two = await library.chat("q1", "q2"), await library.chat("q1", "q2")
        cursor = (await library.messages(one, limit=1))["nextCursor"]
        for chat_id, query in ((two, {}), (one, {"all": "true"})):
            response = await library.get(f"/api/chat/{chat_id}/messages", cursor=cursor, **query)
            problem(response, 400, "invalid_request")


class TestChange:
    async def test_a_title_a_prompt_and_a_model_are_changed_and_cleared(self, library, ai):
        chat_id = await library.new_chat(library.user)
        changed = await library.change(chat_id, title="  New\tname ", systemPrompt="Be brief.", model="large")
        assert changed.status_code == 200
        assert [changed.json()[name] for name in ("title", "systemPrompt", "model")] == [
            "New name",
            "Be brief.",
            "large",
        ]
        await library.say(chat_id, "one")
        assert ai.calls[-1].json["model"] == "large"
        assert ai.calls[-1].json["messages"][0] == {"role": "system", "content": "Be brief."}
        cleared = await library.change(chat_id, title=None, systemPrompt=None, model=None)
        assert [cleared.json()[name] for name in ("title", "systemPrompt", "model")] == [None, None, None]

    async def test_what_is_left_out_stays(self, library):
        chat_id = await library.new_chat(library.user)
        await library.change(chat_id, title="kept", model="large")
        assert (await library.change(chat_id, systemPrompt="x")).json()["title"] == "kept"
        assert (await library.change(chat_id)).json()["model"] == "large"

    @pytest.mark.parametrize(
        "body",
        [
            {"model": "unknown"},
            {"title": 7},
            {"title": "x" * 201},
            {"chatId": ID},
            {"title": "x", "other": 1},
            {"model": 7},
        ],
    )
    async def test_what_cannot_be_accepted_changes_nothing(self, library, body):
        chat_id = await library.chat("one")
        before = (await library.get(f"/api/chat/{chat_id}")).json()
        problem(await library.change(chat_id, **body), 400, "invalid_request")
        assert (await library.get(f"/api/chat/{chat_id}")).json() == before

    async def test_of_changes_at_once_that_know_one_state_one_wins(self, library):
        chat_id = await library.chat("one")
        tag = (await library.get(f"/api/chat/{chat_id}")).headers["etag"]
        made = await asyncio.gather(*(library.change(chat_id, {"If_Match": tag}, title=f"title {n}") for n in range(5)))
        statuses = sorted(response.status_code for response in made)
        assert statuses == [200, 412, 412, 412, 412]
        problem(next(one for one in made if one.status_code == 412), 412, "precondition_failed")
        [winner] = [one for one in made if one.status_code == 200]
        now = await library.get(f"/api/chat/{chat_id}")
        assert (now.headers["etag"], now.json()["title"]) == (winner.headers["etag"], winner.json()["title"])
        assert (await library.change(chat_id, {"If_Match": "*"}, title="any")).status_code == 200


class TestDelete:
    async def test_a_deleted_chat_is_gone_from_everywhere(self, library):
        chat_id = await library.chat("findable words")
        response = await library.delete(f"/api/chat/{chat_id}")
        assert (response.status_code, response.content) == (204, b"")
        for again in (
            await library.delete(f"/api/chat/{chat_id}"),
            await library.get(f"/api/chat/{chat_id}"),
            await library.get(f"/api/chat/{chat_id}/messages"),
            await library.stream(chat_id, {"content": "more"}, library.device),
        ):
            problem(again, 404, "chat_not_found")
        assert await library.listed() == await library.listed(q="findable") == []

    async def test_what_runs_is_cancelled_and_its_watchers_hear_of_it(self, library, ai):
        gate = Gate()
        ai.script(say("Hello", " world", gate=gate))
        chat_id = await library.new_chat(library.user)
        sending = asyncio.create_task(library.stream(chat_id, {"content": "one"}, library.device))
        call = await ai.called()
        await gate.release()
        await gate.reached()
        laptop = {**library.user, "X-Session-Id": "laptop"}
        watching = asyncio.create_task(library.watch(chat_id, laptop))
        assert (await library.delete(f"/api/chat/{chat_id}")).status_code == 204
        assert events(await sending)[-1][2]["status"] == "cancelled"
        await call.closed.wait()
        watched = await watching
        assert watched.status_code in (204, 404) or events(watched)[-1][2]["status"] == "cancelled"
        problem(await library.get(f"/api/chat/{chat_id}"), 404, "chat_not_found")

    async def test_all_chats_are_erased_a_part_at_a_time(self, library):
        for n in range(23):
            await library.chat(*(["one"] if n % 10 == 0 else []))
        kept = await library.new_chat(OTHER)
        first = (await library.delete("/api/chats")).json()
        assert first["deleted"] + first["remaining"] == 23
        while (left := (await library.delete("/api/chats")).json())["remaining"]:
            assert left["deleted"]
        assert await library.listed() == []
        assert (await library.get(f"/api/chat/{kept}", headers=OTHER)).status_code == 200


class TestFeedback:
    async def test_feedback_is_kept_with_its_answer_and_can_be_taken_back(self, library, capsys):
        chat_id = await library.new_chat(library.user)
        said = await library.say(chat_id, "one")
        path = f"/api/chat/{chat_id}/messages/{said['messageId']}/feedback"

        async def put(**body) -> httpx.Response:
            return await library.ask("manage", "PUT", path, headers=library.user, json=body)

        assert (await put(rating="up")).json() == {"rating": "up", "comment": None}
        assert (await put(rating="down", comment="너무 길어요")).status_code == 200
        judged = of(parse(capsys.readouterr().out), "feedback given")
        assert [metrics(line) for line in judged] == [{"FeedbackUp": 1}, {"FeedbackDown": 1}]
        assert all(line["messageId"] == said["messageId"] and "너무" not in str(line) for line in judged)
        assert (await library.messages(chat_id))["messages"][-1]["feedback"] == {
            "rating": "down",
            "comment": "너무 길어요",
        }
        for body in ({}, {"rating": "sideways"}, {"rating": "up", "comment": "x" * 2001}):
            problem(await put(**body), 400, "invalid_request")
        assert (await library.delete(path)).status_code == 204
        assert (await library.messages(chat_id))["messages"][-1]["feedback"] is None
        question = f"/api/chat/{chat_id}/messages/{said['userMessageId']}/feedback"
        problem(
            await library.ask("manage", "PUT", question, headers=library.user, json={"rating": "up"}),
            404,
            "message_not_found",
        )


async def test_models_are_told_with_the_default_first(library):
    assert (await library.get("/api/models")).json() == {
        "models": [
            {"id": "small", "label": "small", "default": True},
            {"id": "large", "label": "large", "default": False},
        ]
    }


async def test_a_path_with_something_behind_it_is_no_route(library):
    for path in ("/api/chats/", "/api/chat", f"/api/chat/{ID}/", f"/api/chat/{ID}{quote(chr(10))}"):
        response = await library.ask("manage", "GET", path, headers=library.user)
        assert response.status_code in (400, 404), path
    problem(await library.ask("manage", "POST", "/api/chats", headers=library.user), 405, "method_not_allowed")


async def test_of_an_erased_user_nothing_is_left_in_any_store_or_log(ai, embedded_redis, database_url, caplog, capfd):
    """Said, thought, cited, named, judged, cancelled, failed and still running: a search of everything finds none."""
    secret, user, phone = "쿠키몬스터", f"user-{new_id()}", f"phone-{new_id()}"
    environ = {"REDIS_URL": embedded_redis, "MYSQL_URL": database_url, "OPENAI_BASE_URL": ai.url, "CHAT_TITLES": "ai"}
    caplog.set_level("DEBUG")
    async with Library(environ, ai) as library:
        library.user = {"X-User-Id": user}
        library.device = {**library.user, "X-Session-Id": phone}
        ai.default = say(f"the answer about {secret}")
        chat_id = (await library.create(library.user, json={"systemPrompt": secret})).json()["chatId"]
        told = await library.say(chat_id, f"a question about {secret}")
        path = f"/api/chat/{chat_id}/messages/{told['messageId']}/feedback"
        await library.ask("manage", "PUT", path, headers=library.user, json={"rating": "up", "comment": secret})
        await library.change(chat_id, title=f"a title about {secret}")
        ai.script(status(500))
        await library.stream(chat_id, {"content": secret}, library.device)
        await library.cancel(chat_id, library.device, json={"userMessageId": new_id()})
        ai.script(say(secret, secret, gate=(gate := Gate())))
        running = asyncio.create_task(library.stream(chat_id, {"content": secret}, library.device))
        await gate.release()
        await until(lambda: is_running(library, chat_id))
        assert secret in everything(database_url, embedded_redis), "it can be found before"
        while (await library.delete("/api/chats")).json()["remaining"]:
            pass
        assert events(await running)[-1][2]["status"] == "cancelled"
        left = everything(database_url, embedded_redis)
        logs = caplog.text + "".join(capfd.readouterr())
        for trace in (secret, user, phone, chat_id):
            assert trace not in left
        for trace in (secret, user, phone):
            assert trace not in logs


async def is_running(library, chat_id: str) -> bool:
    return bool((await library.get(f"/api/chat/{chat_id}")).json()["activeMessageIds"])


def everything(database_url: str, redis_url: str) -> str:
    """Return all rows of all tables, and all keys and values of Redis, as text."""
    engine = open_engine(Secret(database_url))
    with engine.connect() as connection:
        rows = [str(row) for table in metadata.sorted_tables for row in connection.execute(select(table))]
    engine.dispose()
    with Redis.from_url(redis_url) as redis:
        keys = list(redis.scan_iter())
        values = [read(redis, key) for key in keys]
    return "\n".join([*rows, *(key.decode() for key in keys), *values])


def read(redis: Redis, key: bytes) -> str:
    """Return a key's value, whatever its type."""
    commands = {
        b"string": ("GET", key),
        b"hash": ("HGETALL", key),
        b"zset": ("ZRANGE", key, 0, -1),
        b"set": ("SMEMBERS", key),
        b"list": ("LRANGE", key, 0, -1),
        b"stream": ("XRANGE", key, "-", "+"),
    }
    kind = redis.type(key)
    return "" if kind == b"none" else text_of(redis.execute_command(*commands[kind]))


def text_of(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    return " ".join(map(text_of, value)) if isinstance(value, list | tuple | set) else str(value)
