"""Fixtures for pytest with pytest-asyncio: `pytest_plugins = ["lambda_stream.testing.fixtures"]` in conftest.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from lambda_stream.testing import RuntimeApi


@pytest_asyncio.fixture
async def runtime_api() -> AsyncIterator[RuntimeApi]:
    """The Runtime API of one execution environment."""
    async with RuntimeApi() as api:
        yield api
