"""A plain function that does what the body asks for: raise, exit, or wait for what is written to a FIFO."""

import json
import os
from pathlib import Path


def handler(event, context):
    asked = json.loads(event.get("body") or "{}")
    if asked.get("do") == "raise":
        raise RuntimeError("as asked")
    if asked.get("do") == "exit":
        os._exit(3)
    if asked.get("wait"):
        Path(asked["wait"]).read_bytes()
    return {"pid": os.getpid()}
