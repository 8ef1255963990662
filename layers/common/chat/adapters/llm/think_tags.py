"""Reasoning that stands in the text between tags, as open models write it: `<think>Hm</think>Yes`. Pure.

Only at the very beginning of an answer, white space aside, and only whole tags: later ones are the answer's own words.
Source: the chat templates of DeepSeek R1 and Qwen 3, and servers that do not take the tags apart themselves.
"""

from __future__ import annotations

from enum import Enum, auto

MAX_HELD_CHARS = 256
"""How much white space is held because a tag may follow that takes it away."""
_CLOSING = {"<think>": "</think>", "<thinking>": "</thinking>"}


class _State(Enum):
    BEFORE = auto()
    """Nothing but white space or the beginning of a tag has come."""
    REASONING = auto()
    AFTER = auto()
    """The reasoning has ended; white space before the text belongs to neither."""
    TEXT = auto()


class ThinkTags:
    """Splits the text of one answer; nothing is held for longer than a tag needs to be told from text."""

    def __init__(self, is_on: bool = True) -> None:
        self._state = _State.BEFORE if is_on else _State.TEXT
        self._closing = ""
        self._held = ""
        self._has_reasoning = False

    @property
    def is_over(self) -> bool:
        """Whether all that follows is text."""
        return self._state is _State.TEXT

    def split(self, text: str) -> tuple[str, str]:
        """Return what `text` completes as reasoning and as text; either may be empty."""
        text, self._held = self._held + text, ""
        reasoning = ""
        if self._state is _State.BEFORE:
            text = self._open(text)
        if self._state is _State.REASONING:
            reasoning, text = self._close(text)
        if self._state is _State.AFTER and (text := text.lstrip()):
            self._state = _State.TEXT
        return reasoning, text

    def flush(self) -> tuple[str, str]:
        """Return what was held, at the end of the answer: without a closing tag all of it is reasoning."""
        rest, self._held = self._held, ""
        return (rest, "") if self._state is _State.REASONING else ("", rest)

    def _open(self, text: str) -> str:
        """Look for the opening tag and return what follows it, or all of the text if there is none."""
        start = text.lstrip()
        for tag, closing in _CLOSING.items():
            if start.startswith(tag):
                self._state, self._closing = _State.REASONING, closing
                return start[len(tag) :]
        if len(text) <= MAX_HELD_CHARS and any(tag.startswith(start) for tag in _CLOSING):
            self._held = text
            return ""
        self._state = _State.TEXT
        return text

    def _close(self, text: str) -> tuple[str, str]:
        """Return the reasoning in `text` without the white space at its ends, and what follows the closing tag."""
        if not self._has_reasoning:
            text = text.lstrip()
        reasoning, tag, rest = text.partition(self._closing)
        if tag:
            self._state = _State.AFTER
            return reasoning.rstrip(), rest
        reasoning = _without_beginning_of(self._closing, text)
        if len(text) - len(kept := reasoning.rstrip()) <= MAX_HELD_CHARS:
            reasoning = kept
        self._held = text[len(reasoning) :]
        self._has_reasoning = self._has_reasoning or bool(reasoning)
        return reasoning, ""


def _without_beginning_of(tag: str, text: str) -> str:
    """Return `text` less what its end has of the beginning of `tag`."""
    for length in range(min(len(text), len(tag) - 1), 0, -1):
        if text.endswith(tag[:length]):
            return text[:-length]
    return text
