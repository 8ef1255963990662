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

MAX_CANDIDATES = 4
"""How many chunks of an answer are tried as templates; where none lasts, no more time is spent on them."""
_MAX_DIGITS = 4000
"""Longer integers Python refuses to convert (sys.get_int_max_str_digits); as a float they are merely infinite."""
_HOLES = re.compile(
    rb'"content":\s*"(?P<text>[^"\\]+)"'
    rb'(?:[^\\]*"obfuscation":\s*"(?P<padding>[^"\\]+)")?'  # OpenAI pads chunks to hide the length of their text
)


def _any_int(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else float(digits)


_raw_decode = json.JSONDecoder(strict=False).raw_decode  # lenient: control characters in strings are kept
_raw_decode_any = json.JSONDecoder(strict=False, parse_int=_any_int).raw_decode


def decode(data: bytes) -> dict[str, Any]:
    """Decode a JSON object.

    Raises:
        ValueError, RecursionError: it is none.
    """
    text = data.decode("utf-8", "surrogatepass").strip()
    try:
        value, end = _raw_decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number with too many digits
        value, end = _raw_decode_any(text)
    if end != len(text) or not isinstance(value, dict):
        raise ValueError("not one JSON object")
    return value


class DeltaFastPath:
    """Begins empty; `text_in` answers nothing until `learn` has been given a chunk."""

    def __init__(self) -> None:
        self._candidates_left = MAX_CANDIDATES
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
        return self._candidates_left > 0 and b"\\" not in data

    def learn(self, data: bytes, chunk: dict[str, Any]) -> None:
        """Take the chunk as the template if it can be one.

        It has been decoded from `data`, says nothing but the text of its first choice, and is used up by this.

        Raises:
            RecursionError: it is nested too deep to be compared.
        """
        self._candidates_left -= 1
        found = _HOLES.search(data)
        if found is None:
            return
        has_padding = found["padding"] is not None and isinstance(chunk.get("obfuscation"), str)
        start, end = found.span("text")
        padding_start, padding_end = found.span("padding") if has_padding else (len(data), len(data))
        middle, after = data[end:padding_start], data[padding_end:]
        padding = data[padding_start:padding_end]
        changed = b"".join((data[:end], b"?", middle, padding, b"?" if has_padding else b"", after))
        chunk["choices"][0]["delta"]["content"] += "?"
        if has_padding:
            chunk["obfuscation"] += "?"
        if decode(changed) == chunk:
            self._before, self._middle, self._after = data[:start], middle, after
