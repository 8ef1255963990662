"""Chats, messages and their sources."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

TABLE: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
ID = sa.String(36).with_variant(mysql.CHAR(36, charset="ascii", collation="ascii_bin"), "mysql")
TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")


def word(length: int) -> Any:
    """Return the type of ASCII words that compare byte by byte."""
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql")


def line(length: int) -> Any:
    """Return the type of short texts."""
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


def create_index(name: str, table: str, columns: list[str]) -> None:
    """Create an index that is not there yet."""
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def upgrade() -> None:
    """Create what is missing: MySQL commits each of these statements by itself, and a run may have been cut off."""
    op.create_table(
        "chats",
        sa.Column("id", ID, primary_key=True),
        sa.Column("user_id", word(128), nullable=False),
        sa.Column("title", line(200)),
        sa.Column("system_prompt", TEXT),
        sa.Column("next_seq", sa.Integer, nullable=False),
        sa.Column("idempotency_key", word(200)),
        sa.Column("idempotency_digest", word(64)),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT),
        sa.UniqueConstraint("user_id", "idempotency_key", name="uq_chats_idempotency"),
        **TABLE,
        if_not_exists=True,
    )
    create_index("ix_chats_user", "chats", ["user_id", "updated_at"])
    op.create_table(
        "messages",
        sa.Column("chat_id", ID, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("role", word(16), nullable=False),
        sa.Column("content", TEXT, nullable=False),
        sa.Column("reasoning", TEXT),
        sa.Column("status", word(16), nullable=False),
        sa.Column("finish_reason", line(64)),
        sa.Column("error_code", word(32)),
        sa.Column("session_id", word(128), nullable=False),
        sa.Column("reply_to", ID),
        sa.Column("model", line(200)),
        sa.Column("input_tokens", sa.Integer),
        sa.Column("output_tokens", sa.Integer),
        sa.Column("usage_estimated", sa.Boolean),
        sa.Column("active_session", word(128)),
        sa.Column("owner_token", word(64)),
        sa.Column("owner_seen_at", MOMENT),
        sa.Column("deadline_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.PrimaryKeyConstraint("chat_id", "seq"),
        sa.UniqueConstraint("chat_id", "id", name="uq_messages_id"),
        sa.UniqueConstraint("chat_id", "active_session", name="uq_messages_active_session"),
        **TABLE,
        if_not_exists=True,
    )
    create_index("ix_messages_reply", "messages", ["chat_id", "reply_to"])
    op.create_table(
        "message_sources",
        sa.Column("chat_id", ID, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("position", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("chat_id", "message_id", "position"),
        **TABLE,
        if_not_exists=True,
    )
