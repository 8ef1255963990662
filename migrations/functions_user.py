"""The database user of the functions: it reads and writes rows of the chat's tables, and can do nothing else.

Made, and given its password, by whoever migrates; so a rotated password is one invocation away.
"""

from __future__ import annotations

from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import ArgumentError

from chat.adapters.mysql.engine import is_iam
from chat.adapters.mysql.tables import metadata

ROWS = "SELECT, INSERT, UPDATE, DELETE"


class UserError(RuntimeError):
    """The functions' user cannot be made; the message says why and shows no password."""


def parse_functions_url(url: str) -> URL:
    """Take the address apart that functions connect with.

    Raises:
        UserError: it names no user of MySQL.
    """
    try:
        target = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError("the functions' URL is not the URL of a database") from None
    if target.get_backend_name() != "mysql" or not target.username:
        raise UserError("the functions' URL names no user of MySQL")
    return target


def allow_rows(connection: Connection, target: URL) -> None:
    """Make the user in `target`, or give it the password or the login there, and let it read and write rows.

    With `?iam=true` its login is IAM's (RDS and Aurora). May be repeated; what it was given before stays.

    Raises:
        UserError: it is the user that migrates.
    """
    if target.username == connection.engine.url.username:
        raise UserError("the functions' user is the one that migrates: it needs one of its own")
    values = {"name": target.username}
    if is_iam(target):
        login = "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'"
    elif target.password:
        login, values["password"] = "IDENTIFIED BY :password", str(target.password)
    else:
        raise UserError("the functions' URL holds no password, and no iam=true")
    connection.execute(text(f"CREATE USER IF NOT EXISTS :name@'%' {login}"), values)
    connection.execute(text(f"ALTER USER :name@'%' {login}"), values)
    database = str(connection.engine.url.database).replace("`", "``")
    for table in metadata.sorted_tables:
        grant = text(f"GRANT {ROWS} ON `{database}`.`{table.name}` TO :name@'%'")
        connection.execute(grant, {"name": target.username})
