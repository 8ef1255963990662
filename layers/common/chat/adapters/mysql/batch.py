"""Several statements in one round trip, where the server takes them: MySQL's multi-statements.

A database that is a network away costs a round trip for each statement; between BEGIN and COMMIT the lock on a chat's
row is held for as long. Source: MySQL reference manual, "Multiple Statement Execution Support".
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, Executable, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

from chat.domain.errors import StorageUnavailable

Values = Mapping[str, Any]
Statement = tuple[Executable, Values | Sequence[Values]] | str
"""With its values, of an INSERT also those of several rows; or words that need none, such as COMMIT."""

BATCH = "chat_batch"
"""The execution option that makes `QuietMySQL` read a result for each statement; its value is the list it fills."""


class Result(NamedTuple):
    """What one statement of a batch gave."""

    rows: Sequence[Any]
    """With the names of their columns."""
    rowcount: int


def run_batch(connection: Connection, statements: Sequence[Statement]) -> list[Result]:
    """Run statements one after the other, and return what each gave; the first that fails ends it.

    Raises:
        DBAPIError: what came before the failed statement was done, as when they are run alone.
    """
    if connection.dialect.name == "sqlite":
        return [_run(connection, statement) for statement in statements]
    words: list[str] = []
    values: dict[str, Any] = {}
    for number, statement in enumerate(statements):
        if isinstance(statement, str):
            words.append(statement)
        else:
            own, named = _named(statement, f"s{number}_", connection.dialect)
            words.append(own)
            values |= named
    joined, found = "; ".join(words), list[Result]()
    if not fits(connection, joined, values):
        return [_run(connection, statement) for statement in statements]
    connection.exec_driver_sql(joined, values, execution_options={BATCH: found})
    return found


def begin(connection: Connection, statements: Sequence[Statement]) -> list[Result]:
    """Begin a transaction with these statements and return what each gave, as `run_batch`."""
    word = "BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN"
    return run_batch(connection, [word, *statements])[1:]


def commit(connection: Connection, statements: Sequence[Statement]) -> list[Result]:
    """End the transaction with these statements and return what each gave, as `run_batch`.

    Raises:
        DBAPIError: as `run_batch`; the transaction is open.
        StorageUnavailable: the reply did not come; everything or nothing is stored.
    """
    try:
        return run_batch(connection, [*statements, "COMMIT"])[:-1]
    except DBAPIError as error:
        if connection.invalidated:
            raise StorageUnavailable from error
        raise


def read_batch(cursor: Any, results: list[Result]) -> None:
    """Read what each statement of a batch gave, from a PyMySQL cursor that has executed it.

    Raises:
        pymysql.Error: the statement behind the last one that was read has failed, and those behind it have not run.
    """
    has_more = True
    while has_more:
        names = tuple(column[0] for column in cursor.description or ())
        rows = list(map(_row_type(names)._make, cursor.fetchall())) if names else ()
        results.append(Result(rows, cursor.rowcount))
        has_more = bool(cursor.nextset())


@cache
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names)


def fits(connection: Connection, statement: str, values: Values) -> bool:
    """Tell whether the server reads so much at once, by a bound that costs next to nothing."""
    limit: int | None = getattr(connection.dialect, "max_packet_bytes", None)
    return limit is None or most_bytes(statement, values) < limit


_Named = tuple[str, dict[str, Any]]
_MARK = re.compile(r"%\((\w+)\)s")
CHARACTER_BYTES = 4
"""The most that a character takes in a statement: in UTF-8, or escaped."""
VALUE_BYTES = 64
"""What a value takes beside its characters: a number, a time, quotation marks."""


def most_bytes(statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> int:
    """Return how many bytes a statement has at most once its values stand in it."""
    values = parameters.values() if isinstance(parameters, Mapping) else parameters or ()
    most = CHARACTER_BYTES * len(statement)
    for value in values:
        most += VALUE_BYTES + (CHARACTER_BYTES * len(value) if isinstance(value, str) else 0)
    return most


def _run(connection: Connection, statement: Statement) -> Result:
    bare, values = (text(statement), None) if isinstance(statement, str) else statement
    result = connection.execute(bare, values)
    return Result(result.all() if result.returns_rows else (), result.rowcount)


def _named(statement: tuple[Executable, Values | Sequence[Values]], prefix: str, dialect: Dialect) -> _Named:
    """Return the statement with marks of its own, `%(s0_name)s`, and the values as the driver takes them."""
    given = statement[1]
    rows = [given] if isinstance(given, Mapping) else given
    compiled = _compiled(statement[0], dialect, tuple(rows[0]))
    head, values_word, marks = str(compiled).rpartition(" VALUES ")
    words, values = [], {}
    for number, row in enumerate(rows):
        own = f"{prefix}{number}_"
        words.append(_MARK.sub(f"%({own}\\1)s", marks))
        for name, value in compiled.construct_params(row).items():
            process = compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
            values[own + name] = process(value) if process is not None else value
    return head + values_word + ", ".join(words), values


@cache
def _compiled(statement: Any, dialect: Dialect, columns: tuple[str, ...]) -> SQLCompiler:
    compiled: SQLCompiler = statement.compile(dialect=dialect, column_keys=list(columns))
    return compiled
