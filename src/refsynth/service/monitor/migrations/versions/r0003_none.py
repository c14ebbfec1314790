"""Add whether a text is none of the labels; false for older rows, for which it is unknown."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("predictions", sa.Column("none", sa.Boolean, nullable=False, server_default=sa.false()))
