"""A client of AIVA's chat service: answers as iterators of typed events, which survive lost connections.

with ChatClient("http://localhost:8000", headers={"X-User-Id": "user-123"}) as client:
    for event in client.ask(client.create_chat(), "Why is the sky blue?"):
        if isinstance(event, Delta):
            print(event.text, end="")
"""

from aiva_chat_client._async import AsyncAnswer, AsyncChatClient
from aiva_chat_client._events import (
    Delta,
    Done,
    Event,
    Failure,
    Reasoning,
    Source,
    Sources,
    Start,
    Title,
    Unknown,
)
from aiva_chat_client._protocol import ROOT, BearerAuth, ChatServiceError, Request, StreamBroken
from aiva_chat_client._sync import Answer, ChatClient

__version__ = "0.1.0"

__all__ = [
    "ROOT",
    "Answer",
    "AsyncAnswer",
    "AsyncChatClient",
    "BearerAuth",
    "ChatClient",
    "ChatServiceError",
    "Delta",
    "Done",
    "Event",
    "Failure",
    "Reasoning",
    "Request",
    "Source",
    "Sources",
    "Start",
    "StreamBroken",
    "Title",
    "Unknown",
]
