"""pip install aiva-chat-client; python chat_client.py "Why is the sky blue?" (Ctrl-C cancels the answer)."""

import os
import sys

from aiva_chat_client import ChatClient, Delta, Done, Failure


def main(content: str) -> None:
    """Ask one question in a new chat and print the answer as it comes."""
    url = os.environ.get("CHAT_URL", "http://localhost:8000")
    with ChatClient(url, headers={"X-User-Id": "user-123"}, session_id="session-456") as client:
        answer = client.ask(client.create_chat(), content)
        try:
            for event in answer:
                if isinstance(event, Delta):
                    print(event.text, end="", flush=True)
                elif isinstance(event, Failure):
                    print(f"\n{event.message}", file=sys.stderr)
                elif isinstance(event, Done):
                    print(f"\n[{event.status}]")
        except KeyboardInterrupt:
            print(f"\n[{answer.cancel()['status']}]")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "안녕하세요!")
