"""The record's Alembic environment; `refsynth.service.monitor.migrate` runs it."""
