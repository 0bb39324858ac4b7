"""Add what rankings say of their certainty, and how production changes.

Why: intervals, comparisons and verdicts are stored with the ranking that they belong to; the model
in production is a fact of its own, and each change of it an event; runs have ceilings, stop early,
are cancelled, scored again and replayed.
Locks: short ones on leaderboard, run, run_candidate, ranking and ranking_entry: every default is a
constant, and the checks are validated by 0007.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
USD = sa.Numeric(precision=24, scale=12)
INSTANT = sa.DateTime(timezone=True)
ALWAYS = sa.text("""'{"rule": "always"}'""")


def upgrade() -> None:
    op.create_table(
        "promotion_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("from_candidate_id", sa.Uuid(), nullable=True),
        sa.Column("to_candidate_id", sa.Uuid(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("numbers", JSON, nullable=False),
        sa.Column("undone_event_id", sa.Uuid(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at", INSTANT, server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "cause IN ('promotion', 'selection', 'removal', 'rollback')",
            name=op.f("ck_promotion_event_cause"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_promotion_event_workspace_id")
        ),
        sa.ForeignKeyConstraint(
            ["leaderboard_id"], ["leaderboard.id"], name=op.f("fk_promotion_event_leaderboard_id")
        ),
        sa.ForeignKeyConstraint(
            ["from_candidate_id"],
            ["candidate.id"],
            name=op.f("fk_promotion_event_from_candidate_id"),
        ),
        sa.ForeignKeyConstraint(
            ["to_candidate_id"], ["candidate.id"], name=op.f("fk_promotion_event_to_candidate_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_promotion_event_run_id")),
        sa.ForeignKeyConstraint(
            ["undone_event_id"],
            ["promotion_event.id"],
            name=op.f("fk_promotion_event_undone_event_id"),
        ),
        sa.ForeignKeyConstraint(
            ["token_id"], ["api_token.id"], name=op.f("fk_promotion_event_token_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion_event")),
    )
    op.create_index(
        "ix_promotion_event_leaderboard_id_id", "promotion_event", ["leaderboard_id", "id"]
    )
    _add(
        "leaderboard",
        sa.Column("promotion", JSON, server_default=ALWAYS, nullable=False),
        sa.Column("production_candidate_id", sa.Uuid(), nullable=True),
    )
    _refer("leaderboard", "production_candidate_id", "candidate")
    _add(
        "run",
        sa.Column("promotion", JSON, server_default=ALWAYS, nullable=False),
        sa.Column("stops_early", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("max_cost_usd", USD, nullable=True),
        sa.Column("committed_usd", USD, server_default=sa.text("0"), nullable=False),
        sa.Column("estimated_cost_usd", USD, nullable=True),
        sa.Column("source_run_id", sa.Uuid(), nullable=True),
    )
    _refer("run", "source_run_id", "run")
    _check("run", "kind", "kind IN ('ranking', 'rescore', 'replay')")
    _check(
        "run",
        "status",
        "status IN ('queued', 'running', 'awaiting_review', 'completed', 'failed', 'cancelled')",
    )
    _add("run_candidate", sa.Column("asked_row_count", sa.Integer(), nullable=True))
    _add(
        "ranking",
        sa.Column("confidence", sa.Double(), server_default=sa.text("0.95"), nullable=False),
        sa.Column("saved_call_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("saved_cost_usd", USD, nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("decision", JSON, nullable=True),
    )
    op.create_check_constraint(
        op.f("ck_ranking_verdict"),
        "ranking",
        "verdict IN ('PROMOTE', 'HOLD', 'INSUFFICIENT')",
        postgresql_not_valid=True,
    )
    _add(
        "ranking_entry",
        sa.Column("score_low", sa.Double(), nullable=True),
        sa.Column("score_high", sa.Double(), nullable=True),
        sa.Column("band", sa.Integer(), nullable=True),
        sa.Column("is_on_pareto_front", sa.Boolean(), nullable=True),
        sa.Column("next_comparison", JSON, nullable=True),
    )


def _add(table: str, *columns: "sa.Column[Any]") -> None:
    for column in columns:
        op.add_column(table, column)


def _refer(table: str, column: str, target: str) -> None:
    op.create_foreign_key(
        op.f(f"fk_{table}_{column}"),
        table,
        target,
        [column],
        ["id"],
        postgresql_not_valid=True,
    )


def _check(table: str, name: str, condition: str) -> None:
    """Put another condition in the place of the one that a table has by this name."""
    op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    op.create_check_constraint(
        op.f(f"ck_{table}_{name}"), table, condition, postgresql_not_valid=True
    )


def downgrade() -> None:
    for name in ("next_comparison", "is_on_pareto_front", "band", "score_high", "score_low"):
        op.drop_column("ranking_entry", name)
    op.drop_constraint(op.f("ck_ranking_verdict"), "ranking")
    for name in ("decision", "verdict", "saved_cost_usd", "saved_call_count", "confidence"):
        op.drop_column("ranking", name)
    op.drop_column("run_candidate", "asked_row_count")
    _check("run", "status", "status IN ('queued', 'running', 'completed', 'failed')")
    _check("run", "kind", "kind IN ('ranking')")
    for name in (
        "source_run_id",
        "estimated_cost_usd",
        "committed_usd",
        "max_cost_usd",
        "stops_early",
        "promotion",
    ):
        op.drop_column("run", name)
    op.drop_column("leaderboard", "production_candidate_id")
    op.drop_column("leaderboard", "promotion")
    op.drop_table("promotion_event")
