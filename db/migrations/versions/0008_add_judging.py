"""Add judges: who judges a leaderboard, what judges said, and what that amounts to.

Why: answers are scored by a judge model, alone or in pairs; a verdict is paid for once.
Locks: short ones on leaderboard, run_result and ranking_entry; every default is a constant.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
USD = sa.Numeric(precision=24, scale=12)


def upgrade() -> None:
    op.add_column("leaderboard", sa.Column("judge_provider", sa.Text(), nullable=True))
    op.add_column("leaderboard", sa.Column("judge_model", sa.Text(), nullable=True))
    op.add_column(
        "leaderboard",
        sa.Column("judge_auto", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "run_result",
        sa.Column("is_pending", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("run_result", sa.Column("judgement", JSON, nullable=True))
    op.add_column(
        "run_result",
        sa.Column("judge_cost_usd", USD, server_default=sa.text("0"), nullable=True),
    )
    for name in ("strength", "strength_low", "strength_high"):
        op.add_column("ranking_entry", sa.Column(name, sa.Double(), nullable=True))
    op.create_table(
        "judge_verdict",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("trace_id", sa.Uuid(), nullable=False),
        sa.Column("judge_model", sa.Text(), nullable=False),
        sa.Column("prompt_version", sa.Text(), nullable=False),
        sa.Column("vote", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("preferred", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cost_usd", USD, nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_judge_verdict_workspace_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_judge_verdict_run_id")),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidate.id"], name=op.f("fk_judge_verdict_candidate_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judge_verdict")),
        sa.UniqueConstraint("workspace_id", "key", name=op.f("uq_judge_verdict_workspace_id_key")),
    )
    op.create_index(
        "ix_judge_verdict_run_id_position_candidate_id",
        "judge_verdict",
        ["run_id", "position", "candidate_id"],
    )
    op.create_table(
        "run_comparison",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("first_candidate_id", sa.Uuid(), nullable=False),
        sa.Column("second_candidate_id", sa.Uuid(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("judgement", JSON, nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "outcome IN ('first', 'second', 'tie')", name=op.f("ck_run_comparison_outcome")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_comparison_run_id")),
        sa.ForeignKeyConstraint(
            ["first_candidate_id"],
            ["candidate.id"],
            name=op.f("fk_run_comparison_first_candidate_id"),
        ),
        sa.ForeignKeyConstraint(
            ["second_candidate_id"],
            ["candidate.id"],
            name=op.f("fk_run_comparison_second_candidate_id"),
        ),
        sa.PrimaryKeyConstraint(
            "run_id",
            "position",
            "first_candidate_id",
            "second_candidate_id",
            name=op.f("pk_run_comparison"),
        ),
    )


def downgrade() -> None:
    op.drop_table("run_comparison")
    op.drop_table("judge_verdict")
    for name in ("strength_high", "strength_low", "strength"):
        op.drop_column("ranking_entry", name)
    for name in ("judge_cost_usd", "judgement", "is_pending"):
        op.drop_column("run_result", name)
    for name in ("judge_auto", "judge_model", "judge_provider"):
        op.drop_column("leaderboard", name)
