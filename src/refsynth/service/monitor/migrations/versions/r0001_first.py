"""Predictions and feedback."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "predictions",
        sa.Column("request_id", sa.String(128)),
        sa.Column("row", sa.Integer, autoincrement=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("tier", sa.String(64), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("abstained", sa.Boolean, nullable=False),
        sa.Column("text", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("request_id", "row", name="pk_predictions"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_predictions_created", "predictions", ["created"])
    op.create_table(
        "feedback",
        sa.Column("request_id", sa.String(128)),
        sa.Column("row", sa.Integer, autoincrement=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "row", name="pk_feedback"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_feedback_updated", "feedback", ["updated"])
