"""The chat page in Chromium: on a scripted stub with faults at exact places, and on the real service."""

import asyncio

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.kit.ai_server import AIServer, Gate, say
from tests.kit.browser import chromium, visiting
from tests.kit.service import running
from tests.kit.stub_service import Cut, FailureCode, Finish, Hold, Reasoning, Refuse, Source, Sources, StubService
from tests.kit.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("page"), pytest.mark.asyncio(loop_scope="module")]
expect.set_options(timeout=20_000)

DARK = "rgb(23, 23, 28)"
HOSTILE = "<img src=x onerror=alert(1)> data: x\n\nevent: done\n\n안녕하세요 👩‍👩‍👧‍👦 \u2028 <b>굵게</b> &amp;"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def stub():
    async with StubService() as stub:
        yield stub


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(browser, stub):
    async with visiting(browser, stub.url) as visitor:
        yield visitor


@pytest_asyncio.fixture(loop_scope="module")
async def page(visitor):
    return await visitor.tab()


async def ask(pane, text):
    await pane.locator("textarea").fill(text)
    await pane.locator("textarea").press("Enter")


async def from_menu(page, item):
    await page.locator("#open-menu").click()
    await page.locator(item).click()


def turn(pane, number=-1):
    return pane.locator(".turn").nth(number)


async def ended(pane, status, number=-1):
    await expect(turn(pane, number)).to_have_attribute("data-status", status)


async def text_of(pane, number=-1):
    return await turn(pane, number).locator("[data-part=text]").text_content()


# ---- the main path


async def test_an_answer_appears_while_it_is_written_and_ends_with_status_and_usage(stub, page):
    gate = asyncio.Event()
    stub.scripts.append(["The sky ", gate, "is blue."])
    await ask(page, "Why?")
    await expect(turn(page).locator("[data-part=text]")).to_have_text("The sky ")
    await expect(turn(page)).to_have_attribute("aria-busy", "true")
    gate.set()
    await ended(page, "completed")
    assert await text_of(page) == "The sky is blue."
    await expect(turn(page)).to_have_attribute("aria-busy", "false")
    await expect(turn(page).locator("[data-part=facts]")).to_contain_text("12 in · 34 out tokens · 16 characters")


async def test_reasoning_is_open_while_it_comes_and_folded_after_and_sources_are_safe_links(stub, page):
    sources = Sources(
        (Source("Sky", "https://sky.example/a"), Source("Bad", "javascript:alert(1)"), Source("", "data:x"))
    )
    gate = asyncio.Event()
    stub.scripts.append([Reasoning("Let me think."), gate, "Blue.", sources])
    await ask(page, "Why?")
    await ended(page, "thinking")
    await expect(turn(page).locator(".reasoning")).to_be_visible()
    gate.set()
    await ended(page, "completed")
    await expect(turn(page).locator(".reasoning")).not_to_be_visible()
    await turn(page).locator(".thoughts summary").click()
    await expect(turn(page).locator(".reasoning")).to_have_text("Let me think.")
    links = turn(page).locator("[data-part=sources] a")
    assert await links.evaluate_all("all => all.map(a => [a.href, a.rel])") == [
        ["https://sky.example/a", "noopener noreferrer"]
    ]
    assert await turn(page).locator("[data-part=sources] li").all_text_contents() == [
        "Sky sky.example",
        "Bad",
        "data:x",
    ]


async def test_texts_never_become_markup(stub, page):
    stub.bytes_per_chunk = 1
    stub.scripts.append([Reasoning(HOSTILE), HOSTILE, Sources((Source(HOSTILE, "https://a.example"),))])
    await ask(page, HOSTILE)
    await ended(page, "completed")
    shown = HOSTILE.replace("\n\n", "").replace("&amp;", "&")
    assert await text_of(page) == shown
    assert await turn(page).locator("[data-part=question]").text_content() == HOSTILE
    assert await turn(page).locator("[data-part=reasoning]").text_content() == shown
    assert await turn(page).locator("img, b").count() == 0


async def test_the_question_and_the_session_are_sent_as_the_contract_says(stub, page):
    await ask(page, "first")
    await ended(page, "completed")
    await ask(page, "second")
    await ended(page, "completed", 1)
    first, second = stub.sent("POST", "/stream")
    assert first.path == second.path
    assert len(stub.sent("POST", "/create")) == 1
    assert first.headers["x-session-id"] == second.headers["x-session-id"]
    assert first.json["content"] == "first"
    assert first.json["userMessageId"] != second.json["userMessageId"]


