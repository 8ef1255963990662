"""Every key and channel name. All keys of a chat carry its hash tag, so that a script on them stays in one slot.

Source: Redis Cluster specification, section "Hash tags"; ElastiCache Serverless always speaks cluster mode.
"""

from __future__ import annotations

ACTIVE = "chat:active"
"""Sorted set: active answers of all processes by their last sign of life, in epoch seconds."""
LIMITS = ("active", "minute", "tokens", "streams", "chats", "cancels")
"""What is counted for each user."""


def session(chat_id: str, session_id: str) -> str:
    """Hash: who opened the session, its active answer, since when, last seen."""
    return f"chat:{{{chat_id}}}:session:{session_id}"


def lease(chat_id: str, message_id: str) -> str:
    """String: the owner of this answer is alive."""
    return f"chat:{{{chat_id}}}:lease:{message_id}"


def cancel(chat_id: str, message_id: str) -> str:
    """String: someone asked to stop this answer. Also the name of the channel that says so at once."""
    return f"chat:{{{chat_id}}}:cancel:{message_id}"


def intent(chat_id: str, user_message_id: str) -> str:
    """String: someone asked to stop the answer to a message that has not arrived yet."""
    return f"chat:{{{chat_id}}}:intent:{user_message_id}"


def intents(chat_id: str) -> str:
    """Set: the messages that someone waits for with an intent; without it a chat's deletion would not find those."""
    return f"chat:{{{chat_id}}}:intents"


def final(chat_id: str, message_id: str) -> str:
    """String: the final record that MySQL could not take."""
    return f"chat:{{{chat_id}}}:final:{message_id}"


def events(chat_id: str, message_id: str) -> str:
    """Stream: the answer's events."""
    return f"chat:{{{chat_id}}}:events:{message_id}"


def limits(user_id: str) -> list[str]:
    """Return every counter of one user."""
    return [limit(user_id, what) for what in LIMITS]


def limit(user_id: str, what: str) -> str:
    """A counter of one user's limit."""
    return f"chat:limit:{{{user_id}}}:{what}"
