"""Say who holds a claim to a key.

Why: a server that was frozen until its claim was another's must not end that one's.
Locks: idempotency_key for an instant; the column has no default.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("idempotency_key", sa.Column("holder_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("idempotency_key", "holder_id")
