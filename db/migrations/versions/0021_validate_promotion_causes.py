"""Check the causes and the rollouts of the changes of production that are there.

Why: 0020 added both rules without looking at them, to hold no lock meanwhile.
Locks: none that readers or writers wait for.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE promotion_event VALIDATE CONSTRAINT ck_promotion_event_cause")
    op.execute("ALTER TABLE promotion_event VALIDATE CONSTRAINT fk_promotion_event_rollout_id")


def downgrade() -> None:
    """Nothing: what was valid stays so."""
