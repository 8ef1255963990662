"""Brings the database that MYSQL_URL names to its schema: a program of its own, so that Alembic is loaded only here."""

from __future__ import annotations

import os
import sys
import traceback


def main() -> None:
    """Upgrade; on failure the traceback goes to the log and its last line says, for the terminal, what is wrong."""
    from migrations.runner import upgrade

    try:
        upgrade(os.environ["MYSQL_URL"])
    except Exception as error:  # the boundary of the process: whatever it is becomes one line and exit code 1
        traceback.print_exc()
        cause = getattr(error, "orig", None) or error
        sys.exit(f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}")


if __name__ == "__main__":
    main()
