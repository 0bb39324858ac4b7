"""Have a lease say what is spent of it.

Why: calls that are lent their money then settle without a lock on their token's row, which all
servers share.
Locks: budget_hold for an instant; the default is a constant, which rewrites nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "budget_hold",
        sa.Column("spent_usd", sa.Numeric(24, 12), server_default="0", nullable=False),
    )


def downgrade() -> None:
    op.execute(
        "UPDATE api_token AS token SET budget_used_usd = budget_used_usd + hold.spent_usd "
        "FROM (SELECT token_id, sum(spent_usd) AS spent_usd FROM budget_hold GROUP BY token_id) "
        "AS hold WHERE hold.token_id = token.id"
    )
    op.drop_column("budget_hold", "spent_usd")
