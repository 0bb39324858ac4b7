"""Index the slugs of leaderboards.

Why: no two leaderboards of a workspace are called by the same name.
Locks: none; the index is built beside reads and writes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

NAME = "uq_leaderboard_workspace_id_slug"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            NAME,
            "leaderboard",
            ["workspace_id", "slug"],
            unique=True,
            postgresql_where=sa.text("deleted_at IS NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(NAME, "leaderboard", postgresql_concurrently=True)
