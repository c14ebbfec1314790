"""Allow labels of any length: sets of labels, and entities of a long text, do not fit 200 characters."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Widen the columns."""
    for table in ("predictions", "feedback"):
        # SQLite cannot change a column, so Alembic rewrites the table, and loses this option when it reads the old one.
        with op.batch_alter_table(table, table_kwargs={"sqlite_with_rowid": False}) as batch:
            batch.alter_column("label", type_=sa.Text(), existing_type=sa.String(200), existing_nullable=False)
