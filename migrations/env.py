"""Alembic's entry: runs the steps on the connection that `runner` hands over, within its lock and its transaction."""

from alembic import context

from chat.adapters.mysql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,
    compare_type=True,
)
context.run_migrations()
