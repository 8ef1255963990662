"""`python -m migrations`: bring the database in MYSQL_URL to the schema of this code."""

import os
import sys

from migrations.functions_user import UserError
from migrations.runner import MigrationError, head, upgrade

if __name__ == "__main__":
    url = os.environ.get("MYSQL_URL")
    if not url:
        sys.exit("MYSQL_URL is not set")
    try:
        upgrade(url, functions_url=os.environ.get("FUNCTIONS_MYSQL_URL"))
    except (MigrationError, UserError) as error:
        sys.exit(f"migrations: {error}")
    print(f"The schema is at {head()}.")
