"""Whole events as Lambda Function URLs deliver them, from `tests/events`; `other_*` are events of other services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent.parent / "events"


def load_event(name: str, **changes: Any) -> dict[str, Any]:
    """Return an event, with top-level members replaced; `method`, `path` and `headers` go where they belong."""
    event: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    if "method" in changes:
        event["requestContext"]["http"]["method"] = changes.pop("method")
    if "path" in changes:
        event["rawPath"] = event["requestContext"]["http"]["path"] = changes.pop("path")
    event["headers"] = event.get("headers", {}) | changes.pop("headers", {})
    return event | changes


def event_names(own: bool = True) -> list[str]:
    """Name the Function URL events, or the others."""
    return sorted(path.stem for path in _FOLDER.glob("*.json") if path.stem.startswith("other_") is not own)
