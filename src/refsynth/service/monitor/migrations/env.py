"""Alembic runs this: the connection comes from `migrate.upgrade`, which holds the transaction."""

from alembic import context

from refsynth.service.monitor.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
