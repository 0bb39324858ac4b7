"""Check the sources of the traces that are there.

Why: 0025 widened the rule without looking at them, to hold no lock meanwhile.
Locks: none that readers or writers wait for; it reads every trace once.
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute("ALTER TABLE trace VALIDATE CONSTRAINT ck_trace_source")


def downgrade() -> None:
    """Nothing: what was valid stays so."""