# ---- stopping


@pytest.mark.parametrize("how", ["Escape", "button"])
async def test_stop_cancels_the_answer_by_name_and_keeps_what_there_was(stub, page, how):
    stub.scripts.append(["Half of ", asyncio.Event(), "it"])
    await ask(page, "Tell me")
    await ended(page, "streaming")
    await (page.keyboard.press("Escape") if how == "Escape" else page.locator("[data-part=stop]").click())
    await ended(page, "cancelled")
    assert await text_of(page) == "Half of"
    [cancel] = stub.sent("POST", "/cancel")
    assert cancel.json == {"messageId": stub.generations[0].identity.message_id}
    await expect(page.locator("textarea")).to_be_focused()


async def test_stop_before_start_names_the_message_and_the_ai_is_never_asked(stub, page):
    hold = Hold()
    stub.faults.append(hold)
    stub.scripts.append(["never said"])
    await ask(page, "Tell me")
    await until(lambda: stub.sent("POST", "/stream"))
    await page.keyboard.press("Escape")
    await until(lambda: stub.sent("POST", "/cancel"))
    hold.until.set()
    await ended(page, "cancelled")
    assert stub.sent("POST", "/cancel")[0].json == {
        "userMessageId": stub.sent("POST", "/stream")[0].json["userMessageId"]
    }
    assert len(stub.scripts) == 1


@pytest.mark.parametrize("reply", ["before the start", "after the start"])
async def test_stop_of_a_retry_before_its_start_meets_the_new_answer(stub, page, reply):
    """A cancel by the message's id finds the failed answer then: the page repeats it with the new one's."""
    stub.scripts.extend([[FailureCode.AI_ERROR], ["again", asyncio.Event()]])
    await ask(page, "Tell me")
    await ended(page, "failed")
    start, cancelled = Hold(), Hold()
    stub.faults.append(start)
    stub.cancel_faults.append(cancelled)
    await turn(page).locator("[data-part=retry]").click()
    await until(lambda: len(stub.sent("POST", "/stream")) == 2)
    await page.keyboard.press("Escape")
    await until(lambda: stub.sent("POST", "/cancel"))
    if reply == "before the start":
        cancelled.until.set()
        await expect(page.locator("[data-part=stop]")).to_be_enabled()
        start.until.set()
    else:
        start.until.set()
        await expect(turn(page).locator("[data-part=text]")).to_have_text("again")
        cancelled.until.set()
    await ended(page, "cancelled")
    first, second = stub.sent("POST", "/cancel")
    assert list(first.json) == ["userMessageId"]
    assert second.json == {"messageId": stub.generations[1].identity.message_id}


async def test_a_stop_that_fails_says_so_and_can_be_repeated(stub, page):
    stub.scripts.append(["Half", asyncio.Event()])
    stub.cancel_faults.append(Refuse(503, "storage_unavailable"))
    await ask(page, "Tell me")
    await ended(page, "streaming")
    await page.keyboard.press("Escape")
    await expect(page.locator("[data-part=notice]")).to_have_text("It could not be stopped. Try once more.")
    await page.keyboard.press("Escape")
    await ended(page, "cancelled")


async def test_stopping_one_device_leaves_the_other_alone(stub, page):
    left_gate, right_gate = asyncio.Event(), asyncio.Event()
    await from_menu(page, "#second")
    left, right = page.locator(".pane").nth(0), page.locator(".pane").nth(1)
    stub.scripts.append(["left ", left_gate, "more"])
    await ask(left, "one")
    await ended(left, "streaming")
    stub.scripts.append(["right ", right_gate, "more"])
    await ask(right, "two")
    await ended(right, "streaming")
    await left.locator("[data-part=stop]").click()
    await ended(left, "cancelled", 0)
    await ended(right, "streaming", 1)
    right_gate.set()
    await ended(right, "completed", 1)
    assert await text_of(right, 1) == "right more"
    first, second = (generation.identity for generation in stub.generations)
    assert first.chat_id == second.chat_id
    assert first.session_id != second.session_id
    assert [request.json for request in stub.sent("POST", "/cancel")] == [{"messageId": first.message_id}]


