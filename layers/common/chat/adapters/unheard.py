"""A journal that nobody reads."""

from __future__ import annotations

from typing import Any


class Unheard:
    """Takes every note and keeps none."""

    def started(self, *_: Any) -> None: ...

    def first_delta(self, *_: Any) -> None: ...

    def ended(self, *_: Any) -> None: ...

    def cancelled(self, *_: Any) -> None: ...

    def reaped(self, *_: Any) -> None: ...

    def fallback(self, *_: Any) -> None: ...
