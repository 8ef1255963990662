"""Where the AI's view of a chat begins; MySQL 8 adds such a column at once, without copying the table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

ID = sa.String(36).with_variant(mysql.CHAR(36, charset="ascii", collation="ascii_bin"), "mysql")


def upgrade() -> None:
    """Add the column, unless a run that was cut off has done so."""
    if "window_from" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("chats")}:
        op.add_column("chats", sa.Column("window_from", ID))


def downgrade() -> None:
    """Forget it: the next request drops what is too much anew."""
    op.drop_column("chats", "window_from")
