"""The page's list of chats, their addresses, and the branches of a chat, in Chromium on a scripted stub."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.kit.ai_server import AIServer, Gate, say
from tests.kit.browser import chromium, visiting
from tests.kit.service import running
from tests.kit.stub_service import Hold, Refuse, StubService
from tests.kit.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("page_chats"), pytest.mark.asyncio(loop_scope="module")]
expect.set_options(timeout=20_000)

SKY, SEOUL, OLD = (f"0190a0b0-0000-7000-8000-00000000000{number}" for number in range(3))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def stub():
    async with StubService() as stub:
        for chat_id, title, days in [(OLD, "An old one", 400), (SEOUL, "서울에서 하루", 1), (SKY, "The blue sky", 0)]:
            when = datetime.now(UTC) - timedelta(days=days)
            stub.chats[chat_id] = {"title": title, "updatedAt": when.isoformat()}
        yield stub


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(browser, stub):
    async with visiting(browser, stub.url) as visitor:
        yield visitor


@pytest_asyncio.fixture(loop_scope="module")
async def page(visitor):
    return await visitor.tab()


def field(page):
    return page.get_by_role("textbox", name="Write a message")


async def ask(page, text):
    await field(page).fill(text)
    await field(page).press("Enter")


def turn(page, number=-1):
    return page.locator(".turn").nth(number)


async def ended(page, status, number=-1):
    await expect(turn(page, number)).to_have_attribute("data-status", status)


def item(page, title):
    return page.locator("#chats li").filter(has_text=title)


def answer(page, number=-1):
    return turn(page, number).locator(".answer")


def text(page, number=-1):
    return answer(page, number).locator("[data-part=text]")


# ---- the list


async def test_chats_are_listed_by_day_newest_first(page):
    await expect(page.locator("#chats .chat-title")).to_have_text(["The blue sky", "서울에서 하루", "An old one"])
    days = await page.locator("#chats h2").all_text_contents()
    assert days[:2] == ["Today", "Yesterday"]
    assert str(datetime.now(UTC).year - 1) in days[2] or str(datetime.now(UTC).year - 2) in days[2]


async def test_a_chat_has_an_address_and_back_and_forward_lead_through_them(stub, page):
    await item(page, "서울").locator("a").click()
    await expect(page).to_have_url(f"{stub.url}/c/{SEOUL}")
    await ask(page, "안녕")
    await ended(page, "completed")
    await item(page, "sky").locator("a").click()
    await expect(page).to_have_url(f"{stub.url}/c/{SKY}")
    await expect(page.locator(".turn")).to_have_count(0)
    await page.go_back()
    await expect(text(page)).to_have_text("You said: 안녕")
    await expect(item(page, "서울").locator("a")).to_have_attribute("aria-current", "page")
    await page.go_forward()
    await expect(page.locator(".turn")).to_have_count(0)
    await page.go_back()
    await page.reload()
    await expect(text(page)).to_have_text("You said: 안녕")


async def test_a_new_chat_gets_its_address_with_its_first_message_and_is_listed(stub, page):
    await ask(page, "Tell me")
    await ended(page, "completed")
    [created] = stub.sent("POST", "/stream")
    assert page.url == f"{stub.url}{created.path.replace('/api/chat/', '/c/').removesuffix('/stream')}"
    await expect(item(page, "Tell me").locator("a")).to_have_attribute("aria-current", "page")
    await page.keyboard.press("Control+Shift+O")
    await expect(page).to_have_url(f"{stub.url}/")
    await expect(page.locator(".turn")).to_have_count(0)


async def test_a_chat_is_found_by_its_words_in_korean_too(stub, page):
    await page.keyboard.press("Control+k")
    await page.keyboard.type("서울")
    await expect(page.locator("#chats .chat-title")).to_have_text(["서울에서 하루"])
    assert stub.sent("GET", "/api/chats")[-1].query["q"] == "서울"
    await page.get_by_role("searchbox").fill("nowhere")
    await expect(page.locator("#chats p")).to_have_text("Nothing found.")


async def test_a_long_list_is_loaded_a_page_at_a_time(stub, page):
    for number in range(40):
        stub.chats[f"0190a0b0-0000-7000-8000-0000000001{number:02}"] = {"title": f"Number {number}"}
    await page.reload()
    await expect(page.locator("#chats li")).to_have_count(30)
    await page.get_by_role("button", name="Show more").click()
    await expect(page.locator("#chats li")).to_have_count(43)
    await expect(page.get_by_role("button", name="Show more")).to_have_count(0)


async def test_a_chat_is_renamed_with_the_keyboard(stub, page):
    await item(page, "sky").locator("a").focus()
    await page.keyboard.press("F2")
    await page.keyboard.type("Rayleigh")
    await page.keyboard.press("Enter")
    await expect(item(page, "Rayleigh").locator("a")).to_be_focused()
    await until(lambda: stub.chats[SKY]["title"] == "Rayleigh")
    await page.keyboard.press("F2")
    await page.keyboard.type("Not kept")
    await page.keyboard.press("Escape")
    await expect(item(page, "Rayleigh")).to_be_visible()
    assert len(stub.sent("PATCH", SKY)) == 1


async def test_a_name_that_is_left_is_kept_and_the_focus_is_not_taken_back(stub, page):
    await item(page, "sky").hover()
    await item(page, "sky").locator(".tool").click()
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_role("menuitem", name="Delete")).to_be_focused()
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    await page.keyboard.type("Rayleigh")
    await field(page).click()
    await until(lambda: stub.chats[SKY]["title"] == "Rayleigh")
    await expect(field(page)).to_be_focused()


async def test_a_chat_is_listed_as_soon_as_its_first_answer_has_begun(stub, page):
    stub.scripts.append(["so far", asyncio.Event()])
    await ask(page, "Tell me")
    await expect(item(page, "Tell me")).to_be_visible()
    await ended(page, "streaming")


async def test_a_deleted_chat_can_be_taken_back_and_is_then_still_whole(stub, page):
    await item(page, "sky").locator("a").click()
    await item(page, "sky").locator(".tool").click()
    await page.get_by_role("menuitem", name="Delete").click()
    await expect(item(page, "sky")).to_have_count(0)
    await expect(page).to_have_url(f"{stub.url}/")
    await page.get_by_role("button", name="Undo").click()
    await expect(item(page, "sky")).to_be_visible()
    await expect(page).to_have_url(f"{stub.url}/c/{SKY}")
    assert stub.sent("DELETE", SKY) == []


async def test_a_deleted_chat_is_gone_when_nobody_takes_it_back(stub, page):
    await page.clock.install()
    await item(page, "sky").locator("a").focus()
    await page.keyboard.press("Delete")
    await expect(item(page, "sky")).to_have_count(0)
    assert SKY in stub.chats
    await page.clock.run_for(7_100)
    await until(lambda: SKY not in stub.chats)
    await expect(page.get_by_role("button", name="Undo")).not_to_be_visible()


async def test_a_deleted_chat_is_gone_when_the_page_is_left_before(stub, page):
    await item(page, "sky").locator("a").focus()
    await page.keyboard.press("Delete")
    await page.goto("about:blank")
    await until(lambda: SKY not in stub.chats)


async def test_another_tab_learns_of_new_chats_and_leaves_deleted_ones(stub, visitor, page):
    other = await visitor.tab(f"{stub.url}/c/{SKY}")
    await ask(page, "From here")
    await ended(page, "completed")
    await expect(item(other, "From here")).to_be_visible()
    await page.clock.install()
    await item(page, "sky").locator("a").focus()
    await page.keyboard.press("Delete")
    await page.clock.run_for(7_100)
    await expect(other).to_have_url(f"{stub.url}/")
    await expect(item(other, "sky")).to_have_count(0)


async def test_the_list_is_a_drawer_on_a_phone(browser, stub):
    async with visiting(browser, stub.url, viewport={"width": 360, "height": 640}) as visitor:
        page = await visitor.tab()
        await expect(page.locator("#side")).not_to_be_visible()
        await page.get_by_role("button", name="Show chats").click()
        await expect(page.locator("#column")).to_have_attribute("inert", "")
        await page.keyboard.press("Escape")
        await expect(page.locator("#side")).not_to_be_visible()
        await expect(page.get_by_role("button", name="Show chats")).to_be_focused()
        await page.get_by_role("button", name="Show chats").click()
        await item(page, "sky").locator("a").click()
        await expect(page.locator("#side")).not_to_be_visible()
        await expect(page).to_have_url(f"{stub.url}/c/{SKY}")


async def test_without_the_list_the_rest_still_works(stub, page):
    stub.chats.clear()
    stub.refuses_lists = True
    await page.reload()
    await expect(page.locator("#chats p")).to_have_text("The list of chats cannot be loaded.")
    await ask(page, "hello")
    await ended(page, "completed")


# ---- branches


async def test_an_answer_is_given_again_and_its_versions_are_leafed_through(stub, page):
    stub.scripts.extend([["first"], ["second"]])
    await ask(page, "Why?")
    await ended(page, "completed")
    await answer(page).get_by_role("button", name="Answer again").click()
    await expect(text(page)).to_have_text("second")
    await ended(page, "completed")
    await expect(answer(page).locator("[data-part=version]")).to_have_text("2 / 2")
    await answer(page).get_by_role("button", name="Earlier version").click()
    await expect(text(page)).to_have_text("first")
    await expect(answer(page).locator("[data-part=version]")).to_have_text("1 / 2")
    await page.reload()
    await expect(text(page)).to_have_text("second")
    again = stub.sent("POST", "/stream")[1].json
    assert again["regenerate"]["userMessageId"] == stub.generations[0].identity.user_message_id
    assert "content" not in again
    assert await page.locator(".turn").count() == 1


async def test_a_lost_request_for_another_answer_is_made_again_as_the_same(stub, page):
    stub.scripts.extend([["first"], ["second"]])
    await ask(page, "Why?")
    await ended(page, "completed")
    stub.faults.append(Hold())
    await answer(page).get_by_role("button", name="Answer again").click()
    await until(lambda: len(stub.sent("POST", "/stream")) == 2)
    await page.reload()
    await expect(text(page)).to_have_text("second")
    await ended(page, "completed")
    _, one, two = stub.sent("POST", "/stream")
    assert one.body == two.body
    assert len(stub.generations) == 2


async def test_a_message_goes_on_from_the_version_that_is_shown(stub, page):
    stub.scripts.extend([["first"], ["second"]])
    await ask(page, "Why?")
    await ended(page, "completed")
    await answer(page).get_by_role("button", name="Answer again").click()
    await expect(answer(page).locator("[data-part=version]")).to_have_text("2 / 2")
    await ended(page, "completed")
    await ask(page, "on the newest branch")
    await ended(page, "completed", 1)
    assert "parentMessageId" not in stub.sent("POST", "/stream")[-1].json
    await answer(page, 0).get_by_role("button", name="Earlier version").click()
    await expect(page.locator(".turn")).to_have_count(1)
    await ask(page, "on the older one")
    await ended(page, "completed", 1)
    assert stub.sent("POST", "/stream")[-1].json["parentMessageId"] == stub.generations[0].identity.message_id
    await expect(text(page, 0)).to_have_text("first")
    await answer(page, 0).get_by_role("button", name="Later version").click()
    await expect(text(page, 1)).to_have_text("You said: on the newest branch")


async def test_an_edited_message_begins_a_branch_and_the_old_one_stays(stub, page):
    await ask(page, "one")
    await ended(page, "completed")
    await ask(page, "two")
    await ended(page, "completed", 1)
    await turn(page, 0).get_by_role("button", name="Edit").click()
    editor = page.get_by_role("textbox", name="Edit the message")
    await expect(editor).to_have_value("one")
    await editor.fill("uno")
    await editor.press("Enter")
    await expect(text(page)).to_have_text("You said: uno")
    await expect(page.locator(".turn")).to_have_count(1)
    sent = stub.sent("POST", "/stream")[-1].json
    assert (sent["content"], sent["parentMessageId"]) == ("uno", None)
    await ended(page, "completed")
    await turn(page, 0).locator(".question").get_by_role("button", name="Earlier version").click()
    await expect(page.locator(".turn")).to_have_count(2)
    await expect(text(page, 1)).to_have_text("You said: two")


async def test_an_edit_is_left_with_escape_and_nothing_is_sent(stub, page):
    await ask(page, "one")
    await ended(page, "completed")
    await turn(page).get_by_role("button", name="Edit").click()
    await page.get_by_role("textbox", name="Edit the message").press("Escape")
    await expect(turn(page).get_by_role("button", name="Edit")).to_be_focused()
    await expect(turn(page).locator("[data-part=question]")).to_have_text("one")
    assert len(stub.sent("POST", "/stream")) == 1


async def test_who_writes_on_while_an_answer_is_running_stops_it_with_the_next_message(stub, page):
    stub.scripts.extend([["long ", asyncio.Event(), "story"], ["short"]])
    await ask(page, "Tell me a story")
    await expect(text(page)).to_have_text("long")
    await expect(page.get_by_role("button", name="Send", exact=True)).not_to_be_visible()
    await field(page).fill("No, a short one")
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    await field(page).press("Enter")
    await ended(page, "completed", 1)
    await ended(page, "cancelled", 0)
    assert (await text(page, 0).text_content(), await text(page, 1).text_content()) == ("long", "short")
    assert stub.sent("POST", "/stream")[1].json["onBusy"] == "cancel"
    await expect(page.get_by_role("button", name="Stop")).not_to_be_visible()


async def test_an_answer_that_was_left_running_is_taken_up_again(stub, page):
    gate = asyncio.Event()
    stub.scripts.append(["before ", gate, "after"])
    await ask(page, "hello")
    await ended(page, "streaming")
    await item(page, "sky").locator("a").click()
    await expect(page.locator(".turn")).to_have_count(0)
    await page.go_back()
    await expect(text(page)).to_have_text("before")
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    gate.set()
    await ended(page, "completed")
    await expect(text(page)).to_have_text("before after")
    assert len(stub.generations) == 1
    assert len(stub.sent("GET", "/stream")) == 1


async def test_earlier_messages_are_loaded_when_they_are_wanted(stub, page):
    await page.goto(f"{stub.url}/c/{SKY}")
    for number in range(4):
        await ask(page, f"question {number}")
        await ended(page, "completed", number)
    stub.page_of_messages = 3
    await page.reload()
    await expect(page.locator(".turn")).to_have_count(1)
    for turns in (3, 4):
        await page.get_by_role("button", name="Show earlier messages").click()
        await expect(page.locator(".turn")).to_have_count(turns)
    await expect(page.locator("[data-part=question]")).to_have_text([f"question {number}" for number in range(4)])
    await expect(page.get_by_role("button", name="Show earlier messages")).not_to_be_visible()


async def test_an_answer_is_rated_and_the_rating_taken_back(stub, page):
    await ask(page, "hello")
    await ended(page, "completed")
    up, message_id = answer(page).get_by_role("button", name="Good answer"), stub.generations[0].identity.message_id
    await up.click()
    await expect(up).to_have_attribute("aria-pressed", "true")
    await until(lambda: stub.feedback.get(message_id) == {"rating": "up"})
    await page.get_by_role("textbox", name="Why?").fill("clear")
    await page.keyboard.press("Enter")
    await until(lambda: stub.feedback.get(message_id) == {"rating": "up", "comment": "clear"})
    await page.reload()
    await expect(up).to_have_attribute("aria-pressed", "true")
    await up.click()
    await expect(up).to_have_attribute("aria-pressed", "false")
    await until(lambda: stub.feedback[message_id] is None)


async def test_the_model_is_chosen_where_there_are_several(stub, visitor, page):
    await expect(page.get_by_role("combobox", name="Model")).to_have_count(0)
    stub.models = [{"id": "small", "default": True}, {"id": "large", "label": "The large one", "default": False}]
    await page.reload()
    await page.get_by_role("combobox", name="Model").select_option("The large one")
    await ask(page, "hello")
    await ended(page, "completed")
    assert stub.sent("POST", "/stream")[0].json["model"] == "large"
    await answer(page).locator("summary").last.click()
    await expect(answer(page).locator("[data-part=facts]")).to_contain_text("large")
    await page.get_by_role("combobox", name="Model").select_option("small")
    await until(lambda: stub.sent("PATCH", ""))
    other = await visitor.tab(page.url)
    await expect(other.get_by_role("combobox", name="Model")).to_have_value("small")


async def test_messages_that_cannot_be_loaded_are_said_to_be_so(stub, page):
    stub.message_faults.append(Refuse(503, "storage_unavailable"))
    await page.goto(f"{stub.url}/c/{SKY}")
    await expect(page.locator("[data-part=notice]")).to_have_text("The messages of this chat cannot be loaded.")


# ---- the real service


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ai():
    async with AIServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(ai):
    with running({"OPENAI_BASE_URL": ai.url, "OPENAI_API_KEY": "none", "OPENAI_MODEL": "scripted"}) as service:
        yield service


async def test_chats_of_the_real_service_are_found_renamed_branched_and_deleted(browser, service, ai):
    ai.script(*(say(f"answer {number}") for number in range(3)))
    async with visiting(browser, service.url) as visitor:
        page = await visitor.tab()
        for question in ("하늘은 왜 파란가요?", "What is rain?", "서울에서 하루를 보낸다면?"):
            await page.locator("#new").click()
            await ask(page, question)
            await ended(page, "completed")
        await expect(page.locator("#chats li")).to_have_count(3)
        await page.get_by_role("searchbox").fill("파란")
        await expect(page.locator("#chats .chat-title")).to_have_text(["하늘은 왜 파란가요?"])
        await page.get_by_role("searchbox").fill("")
        await item(page, "rain").locator("a").focus()
        await page.keyboard.press("F2")
        await page.keyboard.type("Water")
        await page.keyboard.press("Enter")
        await item(page, "Water").locator("a").click()
        await expect(text(page)).to_have_text("answer 1")

        ai.script(say("another"), say("of the edited"))
        await answer(page).get_by_role("button", name="Answer again").click()
        await expect(text(page)).to_have_text("another")
        await ended(page, "completed")
        await turn(page).get_by_role("button", name="Edit").click()
        await page.get_by_role("textbox", name="Edit the message").fill("What is snow?")
        await page.keyboard.press("Enter")
        await expect(text(page)).to_have_text("of the edited")
        await ended(page, "completed")
        await answer(page).get_by_role("button", name="Good answer").click()
        await expect(answer(page).get_by_role("textbox", name="Why?")).to_be_visible()
        await page.reload()
        await expect(text(page)).to_have_text("of the edited")
        await expect(answer(page).get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
        await turn(page).locator(".question").get_by_role("button", name="Earlier version").click()
        await expect(text(page)).to_have_text("another")
        await expect(answer(page).locator("[data-part=version]")).to_have_text("2 / 2")
        assert ai.calls[-1].json["messages"][-1]["content"] == "What is snow?"


async def test_a_chat_is_deleted_on_the_real_service_while_it_streams_in_another_tab(browser, service, ai):
    gate = Gate()
    ai.script(say("going ", "on", gate=gate))
    async with visiting(browser, service.url) as visitor:
        page = await visitor.tab()
        await ask(page, "Tell me")
        await gate.release()
        await ended(page, "streaming")
        other = await visitor.tab(page.url)
        await expect(text(other)).to_have_text("going")
        await other.clock.install()
        await item(other, "Tell me").locator("a").focus()
        await other.keyboard.press("Delete")
        await other.clock.run_for(7_100)
        await expect(page).to_have_url(f"{service.url}/")
        await expect(page.locator("#chats li")).to_have_count(0)
