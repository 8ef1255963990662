"""Chromium as the tests' reader. Each visit is watched: an error of the page or a request elsewhere fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

EXPECTED_IN_CONSOLE = "Failed to load resource"
"""What Chromium itself says of a response that is an error; the tests of errors cause such."""


def need(*programs: str) -> None:
    """Skip the test without these programs; fail where everything was promised."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        unavailable(", ".join(missing))


def unavailable(what: str) -> NoReturn:
    """Skip the test for the lack of something; fail where everything was promised."""
    if os.environ.get("PROMISED_SERVERS"):
        pytest.fail(f"promised, but not here: {what}")
    pytest.skip(f"needs {what}")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start the system's Chromium."""
    need("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class Visitor:
    """One person with one browser; its tabs share storage. `complaints` must stay empty."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.complaints: list[str] = []

    async def tab(self, url: str = "") -> Page:
        page = await self.context.new_page()
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._requested(request.url))
        await page.goto(url or self.url)
        await page.wait_for_selector("textarea")
        return page

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and EXPECTED_IN_CONSOLE not in text:
            self.complaints.append(text)

    def _requested(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.url).netloc:
            self.complaints.append(f"asked elsewhere: {url}")


@asynccontextmanager
async def visiting(browser: Browser, url: str, **options: Any) -> AsyncIterator[Visitor]:
    """Open a browser context without history; `options` are Playwright's."""
    context = await browser.new_context(**{"viewport": {"width": 1000, "height": 700}, "locale": "en-US"} | options)
    context.set_default_timeout(20_000)
    visitor = Visitor(context, url)
    try:
        yield visitor
    finally:
        await context.close()
    assert visitor.complaints == []