async def test_a_device_learns_what_the_other_asked_and_may_watch(stub, page):
    await from_menu(page, "#second")
    left, right = page.locator(".pane").nth(0), page.locator(".pane").nth(1)
    gate = asyncio.Event()
    stub.scripts.append(["running ", gate, "on"])
    await ask(left, "one")
    await ended(right, "elsewhere")
    await turn(right).locator("[data-part=watch]").click()
    await expect(turn(right).locator("[data-part=text]")).to_have_text("running ")
    gate.set()
    await ended(right, "completed")
    assert await text_of(right) == "running on"


# ---- a network that fails


@pytest.mark.parametrize("bytes_of_next", [0, 1, 5, 46, 60])
async def test_a_cut_stream_is_picked_up_where_it_broke(stub, page, bytes_of_next):
    stub.scripts.append(["하나 ", "둘 ", "셋 👍"])
    cuts = [Cut(2, bytes_of_next, when=asyncio.Event()), Cut(1, bytes_of_next, when=asyncio.Event())]
    stub.faults.extend(cuts)
    await ask(page, "세어 줘")
    for cut, text in zip(cuts, ["하나 ", "하나 둘 "], strict=True):
        await expect(turn(page).locator("[data-part=text]")).to_have_text(text)
        cut.when.set()
    await ended(page, "completed")
    assert await text_of(page) == "하나 둘 셋 👍"
    message_id = stub.generations[0].identity.message_id
    assert [r.headers["last-event-id"] for r in stub.sent("GET", "/stream")] == [f"{message_id}:2", f"{message_id}:3"]
    assert len(stub.generations) == 1


async def test_a_stream_that_ends_without_done_is_picked_up(stub, page):
    stub.scripts.append(["one ", "two"])
    stub.faults.append(Cut(2, ends_properly=True))
    await ask(page, "count")
    await ended(page, "completed")
    assert await text_of(page) == "one two"


async def test_a_lost_message_is_sent_again_under_the_same_id(stub, page):
    stub.scripts.append(["only once"])
    stub.faults.extend([Cut(), Refuse(503, "storage_unavailable"), Cut(0, 3)])
    await ask(page, "hello")
    await ended(page, "completed")
    assert await text_of(page) == "only once"
    sent = stub.sent("POST", "/stream")
    assert len(sent) == 4
    assert len({request.body for request in sent}) == 1
    assert len(stub.generations) == 1


async def test_start_means_to_begin_afresh(stub, page):
    stub.retry_ms = 1
    stub.scripts.extend([["lost words", FailureCode.AI_ERROR], ["new words"]])
    await ask(page, "hello")
    await ended(page, "failed")
    await turn(page).locator("[data-part=retry]").click()
    await ended(page, "completed")
    assert await text_of(page) == "new words"
    await expect(turn(page).locator("[data-part=problem]")).not_to_be_visible()
    first, second = stub.sent("POST", "/stream")
    assert first.body == second.body
    assert await page.locator(".turn").count() == 1


async def test_a_failure_that_no_retry_helps_has_no_button(stub, page):
    stub.scripts.append([FailureCode.AI_REJECTED])
    await ask(page, "hello")
    await ended(page, "failed")
    await expect(turn(page).locator("[data-part=message]")).to_have_text("The AI service did not accept the request.")
    await expect(turn(page).locator("[data-part=retry]")).not_to_be_visible()


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (Refuse(409, "stream_in_progress"), "Refused: stream_in_progress."),
        (Refuse(401, "unauthenticated"), "Refused: unauthenticated."),
    ],
)
async def test_a_refused_message_can_be_sent_again(stub, page, refusal, message):
    stub.faults.append(refusal)
    await ask(page, "hello")
    await ended(page, "notSent")
    await expect(turn(page).locator("[data-part=message]")).to_have_text(message)
    await page.keyboard.press("Escape")
    await turn(page).locator("[data-part=retry]").click()
    await ended(page, "completed")


