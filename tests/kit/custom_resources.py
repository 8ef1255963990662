"""What CloudFormation is to a custom resource: an event with an address, and whoever hears what is put there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Handler = Callable[[dict[str, Any], object], object]


def digest_handler(template: dict[str, Any]) -> Handler:
    """Return the handler that stands in the template's function Digest."""
    names: dict[str, Any] = {}
    exec(template["Resources"]["Digest"]["Properties"]["Code"]["ZipFile"], names)  # our own template
    handler: Handler = names["handler"]
    return handler


class Heard:
    """Hears what is put at its address, signed for a PUT without a content type as CloudFormation's is.

    The first `hangs` requests get no answer until the listener is closed.
    """

    def __init__(self, hangs: int = 0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.asked = 0
        heard, closing = self, threading.Event()

        class Requests(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                assert self.path == "/outcome?signed=1"
                assert not self.headers["Content-Type"]
                heard.asked += 1
                if heard.asked <= hangs:
                    closing.wait()
                    return
                heard.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._closing = closing
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/outcome?signed=1"

    def event(self, kind: str = "Create", properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Return an event of CloudFormation's. Source: its User Guide, "Custom resource request objects"."""
        names = {"StackId": "arn:aws:stack", "RequestId": str(time.time_ns()), "LogicalResourceId": "Resource"}
        return {
            **names,
            "RequestType": kind,
            "ResponseURL": self.url,
            "ResourceProperties": {"ServiceToken": "arn:aws:function", "ServiceTimeout": "300", **(properties or {})},
            **more,
        }

    def answer(self, handler: Handler, properties: dict[str, Any], kind: str = "Create") -> dict[str, Any]:
        """Invoke the handler and return what it answered."""
        handler(self.event(kind, properties), None)
        return self.bodies[-1]

    def __enter__(self) -> Heard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
