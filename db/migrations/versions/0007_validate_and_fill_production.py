"""Validate the checks of 0006, and name who was in production.

Why: a check that is not validated is not known to hold of older rows; and each leaderboard's winner
of the latest ranking, which served until now, goes on serving.
Locks: none that reads or writes wait for, but for the leaderboards that are filled in.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

CHECKS = {
    "fk_leaderboard_production_candidate_id": "leaderboard",
    "fk_run_source_run_id": "run",
    "ck_run_kind": "run",
    "ck_run_status": "run",
    "ck_ranking_verdict": "ranking",
}
FILL = """
UPDATE leaderboard SET production_candidate_id = CASE
  WHEN leaderboard.model_selection = 'manual' THEN leaderboard.selected_candidate_id
  ELSE latest.candidate_id
END
FROM (
  SELECT DISTINCT ON (ranking.leaderboard_id) ranking.leaderboard_id, ranking_entry.candidate_id
  FROM ranking
  JOIN ranking_entry ON ranking_entry.ranking_id = ranking.id
  JOIN candidate ON candidate.id = ranking_entry.candidate_id AND candidate.removed_at IS NULL
  ORDER BY ranking.leaderboard_id, ranking.completed_at DESC, ranking.id DESC, ranking_entry.rank
) AS latest
WHERE latest.leaderboard_id = leaderboard.id
"""


def upgrade() -> None:
    for name, table in CHECKS.items():
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
    op.execute(FILL)


def downgrade() -> None:
    """Nothing: what was valid stays so, and 0006 takes the column away."""