async def test_a_limit_counts_down_and_then_lets_the_message_be_sent_again(stub, page):
    await page.clock.install()
    stub.faults.append(Refuse(429, "rate_limited", headers={"retry-after": "7"}))
    await ask(page, "hello")
    await ended(page, "notSent")
    message, retry = turn(page).locator("[data-part=message]"), turn(page).locator("[data-part=retry]")
    await expect(message).to_have_text("Refused: rate_limited. Again in 7 s.")
    await expect(retry).to_be_disabled()
    await page.clock.run_for(5_000)
    await expect(message).to_have_text("Refused: rate_limited. Again in 2 s.")
    await page.clock.run_for(2_000)
    await expect(message).to_have_text("Refused: rate_limited. You can try again now.")
    await retry.click()
    await page.clock.run_for(1_000)
    await ended(page, "completed")


async def test_not_sent_and_connection_lost_are_two_things(stub, page):
    stub.scripts.append(["so far", asyncio.Event()])
    await ask(page, "hello")
    await expect(turn(page).locator("[data-part=text]")).to_have_text("so far")
    stub.faults.extend([Refuse(401, "unauthenticated"), None])
    stub.cut_all()
    await ended(page, "lost")
    await page.keyboard.press("Escape")
    assert await text_of(page) == "so far"
    await expect(turn(page).locator("[data-part=message]")).to_have_text("Refused: unauthenticated.")
    await expect(turn(page).locator("[data-part=retry]")).to_have_text("Reconnect")
    await turn(page).locator("[data-part=retry]").click()
    await ended(page, "streaming")
    assert len(stub.sent("POST", "/stream")) == 1


async def test_text_that_is_shown_stays_while_the_answer_is_told_again(stub, page):
    gate = asyncio.Event()
    stub.scripts.append(["one ", "two ", "three ", gate, "four"])
    await ask(page, "count")
    await expect(turn(page).locator("[data-part=text]")).to_have_text("one two three")
    told = asyncio.Event()
    stub.faults.append(Cut(2, when=told, is_replay=True))
    stub.cut_all()
    await until(lambda: len(stub.sent("GET", "/stream")) == 1)
    await ended(page, "streaming")
    assert await text_of(page) == "one two three"
    gate.set()
    told.set()
    await ended(page, "completed")
    assert await text_of(page) == "one two three four"


async def test_a_message_that_cannot_be_accepted_returns_to_the_writer(stub, page):
    stub.faults.append(Refuse(422, "invalid_content"))
    await ask(page, "too long")
    await ended(page, "notSent")
    await expect(page.locator("textarea")).to_have_value("too long")
    await expect(turn(page).locator("[data-part=retry]")).not_to_be_visible()


async def test_without_the_service_a_message_is_not_lost(stub, page):
    await page.context.set_offline(True)
    await ask(page, "hello")
    await ended(page, "notSent")
    await expect(turn(page).locator("[data-part=message]")).to_contain_text("The service cannot be reached.")
    await page.context.set_offline(False)
    await turn(page).locator("[data-part=retry]").click()
    await ended(page, "completed")


FOLLOW = """async ({chatId, session, ...options}) => {
    const { followAnswer } = await import("/sse.js");
    const headers = { "X-User-Id": "u", "X-Session-Id": session };
    const connect = (id, signal) => fetch(`/api/chat/${chatId}/stream`, {
        method: "POST", headers: { ...headers, "Last-Event-ID": id }, signal,
        body: JSON.stringify({ content: "hello", userMessageId: "0190a0b0-0000-7000-8000-000000000000" }),
    });
    const events = [];
    try {
        for await (const { event } of followAnswer({ connect, pauseMs: 1, ...options })) events.push(event);
    } catch (error) {
        events.push(String(error.name));
    }
    return events;
}"""


async def test_a_connection_that_falls_silent_is_replaced(stub, page):
    stub.chats["c"] = {}
    stub.scripts.append(["one ", "two"])
    stub.faults.extend([Hold(), Cut(2, when=asyncio.Event()), None])
    events = await page.evaluate(FOLLOW, {"chatId": "c", "session": "s", "silenceMs": 500})
    assert events == ["start", "message", "message", "done"]
    assert len(stub.sent("POST", "/stream")) >= 3


async def test_a_reader_gives_up_after_so_many_failures_in_a_row(stub, page):
    stub.chats["c"] = {}
    stub.scripts.append(["one ", "two ", "three"])
    progress = [Cut(2, ends_properly=True), Cut(1, ends_properly=True)]
    stub.faults.extend([Cut(), *progress, Cut(), Cut(0, ends_properly=True), Cut()])
    events = await page.evaluate(FOLLOW, {"chatId": "c", "session": "s", "attempts": 3})
    assert events[:3] == ["start", "message", "message"]
    assert events[3:] in (["Error"], ["TypeError"])
    assert len(stub.sent("POST", "/stream")) == 5


