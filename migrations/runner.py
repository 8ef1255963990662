"""Brings a database to the schema of this code: under a lock, safe to repeat, never back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, create_engine, event, make_url, text

from chat.adapters.mysql.engine import engine_options, is_iam, prepare_sqlite
from chat.adapters.mysql.rds_iam import RdsIam
from chat.settings import Secret
from migrations.functions_user import allow_rows, parse_functions_url

LOCK_NAME = "aiva-chat-migrations"
LOCK_SECONDS = 60
STEP_SECONDS = 840
"""How long one statement may take: a change of a large table copies it. Less than a Lambda function can live."""


class MigrationError(RuntimeError):
    """The schema could not be brought to this code's version; the message says what to do."""


class NewerSchema(MigrationError):
    """The database has steps that this code does not know."""


def upgrade(mysql_url: str, lock_seconds: int = LOCK_SECONDS, functions_url: str | None = None) -> None:
    """Apply what is missing; does nothing when nothing is. The user in `functions_url` is made, for rows only.

    Raises:
        MigrationError: another process holds the lock for too long.
        NewerSchema: the schema is newer than this code, and stays as it is.
        UserError: the functions' user cannot be made of `functions_url`.
    """
    functions = parse_functions_url(functions_url) if functions_url else None
    target, options = engine_options(Secret(mysql_url), STEP_SECONDS)
    engine = create_engine(target, **options)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", prepare_sqlite)
    elif is_iam(make_url(mysql_url)):
        event.listen(engine, "do_connect", RdsIam())
    try:
        with engine.connect() as connection, _alone(connection, lock_seconds):
            _refuse_newer(connection)
            command.upgrade(_config(connection), "head")
            if functions is not None:
                allow_rows(connection, functions)
    finally:
        engine.dispose()


def head() -> str:
    """Return the newest step that this code knows."""
    revision = ScriptDirectory.from_config(_config(None)).get_current_head()
    if revision is None:
        raise MigrationError("there are no migrations")
    return revision


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _alone(connection: Connection, lock_seconds: int) -> Iterator[None]:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
        return
    name = {"name": f"{LOCK_NAME}:{connection.engine.url.database}"[:64], "seconds": lock_seconds}
    if connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), name).scalar() != 1:
        raise MigrationError(f"another migration has been running for {lock_seconds} s: try again when it is done")
    try:
        yield
    finally:
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), name)


def _refuse_newer(connection: Connection) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        return
    try:
        ScriptDirectory.from_config(_config(None)).get_revision(current)
    except CommandError:
        raise NewerSchema(
            f"the database's schema ({current}) is newer than this code ({head()}): deploy newer code"
        ) from None
