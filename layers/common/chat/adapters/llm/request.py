"""What is sent to the AI. Pure. Source: the reference of OpenAI's Chat Completions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chat.domain.model import ChatMessage

_OTHER_OPTION = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which of the options that differ between services this one takes."""

    asks_for_usage: bool = True
    tokens_option: str = "max_tokens"

    def adapted(self, complaint: bytes) -> Dialect | None:
        """Return the dialect to try next, judging by the names in the service's complaint; None when there is none.

        What is learnt may be wrong for the model that is asked later, so both options lead to each other.
        """
        if self.asks_for_usage and b"stream_options" in complaint:
            return replace(self, asks_for_usage=False)
        if self.tokens_option.encode() in complaint:
            return replace(self, tokens_option=_OTHER_OPTION[self.tokens_option])
        return None

    def encode(self, model: str, turns: Sequence[ChatMessage], max_tokens: int) -> bytes:
        """Return the body of a request for a streamed answer, as JSON in UTF-8."""
        body: dict[str, object] = {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            "stream": True,
            self.tokens_option: max_tokens,
        }
        if self.asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
