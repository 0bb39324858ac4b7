"""Have a shadow know the smallest of its holds.

Why: it ends once its budget has no room for even that, and not because one large request has none.
Locks: shadow for an instant.
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("shadow", sa.Column("smallest_hold_usd", sa.Numeric(24, 12), nullable=True))


def downgrade() -> None:
    op.drop_column("shadow", "smallest_hold_usd")
