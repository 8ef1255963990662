"""The words of the domain as values: identifiers, chats, messages, answers. No I/O, no clock but in `new_id`."""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

ROOT = ""
"""In the place of a parent's id: the message begins the chat."""

MAX_SUBJECT_CHARS = 255

_NAME = re.compile(r"[A-Za-z0-9._:@+|-]{1,128}")
_DIGESTED = "sha256:"


def new_id() -> str:
    """Return a new UUIDv7 in canonical text form: sortable by creation, millisecond precision.

    Source: RFC 9562, section 5.7.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def is_name(text: str) -> bool:
    """Tell whether `text` can be a user's or a session's id: 1 to 128 of `A-Z a-z 0-9 . _ : @ + | -`."""
    return _NAME.fullmatch(text) is not None


def user_of(subject: str) -> str | None:
    """Return the id of the user whom an identity provider calls `subject`: itself, or else a digest of it.

    None for the empty string and beyond 255 characters. Nobody can be called what another's digest is: a subject that
    looks like one is digested too.

    Source: OpenID Connect Core 1.0, section 2: a `sub` has at most 255 characters.
    """
    if not 1 <= len(subject) <= MAX_SUBJECT_CHARS:
        return None
    if is_name(subject) and not subject.startswith(_DIGESTED):
        return subject
    return _DIGESTED + hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()


def canonical_uuid(text: str) -> str | None:
    """Return `text` as a lower-case hyphenated UUID, or None when it is no UUID in that form."""
    if len(text) != 36:
        return None
    try:
        canonical = str(uuid.UUID(text))
    except ValueError:
        return None
    return canonical if canonical == text.lower() else None


class Status(StrEnum):
    """Where an answer is in its life. All but `STREAMING` are final."""

    STREAMING = "streaming"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"

    @property
    def retryable(self) -> bool:
        """Whether sending the same user message again starts a new answer."""
        return self in (Status.FAILED, Status.TIMEOUT, Status.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Source:
    """A page that the AI named as its source."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one generation; `estimated` when the AI did not say."""

    input_tokens: int
    output_tokens: int
    estimated: bool = False
    cached_tokens: int | None = None
    """Of the input, those that the provider had in its cache; None where it does not say."""
    reasoning_tokens: int | None = None
    """Of the output, those that were reasoning."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, owned by one user."""

    id: str
    user_id: str
    title: str | None
    system_prompt: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message as the AI receives it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """A user's message and the text that answered it, empty where nothing was said."""

    question: str
    answer: str
    question_id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class AnswerIds:
    """What names one answer wherever it appears."""

    chat_id: str
    message_id: str
    user_message_id: str
    session_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended; written once."""

    status: Status
    finish_reason: str | None = None
    error_code: str | None = None
    message: str | None = field(default=None, compare=False)
    """What the client is told of the failure in place of the code's own sentence; not stored."""


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """Everything that the end of an answer writes to MySQL, or parks in Redis when MySQL is away."""

    outcome: Outcome
    text: str
    reasoning: str
    sources: Sequence[Source]
    usage: Usage
    finished_at: datetime
    is_truncated: bool = False
    """The store did not take all of it, and this is what it may take."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as MySQL knows it. While `streaming`, `text` is the last checkpoint."""

    identity: AnswerIds
    status: Status
    text: str
    reasoning: str
    sources: Sequence[Source]
    finish_reason: str | None
    error_code: str | None
    usage: Usage | None
    owner_token: str
    owner_seen_at: datetime
    deadline_at: datetime
    created_at: datetime
    finished_at: datetime | None
    is_truncated: bool = False
    """The answer said more than is stored."""
    is_saved: bool = True
    """False for an end that waits in Redis for MySQL to take it."""

    @property
    def is_active(self) -> bool:
        return self.status is Status.STREAMING


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """What the start of an answer writes to MySQL in one transaction."""

    identity: AnswerIds
    user_id: str
    content: str
    owner_token: str
    now: datetime
    deadline_at: datetime
    parent_id: str | None = None
    """The answer that the message follows: ROOT for none, None for the end of the active branch."""
    is_regeneration: bool = False
    """Another answer to a message that is stored; `content` is empty then."""
    chat_models: tuple[str, ...] = ()
    """The chat's own model takes the place of the identity's where it is one of these."""


@dataclass(frozen=True, slots=True)
class Started:
    """The answer's row is stored and this process owns it.

    `is_first` is False for a retry of a message that was stored before.
    """

    system_prompt: str | None
    history: Sequence[QuestionAnswer] = field(default_factory=tuple)
    """The exchanges on the path to the message, oldest first."""
    is_first: bool = True
    question: str = field(default="", compare=False)
    """The text of the message that is answered."""
    model: str | None = field(default=None, compare=False)
    """The model that was stored with the answer."""
    window_from: str | None = field(default=None, compare=False)
    """The message with which the AI's view of this chat began last time; None where it began with the first one."""
    wants_title: bool = field(default=False, compare=False)
    """It is the chat's first message, and nobody has given the chat a title."""
    max_answer_bytes: int | None = field(default=None, compare=False)
    """How much the store takes of the answer's text and reasoning, as `AnswerRoom` counts them; None for no limit."""


@dataclass(frozen=True, slots=True)
class AlreadyAnswered:
    """The user message was sent before with the same content, and this is its answer."""

    answer: StoredAnswer


@dataclass(frozen=True, slots=True)
class SessionBusy:
    """This session already has an active answer in this chat."""

    answer: StoredAnswer
