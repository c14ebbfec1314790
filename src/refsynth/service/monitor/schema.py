"""The record's tables. A change here needs a revision in `migrations/versions`; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

ID_LENGTH, NAME_LENGTH, LABEL_LENGTH = 128, 64, 20_000

metadata = sa.MetaData(naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_name)s"})


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone. SQLite has no zones, so it stores the time in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the value for the database."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the value for the caller."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("request_id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("created", UtcTime, nullable=False, index=True),
    sa.Column("source", sa.String(NAME_LENGTH), nullable=False),
    sa.Column("model", sa.String(NAME_LENGTH), nullable=False),
    sa.Column("tier", sa.String(NAME_LENGTH), nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("abstained", sa.Boolean, nullable=False),
    sa.Column("text", sa.Text, nullable=True),
    sa.Column("none", sa.Boolean, nullable=False, server_default=sa.false()),
    sqlite_with_rowid=False,
)

# No foreign key: feedback is kept even if its prediction was lost with a worker or has been purged.
feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("request_id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("updated", UtcTime, nullable=False, index=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("source", sa.String(NAME_LENGTH), nullable=False),
    sqlite_with_rowid=False,
)
