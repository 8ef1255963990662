"""What is sent to the AI. Pure. Source: the reference of OpenAI's Chat Completions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from chat.domain.model import ChatMessage

_OTHER_OPTION = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_REFUSALS = (b"unsupported parameter", b"unsupported_parameter", b"extra inputs", b"extra_forbidden", b"unrecognized")
"""What services say of a member that they do not take, whether or not they name it."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which of the options that differ between services and models one of them takes."""

    asks_for_usage: bool = True
    tokens_option: str = "max_tokens"

    def alternatives(self, complaint: bytes, body: Mapping[str, object]) -> list[Dialect]:
        """Return the dialects to try next, the likeliest first, judging by the service's complaint.

        Empty when that is about something else, such as a member of the operator's `body`.
        """
        named = {name for name in ("stream_options", *_OTHER_OPTION) if name.encode() in complaint}
        if self.asks_for_usage and "stream_options" in named:
            return [replace(self, asks_for_usage=False)]
        if self.tokens_option in named and not self._is_fixed(body):
            return [replace(self, tokens_option=_OTHER_OPTION[self.tokens_option])]
        if named or any(member.encode() in complaint for member in body):
            return []
        if not any(words in complaint.lower() for words in _REFUSALS):
            return []
        return [
            Dialect(asks_for_usage, tokens_option)
            for tokens_option in ([self.tokens_option] if self._is_fixed(body) else _OTHER_OPTION)
            for asks_for_usage in (True, False)
        ]

    def encode(
        self, model: str, turns: Sequence[ChatMessage], max_tokens: int, more: Mapping[str, object] | None = None
    ) -> bytes:
        """Return the body of a request for a streamed answer, as JSON in UTF-8, with `more` members laid into it."""
        more = more or {}
        body: dict[str, object] = {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            "stream": True,
        }
        if not self._is_fixed(more):
            body[self.tokens_option] = max_tokens
        if self.asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        return json.dumps(body | dict(more), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def _is_fixed(self, body: Mapping[str, object]) -> bool:
        """Tell whether the operator's body limits the tokens itself."""
        return not _OTHER_OPTION.keys().isdisjoint(body)
