"""Makes the synchronous client of the one for asyncio, as httpcore does: one source, two modules."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "src" / "aiva_chat_client"
WORDS = (
    ("The client for asyncio. `_sync.py` is made of it: python clients/python/unasync.py.",
     "The client for synchronous code. Made of `_async.py`: do not edit."),
    ("import asyncio\n", "import time\n"),
    ("asyncio.sleep", "time.sleep"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"AsyncGenerator\[(\w+), None\]", r"Generator[\1, None, None]"),
    ("AsyncGenerator", "Generator"),
    ("AsyncIterator", "Iterator"),
    ("AsyncBaseTransport", "BaseTransport"),
    ("AsyncClient", "Client"),
    ("AsyncChatClient", "ChatClient"),
    ("AsyncAnswer", "Answer"),
    ("__a(iter|enter|exit)__", r"__\1__"),
    (r"\baclosing\b", "closing"),
    (r"\.a(close|read|iter_sse)\(", r".\1("),
)  # fmt: skip


def synchronous(source: str) -> str:
    """Return the same module without async and await."""
    for pattern, word in WORDS:
        source = re.sub(pattern, word, source)
    return source


if __name__ == "__main__":
    (FOLDER / "_sync.py").write_text(synchronous((FOLDER / "_async.py").read_text()))
