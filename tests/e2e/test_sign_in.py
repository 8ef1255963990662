"""The page signs in with an OpenID provider, in Chromium on the real service; the example for Cognito likewise."""

import asyncio
import shutil
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from local.server import listen, port_of, serving
from tests.kit.ai_server import AIServer, say
from tests.kit.browser import chromium
from tests.kit.openid_provider import CLIENT_ID, OpenIdProvider
from tests.kit.service import running

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("page_chats"), pytest.mark.asyncio(loop_scope="module")]
expect.set_options(timeout=20_000)
ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def provider():
    async with OpenIdProvider() as provider:
        yield provider


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(provider):
    async with AIServer() as ai:
        ai.default = say("안녕", "하세요 👋")
        environ = {
            "OPENAI_BASE_URL": ai.url,
            "CHAT_AUTH": "jwt",
            "CHAT_JWT_ISSUER": provider.url,
            "CHAT_JWT_AUDIENCE": CLIENT_ID,
            "CHAT_PAGE_CLIENT_ID": CLIENT_ID,
        }
        loop, context = asyncio.get_running_loop(), running(environ)
        yield await loop.run_in_executor(None, context.__enter__)
        await loop.run_in_executor(None, context.__exit__, None, None, None)


@pytest_asyncio.fixture(loop_scope="module")
async def page(service):
    async with chromium() as browser:
        context = await browser.new_context(locale="en-US")
        page = await context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        yield page
        assert page.complaints == []


async def test_who_signs_in_can_ask_and_the_token_stays_in_the_tab(page, service, provider):
    await page.goto(service.url)
    await page.get_by_role("button", name="Sign in").click()
    field = page.get_by_role("textbox", name="Write a message")
    await expect(page.locator("#account")).not_to_be_visible()
    await expect(page).to_have_url(f"{service.url}/")
    await field.fill("Hello")
    await field.press("Enter")
    await expect(page.locator(".turn").last).to_contain_text("안녕하세요 👋")
    redeemed = provider.redeemed
    await page.reload()
    await expect(page.locator(".turn").last).to_contain_text("안녕하세요 👋")
    assert provider.redeemed == redeemed
    assert await page.evaluate("Object.keys(localStorage).some((key) => localStorage[key].includes('eyJ'))") is False


async def test_who_is_refused_reads_why(page, service, provider):
    provider.refuses = "User is disabled."
    await page.goto(service.url)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#account-note")).to_have_text("You were not signed in: User is disabled.")
    provider.refuses = ""


async def test_what_nobody_asked_for_is_not_redeemed(page, service, provider):
    """A link with a code and a state of somebody else's (login CSRF)."""
    redeemed = provider.redeemed
    await page.goto(f"{service.url}/?code=stolen&state=forged")
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert provider.redeemed == redeemed


async def test_the_example_for_cognito_signs_in_and_asks(page, service, provider, tmp_path):
    """Served from an origin of its own, with the address of the provider in place of Cognito's."""
    for name in ("sse.js", "sign-in.js"):
        shutil.copy(ROOT / "local" / "page" / name, tmp_path)
    shutil.copy(ROOT / "examples" / "cognito" / "index.html", tmp_path)
    script = (ROOT / "examples" / "cognito" / "cognito.js").read_text()
    domain = "https://my-chat.auth.eu-central-1.amazoncognito.com/oauth2"
    assert script.count(domain) == 1
    script = script.replace(domain, provider.url).replace("CLIENT_ID_OF_THE_POOL", CLIENT_ID)
    (tmp_path / "cognito.js").write_text(script.replace('const url = ""', f'const url = "{service.url}"'))
    listener = listen()
    (tmp_path / "favicon.ico").touch()
    folder = Starlette(routes=[Mount("/", StaticFiles(directory=tmp_path, html=True))])
    async with serving(folder, [listener], 5, 1):
        await page.goto(f"http://localhost:{port_of(listener)}")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("textbox").fill("Hello")
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("output")).to_have_text("안녕하세요 👋")
        await page.goto("about:blank")
