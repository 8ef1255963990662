"""An application that is built anew where its process goes on from a snapshot, so that nothing of before is in use."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from chat.settings import SettingsError


class Rebuilt:
    """Built at once, so that a wrong setting shows at import; and again at every start but the first, or on demand.

    A start is the lifespan's: lambda_stream starts an application before the snapshot and after each restore. A server
    without lifespan calls `rebuild`.
    """

    def __init__(self, build: Callable[[], ASGIApp]) -> None:
        self._build = build
        self._app = build()
        self._was_started = False

    def rebuild(self) -> None:
        """Read the settings anew, secrets included, and build; what was built before is not closed.

        Raises:
            SettingsError: one is missing or wrong, or cannot be read.
        """
        self._app = self._build()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and self._was_started:
            try:
                self.rebuild()
            except SettingsError as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": f"SettingsError: {error}"})
                return
        self._was_started = self._was_started or scope["type"] == "lifespan"
        await self._app(scope, receive, send)