# ---- reload, tabs, accounts


async def test_reload_in_mid_answer_goes_on(stub, page):
    gate = asyncio.Event()
    stub.scripts.append(["before ", gate, "after"])
    await ask(page, "hello")
    await ended(page, "streaming")
    await page.reload()
    await expect(turn(page).locator("[data-part=text]")).to_have_text("before ")
    await expect(page.locator("[data-part=stop]")).to_be_visible()
    gate.set()
    await ended(page, "completed")
    assert await text_of(page) == "before after"
    assert len(stub.generations) == 1
    assert len({request.headers["x-session-id"] for request in stub.requests if "x-session-id" in request.headers}) == 1


async def test_an_answer_can_be_stopped_after_a_reload(stub, page):
    stub.scripts.append(["before ", asyncio.Event()])
    await ask(page, "hello")
    await ended(page, "streaming")
    await page.reload()
    await ended(page, "streaming")
    await page.locator("textarea").press("Escape")
    await ended(page, "cancelled")


async def test_a_message_that_had_not_arrived_before_a_reload_is_sent_after_it(stub, page):
    stub.faults.append(Hold())
    stub.scripts.append(["at last"])
    await ask(page, "hello")
    await until(lambda: stub.sent("POST", "/stream"))
    await page.reload()
    await ended(page, "completed")
    assert await text_of(page) == "at last"
    first, second = stub.sent("POST", "/stream")
    assert first.body == second.body


async def test_reload_tells_the_whole_chat_again_without_asking_anew(stub, page):
    stub.scripts.extend([["one"], ["two", FailureCode.AI_ERROR], ["three"]])
    for number, status in enumerate(["completed", "failed", "completed"]):
        await ask(page, f"question {number}")
        await ended(page, status, number)
    await page.reload()
    for number, status in enumerate(["completed", "failed", "completed"]):
        await ended(page, status, number)
    assert await page.locator("[data-part=text]").all_text_contents() == ["one", "two", "three"]
    assert await page.locator("[data-part=question]").all_text_contents() == [f"question {n}" for n in range(3)]
    assert len(stub.sent("POST", "/stream")) == 3


async def test_another_tab_at_the_same_address_is_another_device_in_the_same_chat(stub, visitor, page):
    await ask(page, "hello")
    await ended(page, "completed")
    other = await visitor.tab(page.url)
    await ended(other, "completed")
    await ask(other, "from here")
    await ended(other, "completed", 1)
    await ended(page, "completed", 1)
    assert await text_of(page, 1) == "You said: from here"
    first, second = (generation.identity for generation in stub.generations)
    assert first.chat_id == second.chat_id
    assert first.session_id != second.session_id


SLOW = "AbortSignal.timeout = () => AbortSignal.abort()"
"""Whatever has a time limit is late."""


@pytest.mark.parametrize("script", ["", SLOW], ids=["quick", "slow"])
async def test_a_copied_tab_gets_a_session_of_its_own(stub, visitor, page, script):
    await page.add_init_script(script)
    await page.reload()
    await ask(page, "hello")
    await ended(page, "completed")
    copied = await page.evaluate("JSON.stringify(sessionStorage)")
    copy = await visitor.context.new_page()
    await copy.add_init_script(f"Object.assign(sessionStorage, {copied})")
    await copy.goto(page.url)
    await ask(copy, "hello too")
    await ended(copy, "completed", 1)
    first, second = (generation.identity for generation in stub.generations)
    assert first.session_id != second.session_id


async def test_a_new_chat_begins_empty_and_the_second_device_moves_with_it(stub, page):
    await ask(page, "hello")
    await ended(page, "completed")
    await from_menu(page, "#second")
    await page.locator("#new").click()
    await expect(page.locator(".pane")).to_have_count(2)
    await expect(page.locator(".turn")).to_have_count(0)
    await ask(page.locator(".pane").nth(1), "hello again")
    await ended(page.locator(".pane").nth(1), "completed")
    first, second = (generation.identity for generation in stub.generations)
    assert first.chat_id != second.chat_id


