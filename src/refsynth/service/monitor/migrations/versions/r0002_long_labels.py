"""Labels of any length: sets of them, and what was found in a long text, do not fit 200 characters."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Widen the columns."""
    for table in ("predictions", "feedback"):
        # SQLite changes no column: the table is written anew there, and what Alembic reads back of it lacks this option.
        with op.batch_alter_table(table, table_kwargs={"sqlite_with_rowid": False}) as batch:
            batch.alter_column("label", type_=sa.Text(), existing_type=sa.String(200), existing_nullable=False)
