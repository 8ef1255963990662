"""A plain function that does what the body asks for: raise, exit, or wait at the test's gate."""

import json
import os
import socket


def handler(event, context):
    asked = json.loads(event.get("body") or "{}")
    if asked.get("do") == "raise":
        raise RuntimeError("as asked")
    if asked.get("do") == "exit":
        os._exit(3)
    if asked.get("gate"):
        with socket.create_connection(("127.0.0.1", asked["gate"])) as gate:
            gate.recv(1)
            gate.send(b"!")
    return {"pid": os.getpid()}
