"""Branches, a model and a title of the user's own for a chat, feedback, texts for the search; more about an answer.

Runs on a live table: every column may be null, so rows that the code before this one writes meanwhile are whole, and
this code reads them as one line of messages. Existing rows are filled in batches, on MySQL each a transaction of its
own; on SQLite, which has one writer anyway, all is one transaction. A run that was cut off is repeated from its
beginning and finds what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

TABLE: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
ID = sa.String(36).with_variant(mysql.CHAR(36, charset="ascii", collation="ascii_bin"), "mysql")
TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
SEARCHED = sa.Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_unicode_ci"), "mysql")
MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
CHATS_AT_ONCE = 200

COLUMNS: list[tuple[str, str, Callable[[], Any]]] = [
    ("chats", "model", lambda: line(200)),
    ("chats", "has_own_title", lambda: sa.Boolean()),
    ("messages", "parent_id", lambda: ID),
    ("messages", "is_aside", lambda: sa.Boolean()),
    ("messages", "truncated", lambda: sa.Boolean()),
    ("messages", "cached_tokens", lambda: sa.Integer()),
    ("messages", "reasoning_tokens", lambda: sa.Integer()),
]


def word(length: int) -> Any:
    """Return the type of ASCII words that compare byte by byte."""
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql")


def line(length: int) -> Any:
    """Return the type of short texts."""
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


def upgrade() -> None:
    """Add what is missing, then fill it."""
    connection = op.get_bind()
    for table, name, kind in COLUMNS:
        if name not in {column["name"] for column in sa.inspect(connection).get_columns(table)}:
            op.add_column(table, sa.Column(name, kind()))
    known = {index["name"] for index in sa.inspect(connection).get_indexes("chats")}
    for name, column in (("ix_chats_updated", "updated_at"), ("ix_chats_deleted", "deleted_at")):
        if name not in known:
            op.create_index(name, "chats", [column])
    op.create_table(
        "message_feedback",
        sa.Column("chat_id", ID, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("rating", word(8), nullable=False),
        sa.Column("comment", TEXT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("chat_id", "message_id"),
        **TABLE,
        if_not_exists=True,
    )
    op.create_table(
        "search_texts",
        sa.Column("chat_id", ID, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("user_id", word(128), nullable=False),
        sa.Column("content", SEARCHED, nullable=False),
        sa.PrimaryKeyConstraint("chat_id", "message_id"),
        **TABLE,
        if_not_exists=True,
    )
    names = {index["name"] for index in sa.inspect(connection).get_indexes("search_texts")}
    if "ix_search_user" not in names:
        op.create_index("ix_search_user", "search_texts", ["user_id"])
    if connection.dialect.name == "mysql" and not _is_mariadb(connection) and "ft_search" not in names:
        # Else every pair of letters that holds a stop word, such as `a` or `in`, is left out: nobody would find "data".
        op.execute("SET SESSION innodb_ft_enable_stopword = 0")
        op.execute("ALTER TABLE search_texts ADD FULLTEXT INDEX ft_search (content) WITH PARSER ngram")
    for chat_ids in _chats(connection):
        _fill_parents(connection, chat_ids)
        _fill_search(connection, chat_ids)


def _is_mariadb(connection: sa.Connection) -> bool:
    """Tell whether the server is MariaDB, which has no ngram parser."""
    return "mariadb" in str(connection.exec_driver_sql("SELECT VERSION()").scalar()).lower()


def _chats(connection: sa.Connection) -> Iterator[list[str]]:
    """Yield the ids of all chats, some at a time."""
    last = ""
    while True:
        statement = sa.text("SELECT id FROM chats WHERE id > :last ORDER BY id LIMIT :most")
        found = [row.id for row in connection.execute(statement, {"last": last, "most": CHATS_AT_ONCE})]
        if not found:
            return
        yield found
        last = found[-1]


def _fill_parents(connection: sa.Connection, chat_ids: list[str]) -> None:
    """Chain messages as they were read so far: each follows the last answer before it.

    An answer to an earlier message than the last one stands aside: it does not end the line. Answers that were written
    by code that knows branches say whether they do.
    """
    statement = sa.text(
        "SELECT chat_id, seq, id, reply_to, parent_id, is_aside FROM messages "
        "WHERE chat_id IN :ids ORDER BY chat_id, seq"
    ).bindparams(sa.bindparam("ids", expanding=True))
    parents, asides = [], []
    chat_id = question = answer = ""
    for row in connection.execute(statement, {"ids": chat_ids}).all():
        if row.chat_id != chat_id:
            chat_id, question, answer = row.chat_id, "", ""
        if row.reply_to is None:
            question = row.id
            if row.parent_id is None:
                parents.append({"chat": chat_id, "seq": row.seq, "parent": answer})
        elif row.reply_to == question:
            answer = row.id
        elif row.is_aside is None:
            asides.append({"chat": chat_id, "seq": row.seq})
    if parents:
        connection.execute(
            sa.text(
                "UPDATE messages SET parent_id = :parent WHERE chat_id = :chat AND seq = :seq AND parent_id IS NULL"
            ),
            parents,
        )
    if asides:
        connection.execute(sa.text("UPDATE messages SET is_aside = 1 WHERE chat_id = :chat AND seq = :seq"), asides)


def _fill_search(connection: sa.Connection, chat_ids: list[str]) -> None:
    """Let the search find what was said before there was one."""
    is_sqlite = connection.dialect.name == "sqlite"
    insert = "INSERT OR IGNORE" if is_sqlite else "INSERT IGNORE"
    select = (
        "SELECT m.chat_id, m.id, c.user_id, SUBSTR(m.content, 1, 100000) "
        "FROM messages m JOIN chats c ON c.id = m.chat_id "
        "WHERE m.chat_id IN :ids AND m.status <> 'streaming' AND m.content <> ''"
    )
    statement = sa.text(" ".join([insert, "INTO search_texts (chat_id, message_id, user_id, content)", select]))
    statement = statement.bindparams(sa.bindparam("ids", expanding=True))
    connection.execute(statement, {"ids": chat_ids})