async def test_a_chat_that_is_gone_is_forgotten(stub, page):
    await ask(page, "hello")
    await ended(page, "completed")
    stub.chats.clear()
    await page.reload()
    await expect(page.locator("[data-part=notice]")).to_contain_text("does not exist")
    await expect(page.locator(".turn")).to_have_count(0)
    await ask(page, "hello again")
    await ended(page, "completed")
    assert len(stub.chats) == 1


async def test_a_token_takes_the_place_of_the_user_id(stub, page):
    await from_menu(page, "#open-account")
    await page.locator("[name=token]").fill("header.payload.signature")
    await page.locator("[name=token]").press("Enter")
    await ask(page, "hello")
    await ended(page, "completed")
    request = stub.sent("POST", "/stream")[0]
    assert request.headers["authorization"] == "Bearer header.payload.signature"
    assert "x-user-id" not in request.headers


async def test_where_tokens_are_needed_one_is_asked_for_and_kept_in_this_tab_only(stub, visitor):
    stub.page_settings["auth"] = "jwt"
    page = await visitor.tab()
    await expect(page.locator("#account")).to_be_visible()
    await expect(page.locator("[name=user]")).not_to_be_visible()
    await page.locator("[name=token]").fill("header.payload.signature")
    await page.locator("[name=token]").press("Enter")
    await ask(page, "hello")
    await ended(page, "completed")
    assert stub.sent("POST", "/stream")[0].headers["authorization"] == "Bearer header.payload.signature"
    assert "signature" not in await page.evaluate("JSON.stringify(localStorage)")


async def test_with_the_account_saved_nothing_can_be_written_as_the_one_before(page):
    await from_menu(page, "#open-account")
    await page.locator("[name=user]").fill("someone-else")
    left = await page.evaluate("""() => {
        document.querySelector("#account form").requestSubmit();
        return document.querySelectorAll("textarea").length;
    }""")
    assert left == 0
    await expect(page.locator("textarea")).to_be_visible()


# ---- what helps a reader


async def test_an_answer_that_was_cut_by_its_length_says_so_and_goes_on(stub, page):
    stub.scripts.append(["half of it", Finish("length")])
    await ask(page, "Tell me all")
    await ended(page, "completed")
    await expect(turn(page).locator("[data-part=status]")).to_have_text("The answer was cut at its longest length.")
    await turn(page).locator("[data-part=goOn]").click()
    await ended(page, "completed", 1)
    assert stub.sent("POST", "/stream")[1].json["content"] == "Please go on from where you stopped."
    await expect(turn(page, 1).locator("[data-part=goOn]")).not_to_be_visible()


async def test_code_and_answers_are_copied_as_they_were_written(stub, visitor, page):
    await visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    stub.scripts.append(["Do **this**:\n\n```sh\nmake", " run\n", "```\n"])
    await ask(page, "How?")
    await ended(page, "completed")
    await turn(page).locator(".copy-code").click()
    await until_copied(page, "make run\n")
    await turn(page).locator(".answer [data-part=copy]").click()
    await until_copied(page, "Do **this**:\n\n```sh\nmake run\n```\n")
    await expect(page.locator("[data-part=announcer]")).to_have_text("Copied")


async def until_copied(page, text):
    await page.wait_for_function("async text => await navigator.clipboard.readText() === text", arg=text)


async def test_a_long_message_is_counted_before_it_is_sent_and_folded_after(stub, page):
    field, counter = page.locator("textarea"), page.locator("[data-part=counter]")
    await field.fill("가" * 25_600)
    await expect(counter).not_to_be_visible()
    await field.fill("👍" * 25_601)
    await expect(counter).to_have_text("25,601 / 32,000")
    await field.fill("가" * 32_001)
    await expect(page.locator("[data-part=send]")).to_be_disabled()
    await field.press("Enter")
    await expect(field).to_have_attribute("aria-invalid", "true")
    assert await page.locator(".turn").count() == 0
    await ask(page, "가" * 32_000)
    await ended(page, "completed")
    fold = turn(page).locator("[data-part=fold]")
    await expect(fold).to_have_text("Show all")
    folded = await turn(page).locator(".question").bounding_box()
    await fold.click()
    assert (await turn(page).locator(".question").bounding_box())["height"] > 3 * folded["height"]


