"""Alembic runs this module. The connection, with an open transaction, comes from `migrate.upgrade`."""

from alembic import context

from refsynth.service.monitor.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
