"""Runs migrations on the connection that :mod:`tqctl_runtime.record.migrate` gives."""

from __future__ import annotations

from alembic import context

from tqctl_runtime.record.schema import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table=VERSION_TABLE,
    # SQLite cannot change a column in place: Alembic then copies the table.
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
