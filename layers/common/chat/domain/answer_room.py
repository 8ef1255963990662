"""How much an answer may still say before its store would refuse it. Pure."""

from __future__ import annotations

from collections.abc import Callable

_MOST_BYTES = 4
"""Of one character, in UTF-8 or escaped."""
_NO_LIMIT = 2**62
_ESCAPED = ("\\", "'", '"', "\n", "\r", "\0", "\x1a")
"""Source: MySQL reference manual, "String Literals"."""


def stored_bytes(text: str) -> int:
    """Return the length of `text` in a statement: in UTF-8, each character that has to be escaped one byte longer."""
    return len(text.encode(errors="replace")) + sum(text.count(character) for character in _ESCAPED)


class AnswerRoom:
    """Lets text pass until the room is used up. Counts bytes only where characters cannot tell."""

    def __init__(self, max_bytes: int | None, said: Callable[[], tuple[str, str]]) -> None:
        """Begin with all the room; `said` returns the text and the reasoning that have passed."""
        self.is_full = False
        self._max_bytes, self._said = _NO_LIMIT if max_bytes is None else max_bytes, said
        self._sure = self._max_bytes // _MOST_BYTES
        """So many characters fit, whatever they are."""

    def fit(self, text: str) -> str:
        """Return as much of `text` as there is room for, and take that room."""
        if len(text) <= self._sure:
            self._sure -= len(text)
            return text
        if self.is_full:
            return ""
        left = self._max_bytes - sum(map(stored_bytes, self._said()))
        size = stored_bytes(text)
        if size > left:
            self.is_full = True
            text = _cut(text, max(left, 0))
            size = stored_bytes(text)
        self._sure = max(left - size, 0) // _MOST_BYTES
        return text


def _cut(text: str, most_bytes: int) -> str:
    """Return the longest beginning of `text` that takes at most so many bytes."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if stored_bytes(text[:middle]) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    return text[:low]
