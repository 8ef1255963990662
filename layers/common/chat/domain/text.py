"""What a text says to a reader. Pure."""

from __future__ import annotations

import re
import unicodedata

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Zs", "Zl", "Zp"}
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
"""Marks, letters and symbols that are blank by definition: joiners, fillers, variation selectors."""


def is_blank(text: str) -> bool:
    """Tell whether a reader sees nothing: white space, control, format and zero-width characters only, or no text.

    Source: Unicode Standard, section 5.21 (default ignorable code points).
    """
    return all(
        unicodedata.category(character) in _INVISIBLE_CATEGORIES or _INVISIBLE.match(character) for character in text
    )


def on_one_line(text: str) -> str:
    """Return `text` with a space for each control character and line separator, and without spaces around it."""
    return _CONTROL.sub(" ", text).strip()
