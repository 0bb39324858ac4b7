"""Have the words of all traces read anew.

Why: each letter of Chinese and Japanese is a word now, and spaces without width and the T between a
day and its time end words. Until a worker has read a trace's text again, some thousands a second,
it is found by its words of before.
Locks: none that readers or writers wait for. A worker of the version before that still runs reads
what it takes in the old way. Going down does the same, for the words of before.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _read_anew()


def downgrade() -> None:
    _read_anew()


def _read_anew() -> None:
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute(
        "INSERT INTO trace_unsearched SELECT workspace_id, id FROM trace_text "
        "ON CONFLICT DO NOTHING"
    )