async def test_the_bar_names_the_model_and_says_when_it_is_a_demo(stub, visitor, page):
    await expect(page.locator("#model")).to_have_text("stub")
    stub.page_settings["isDemo"] = True
    other = await visitor.tab()
    await expect(other.locator("#model")).to_have_text("Demo model; set OPENAI_API_KEY")


async def test_the_reader_chooses_light_or_dark_and_it_stays(page):
    await page.locator("#open-menu").click()
    await page.get_by_label("Dark").check()
    await expect(page.locator("body")).to_have_css("background-color", DARK)
    await page.reload()
    await expect(page.locator("body")).to_have_css("background-color", DARK)


async def test_the_reader_chooses_a_language_and_what_was_written_stays(page):
    await page.locator("textarea").fill("half a sen")
    await page.locator("#open-menu").click()
    await page.get_by_label("한국어").click()
    await expect(page.locator("html")).to_have_attribute("lang", "ko")
    await expect(page.locator("textarea")).to_have_value("half a sen")


async def test_an_answer_is_announced_once_when_it_has_ended(stub, page):
    gate = asyncio.Event()
    stub.scripts.append(["The sky ", gate, "is blue."])
    await ask(page, "Why?")
    await expect(turn(page).locator("[data-part=text]")).to_have_text("The sky")
    await expect(page.locator("[data-part=announcer]")).to_be_empty()
    gate.set()
    await expect(page.locator("[data-part=announcer]")).to_have_text("Answer complete. The sky is blue.")


# ---- keys, input methods, looks


async def test_shift_enter_makes_a_new_line_and_enter_sends(stub, page):
    await page.locator("textarea").press_sequentially("one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    await page.keyboard.press("Enter")
    await ended(page, "completed")
    assert stub.sent("POST", "/stream")[0].json["content"] == "one\ntwo"
    await expect(page.locator("textarea")).to_have_value("")


async def test_white_space_alone_is_not_sent(stub, page):
    await page.locator("textarea").fill(" \n ")
    await page.keyboard.press("Enter")
    await expect(page.locator("[data-part=send]")).to_be_disabled()
    assert await page.locator(".turn").count() == 0


async def test_the_enter_that_ends_a_composition_does_not_send(stub, page):
    await page.locator("textarea").focus()
    keyboard = await page.context.new_cdp_session(page)
    await keyboard.send("Input.imeSetComposition", {"text": "안녕", "selectionStart": 2, "selectionEnd": 2})
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    await keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **key})
    await keyboard.send("Input.insertText", {"text": "안녕"})
    await keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})
    # Safari ends the composition before the key, which then only its code betrays
    await page.locator("textarea").evaluate(
        "input => input.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true}))"
    )
    await expect(page.locator("textarea")).to_have_value("안녕")
    assert await page.locator(".turn").count() == 0
    await page.keyboard.press("Enter")
    await ended(page, "completed")
    assert stub.sent("POST", "/stream")[0].json["content"] == "안녕"


async def test_the_writer_keeps_the_focus(stub, page):
    await expect(page.locator("textarea")).to_be_focused()
    await page.locator("text=Why is the sky blue?").click()
    await ended(page, "completed")
    await expect(page.locator("textarea")).to_be_focused()


async def test_everything_has_a_name_and_the_text_that_comes_is_not_read_word_by_word(page):
    await expect(page.get_by_role("log", name="Conversation")).to_have_attribute("aria-live", "off")
    await expect(page.get_by_role("textbox", name="Write a message")).to_be_visible()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_korean_readers_get_korean(browser, stub):
    async with visiting(browser, stub.url, locale="ko-KR") as visitor:
        page = await visitor.tab()
        await expect(page.locator("html")).to_have_attribute("lang", "ko")
        stub.scripts.append([FailureCode.AI_UNAVAILABLE])
        await ask(page, "안녕")
        await ended(page, "failed")
        await expect(turn(page).locator("[data-part=message]")).to_have_text("AI 서비스에 연결할 수 없습니다.")
        assert await page.locator("[data-word]").evaluate_all("all => all.filter(e => !e.textContent).length") == 0


