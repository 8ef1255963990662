"""An internal extension that asks for no event. Where one is registered, Lambda sends SIGTERM before it ends an
environment, and waits half a second; where none is, it ends it without a word and connections stay open in the stores.

Source: AWS Lambda developer guide, "Using the Lambda Extensions API to create extensions", "Understanding the Lambda
execution environment lifecycle" (shutdown phase). AWS's runtime client for Rust does the same.
"""

from __future__ import annotations

import asyncio

from lambda_stream._errors import RuntimeApiError
from lambda_stream._log import logger
from lambda_stream._runtime_api import RuntimeApi

NAME = "lambda_stream"
_PAUSE_SECONDS = 1.0


class ShutdownExtension:
    """Registered during init, it then waits for an event that never comes. Nothing fails without it."""

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._task: asyncio.Task[None] | None = None
        self._is_settled = asyncio.Event()

    def start(self) -> None:
        """Begin to register."""
        self._task = asyncio.create_task(self._run())

    async def settled(self) -> None:
        """Wait until it is registered or has given up, as must be before the first poll; within bounds."""
        await self._is_settled.wait()

    async def stop(self) -> None:
        """Wait for no event any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._api.timeouts.connect):
                identifier = await self._api.register_extension(NAME)
        except (RuntimeApiError, TimeoutError) as error:
            logger.info(f"no SIGTERM will announce the end of this environment: {error}")
            return
        finally:
            self._is_settled.set()
        while True:
            try:
                await self._api.next_extension_event(identifier)
            except RuntimeApiError as error:
                logger.info(f"waiting for the end of this environment failed, trying again: {error}")
                await asyncio.sleep(_PAUSE_SECONDS)
