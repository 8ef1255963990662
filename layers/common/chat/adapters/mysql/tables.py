"""The tables, as SQLAlchemy Core knows them. What creates them is under `migrations/`; a test holds the two together.

Texts are MEDIUMTEXT: TEXT ends at 65,535 bytes, 21,845 Hangul syllables. Ids and names compare byte by byte. Times are
UTC, written by the application. There are no foreign keys: an answer's end would lock rows that its start needs.

Source: MySQL reference manual, "Data Type Storage Requirements".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql


class Moment(TypeDecorator[datetime]):
    """A point in time to the microsecond: aware in Python, UTC without a zone in the database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        kind = mysql.DATETIME(fsp=6) if dialect.name == "mysql" else DateTime()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def _word(length: int) -> Any:
    kind = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return String(length).with_variant(kind, "mysql")


def _id() -> Any:
    return String(36).with_variant(mysql.CHAR(36, charset="ascii", collation="ascii_bin"), "mysql")


def _line(length: int) -> Any:
    return String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


def _searched() -> Any:
    """A text that is found whatever its case."""
    return Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_unicode_ci"), "mysql")


def _text() -> Any:
    return Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


metadata = MetaData()
_options: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

chats = Table(
    "chats",
    metadata,
    Column("id", _id(), primary_key=True),
    Column("user_id", _word(128), nullable=False),
    Column("title", _line(200)),
    Column("system_prompt", _text()),
    Column("next_seq", Integer, nullable=False),
    Column("idempotency_key", _word(200)),
    Column("idempotency_digest", _word(64)),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Column("model", _line(200)),
    Column("has_own_title", Boolean),
    Column("window_from", _id()),
    UniqueConstraint("user_id", "idempotency_key", name="uq_chats_idempotency"),
    Index("ix_chats_user", "user_id", "updated_at"),
    Index("ix_chats_updated", "updated_at"),
    Index("ix_chats_deleted", "deleted_at"),
    **_options,
)

messages = Table(
    "messages",
    metadata,
    Column("chat_id", _id(), nullable=False),
    Column("seq", Integer, nullable=False, autoincrement=False),
    Column("id", _id(), nullable=False),
    Column("role", _word(16), nullable=False),
    Column("content", _text(), nullable=False),
    Column("reasoning", _text()),
    Column("status", _word(16), nullable=False),
    Column("finish_reason", _line(64)),
    Column("error_code", _word(32)),
    Column("session_id", _word(128), nullable=False),
    Column("reply_to", _id()),
    Column("model", _line(200)),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("usage_estimated", Boolean),
    Column("active_session", _word(128)),
    Column("owner_token", _word(64)),
    Column("owner_seen_at", Moment),
    Column("deadline_at", Moment),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("parent_id", _id()),
    Column("is_aside", Boolean),
    Column("truncated", Boolean),
    Column("cached_tokens", Integer),
    Column("reasoning_tokens", Integer),
    PrimaryKeyConstraint("chat_id", "seq"),  # InnoDB clusters by it: a chat's history is one sequential read
    UniqueConstraint("chat_id", "id", name="uq_messages_id"),
    UniqueConstraint("chat_id", "active_session", name="uq_messages_active_session"),
    Index("ix_messages_reply", "chat_id", "reply_to"),
    **_options,
)

message_sources = Table(
    "message_sources",
    metadata,
    Column("chat_id", _id(), nullable=False),
    Column("message_id", _id(), nullable=False),
    Column("position", Integer, nullable=False, autoincrement=False),
    Column("title", _text(), nullable=False),
    Column("url", _text(), nullable=False),
    PrimaryKeyConstraint("chat_id", "message_id", "position"),
    **_options,
)

message_feedback = Table(
    "message_feedback",
    metadata,
    Column("chat_id", _id(), nullable=False),
    Column("message_id", _id(), nullable=False),
    Column("rating", _word(8), nullable=False),
    Column("comment", _text()),
    Column("created_at", Moment, nullable=False),
    PrimaryKeyConstraint("chat_id", "message_id"),
    **_options,
)

search_texts = Table(
    "search_texts",
    metadata,
    Column("chat_id", _id(), nullable=False),
    Column("message_id", _id(), nullable=False),
    Column("user_id", _word(128), nullable=False),
    Column("content", _searched(), nullable=False),
    PrimaryKeyConstraint("chat_id", "message_id"),
    Index("ix_search_user", "user_id"),
    **_options,
)
"""What the search looks at: a message once it has ended, and titles that people gave, whose `message_id` is empty.

On MySQL the migration adds a FULLTEXT index with the ngram parser, which no other server has.
"""
