"""The record's Alembic environment; `refsynth.monitor.migrate` runs it."""