async def test_both_languages_say_the_same_things(page):
    english, korean = await page.evaluate(
        "async () => { const { WORDS } = await import('/i18n.js'); return [WORDS.en, WORDS.ko].map(Object.keys); }"
    )
    assert english == korean


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_shows_everything_without_scrolling_sideways(browser, stub, scheme):
    screen = {"width": 360, "height": 640}
    async with visiting(browser, stub.url, viewport=screen, color_scheme=scheme) as visitor:
        page = await visitor.tab()
        long = "https://example.com/" + "a" * 300
        stub.scripts.append([Reasoning(long), long, Sources((Source(long, long),)), FailureCode.AI_ERROR])
        await ask(page, long)
        await ended(page, "failed")
        await from_menu(page, "#second")
        await expect(page.locator(".pane")).to_have_count(2)
        await ended(page.locator(".pane").nth(1), "failed")
        wide = (
            "all => all.filter(e => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > 361).length"
        )
        assert await page.locator("html, .column, .log, .turn, .box, .bar").evaluate_all(wide) == 0
        for field in await page.locator("textarea").all():
            await expect(field).to_be_in_viewport(ratio=1)
        ground = await page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": DARK}[scheme]


async def test_a_long_answer_is_followed_to_its_end_unless_the_reader_scrolls_up(stub, page):
    gate = asyncio.Event()
    stub.scripts.append([*(f"line {n}\n" for n in range(200)), gate, *(f"more {n}\n" for n in range(100))])
    await ask(page, "tell me a lot")
    gap = "log => log.scrollHeight - log.scrollTop - log.clientHeight"
    log = page.locator(".log")

    async def is_at_the_end():
        return (await log.evaluate(gap)) < 2 and (await text_of(page)).endswith("line 199")

    await until(is_at_the_end)
    await log.evaluate("log => log.scrollTo(0, 0)")
    await expect(turn(page).locator(".question")).to_be_in_viewport()
    gate.set()
    await ended(page, "completed")
    await expect(turn(page).locator(".question")).to_be_in_viewport()


async def test_a_second_device_that_opens_late_leaves_the_cursor_with_who_is_writing_by_then(page):
    await page.evaluate(
        """() => {
          const request = navigator.locks.request.bind(navigator.locks);
          const gate = new Promise((open) => (globalThis.letIn = open));
          navigator.locks.request = async (...given) => (await gate, request(...given));
        }"""
    )
    await from_menu(page, "#second")
    await page.locator("textarea").press_sequentially("on")
    await page.evaluate("letIn()")
    await expect(page.locator(".pane")).to_have_count(2)
    await page.keyboard.type("e")
    await expect(page.locator("textarea").first).to_have_value("one")


async def test_nothing_from_elsewhere_may_be_loaded(page):
    policy = await page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


# ---- the real service


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ai():
    async with AIServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(ai):
    with running({"OPENAI_BASE_URL": ai.url, "OPENAI_API_KEY": "none", "OPENAI_MODEL": "scripted"}) as service:
        yield service


async def test_the_main_path_on_the_real_service(browser, service, ai):
    left_gate, right_gate = Gate(), Gate()
    ai.script(say("left ", "more", gate=left_gate), say("오른쪽 ", "👍", gate=right_gate))
    async with visiting(browser, service.url) as visitor:
        page = await visitor.tab()
        await from_menu(page, "#second")
        left, right = page.locator(".pane").nth(0), page.locator(".pane").nth(1)
        await ask(left, "one")
        await left_gate.release()
        await ended(left, "streaming")
        await ask(right, "two")
        await right_gate.release()
        await ended(right, "streaming")
        await page.reload()
        await expect(turn(left, 0).locator("[data-part=text]")).to_have_text("left ")
        await expect(turn(right, 1).locator("[data-part=text]")).to_have_text("오른쪽 ")
        await left.locator("[data-part=stop]").click()
        await ended(left, "cancelled", 0)
        await ended(right, "streaming", 1)
        await right_gate.open()
        await ended(right, "completed", 1)
        await page.reload()
        for pane in (left, right):
            await ended(pane, "cancelled", 0)
            await ended(pane, "completed", 1)
            assert [await text_of(pane, 0), await text_of(pane, 1)] == ["left", "오른쪽 👍"]
        assert len(ai.calls) == 2


async def test_a_failure_on_the_real_service_can_be_retried(browser, service, ai):
    ai.script(say("half", reason=None, with_done=False), say("whole"))
    async with visiting(browser, service.url) as visitor:
        page = await visitor.tab()
        await ask(page, "one")
        await ended(page, "failed")
        await turn(page).locator("[data-part=retry]").click()
        await ended(page, "completed")
        assert await text_of(page) == "whole"
