"""Check the kinds of the runs that are there.

Why: 0013 added the rule without looking at them, to hold no lock meanwhile.
Locks: none that readers or writers wait for.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE run VALIDATE CONSTRAINT ck_run_kind")


def downgrade() -> None:
    """Nothing: what was valid stays so."""
