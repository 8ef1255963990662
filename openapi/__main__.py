"""Writes the document: `make openapi`."""

from __future__ import annotations

from pathlib import Path

from openapi.document import PLACE, text

if __name__ == "__main__":
    Path(PLACE).write_text(text(), encoding="utf-8")
