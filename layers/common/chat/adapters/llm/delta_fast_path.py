"""A short cut for the chunks of an answer, which are alike but for a word: what is alike is not decoded again. Pure.

The last plain chunk is kept with holes where its text was. JSON is read from left to right, and between the quotes of a
string any characters but quotes and backslashes stand for themselves; so a chunk that differs from the kept one only
there says the same but for the text. That the holes are where they are thought to be is proved by decoding the chunk
once more with other words in them.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_LESSONS = 4
"""How many chunks of an answer are tried as templates; where none lasts, no more time is spent on them."""
_HOLES = re.compile(
    rb'"content":\s*"(?P<text>[^"\\]+)"'
    rb'(?:[^\\]*"obfuscation":\s*"(?P<noise>[^"\\]+)")?'  # OpenAI pads chunks with noise of changing length
)
_raw_decode = json.JSONDecoder(strict=False).raw_decode  # lenient: control characters in strings are kept


def decode(data: bytes) -> dict[str, Any]:
    """Decode a JSON object.

    Raises:
        ValueError, RecursionError: it is none.
    """
    text = data.decode("utf-8", "surrogatepass").strip()
    value, end = _raw_decode(text)
    if end != len(text) or not isinstance(value, dict):
        raise ValueError("not one JSON object")
    return value


class Template:
    """Begins empty; `text_in` answers nothing until `learn` has been given a chunk."""

    def __init__(self) -> None:
        self._lessons_left = MAX_LESSONS
        self._before = self._middle = self._after = b""

    def text_in(self, data: bytes) -> str | None:
        """Return the text of a chunk that is like the template, None if it has to be decoded."""
        if not self._before or not data.startswith(self._before) or data.find(b"\\", len(self._before)) >= 0:
            return None
        start = len(self._before)
        end = data.find(b'"', start)
        if not data.startswith(self._middle, end):
            return None
        rest = end + len(self._middle)
        if self._after and data[data.find(b'"', rest) :] != self._after:
            return None
        if not self._after and rest != len(data):
            return None
        try:
            return data[start:end].decode()
        except UnicodeDecodeError:
            return None

    def wants(self, data: bytes) -> bool:
        """Tell whether it is worth while to `learn` from this chunk."""
        return self._lessons_left > 0 and b"\\" not in data

    def learn(self, data: bytes, chunk: dict[str, Any]) -> None:
        """Take the chunk as the template if it can be one.

        It has been decoded from `data`, says nothing but the text of its first choice, and is used up by this.
        """
        self._lessons_left -= 1
        found = _HOLES.search(data)
        if found is None:
            return
        has_noise = found["noise"] is not None and isinstance(chunk.get("obfuscation"), str)
        start, end = found.span("text")
        noise_start, noise_end = found.span("noise") if has_noise else (len(data), len(data))
        middle, after = data[end:noise_start], data[noise_end:]
        changed = b"".join((data[:end], b"?", middle, data[noise_start:noise_end], b"?" if has_noise else b"", after))
        chunk["choices"][0]["delta"]["content"] += "?"
        if has_noise:
            chunk["obfuscation"] += "?"
        if decode(changed) == chunk:
            self._before, self._middle, self._after = data[:start], middle, after
