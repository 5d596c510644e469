"""The script that Alembic runs for each upgrade, see `spikehead.records.database`."""

from alembic import context

from spikehead.records.database import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
