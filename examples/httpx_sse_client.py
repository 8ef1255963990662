"""pip install httpx httpx-sse; python httpx_sse_client.py "Why is the sky blue?" (Ctrl-C cancels the answer)."""

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator

import httpx
from httpx_sse import ServerSentEvent, connect_sse

URL = os.environ.get("CHAT_URL", "http://localhost:8000")
HEADERS = {"X-User-Id": "user-123", "X-Session-Id": "session-456"}


def answer(client: httpx.Client, chat_id: str, message: dict[str, str]) -> Iterator[ServerSentEvent]:
    """Yield the events up to `done`, over as many connections as it takes."""
    last_event_id = ""
    while True:
        try:
            headers = {"Last-Event-ID": last_event_id}
            with connect_sse(client, "POST", f"/api/chat/{chat_id}/stream", json=message, headers=headers) as source:
                source.response.raise_for_status()
                for event in source.iter_sse():
                    last_event_id = event.id
                    yield event
                    if event.event == "done":
                        return
        except httpx.TransportError:
            pass  # cut: go on after the last event that came
        time.sleep(0.5)


def main(content: str) -> None:
    """Ask one question in a new chat and print the answer as it comes."""
    with httpx.Client(base_url=URL, headers=HEADERS, timeout=60) as client:
        chat_id = client.post("/api/chat/create").raise_for_status().json()["chatId"]
        # Our own id for the message: a request that is sent again starts nothing twice.
        message = {"content": content, "userMessageId": str(uuid.uuid4())}
        try:
            for event in answer(client, chat_id, message):
                fields = json.loads(event.data)
                if event.event == "message":
                    print(fields["delta"], end="", flush=True)
                elif event.event == "failure":
                    print(f"\n{fields['message']}", file=sys.stderr)
                elif event.event == "done":
                    print(f"\n[{fields['status']}]")
        except KeyboardInterrupt:
            print(f"\n[{client.post(f'/api/chat/{chat_id}/cancel').json()['status']}]")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "안녕하세요!")
