"""Give the traces of shadows a source of their own.

Why: nobody is answered by them, so that they are no inferences, nor rows of datasets. Those that
are stored already stay as they are; `metadata` tells them.
Locks: trace for an instant; 0026 looks at what is there.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

DROP = "ALTER TABLE trace DROP CONSTRAINT ck_trace_source"
ADD = "ALTER TABLE trace ADD CONSTRAINT ck_trace_source CHECK (source IN ({})) NOT VALID"


def upgrade() -> None:
    op.execute(DROP)
    op.execute(ADD.format("'run', 'inference', 'shadow', 'dataset', 'manual'"))


def downgrade() -> None:
    """Have shadows' traces be inferences, and leave their sums out of the statistics."""
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute("UPDATE trace SET source = 'inference' WHERE source = 'shadow'")
    op.execute("DELETE FROM trace_hour WHERE source = 'shadow'")
    op.execute("DELETE FROM trace_sum WHERE source = 'shadow'")
    op.execute(DROP)
    op.execute(ADD.format("'run', 'inference', 'dataset', 'manual'"))
    op.execute("ALTER TABLE trace VALIDATE CONSTRAINT ck_trace_source")
