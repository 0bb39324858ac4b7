"""Have the words of all traces read anew.

Why: signs that PostgreSQL makes one word with, of an address or a path, end words now, and the
input's last word is not followed by the output's first. Until a worker has read a trace's text
again, some 6,000 a second, it is found by its words of before.
Locks: none that readers or writers wait for. A worker of the version before that still runs reads
what it takes in the old way. Going down does the same, for the words of before.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
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
