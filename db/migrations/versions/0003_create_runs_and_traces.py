"""Create runs, results, rankings and traces.

Why: what was asked, what was answered, and what that amounts to.
Locks: none; the tables are new.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=False),
        sa.Column("dataset_url", sa.Text(), nullable=True),
        sa.Column(
            "evaluation", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.Column(
            "dataset_size",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
        ),
        sa.Column("snapshot_id", sa.Uuid(), nullable=True),
        sa.Column("row_count", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('ranking')", name=op.f("ck_run_kind")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'completed', 'failed')", name=op.f("ck_run_status")
        ),
        sa.ForeignKeyConstraint(
            ["leaderboard_id"], ["leaderboard.id"], name=op.f("fk_run_leaderboard_id")
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["dataset_snapshot.id"], name=op.f("fk_run_snapshot_id")
        ),
        sa.ForeignKeyConstraint(["token_id"], ["api_token.id"], name=op.f("fk_run_token_id")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_run_workspace_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_index("ix_run_leaderboard_id_id", "run", ["leaderboard_id", "id"], unique=False)
    op.create_table(
        "ranking",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["leaderboard_id"], ["leaderboard.id"], name=op.f("fk_ranking_leaderboard_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_ranking_run_id")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_ranking_workspace_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ranking")),
        sa.UniqueConstraint("run_id", name=op.f("uq_ranking_run_id")),
    )
    op.create_index(
        "ix_ranking_leaderboard_id_id", "ranking", ["leaderboard_id", "id"], unique=False
    )
    op.create_table(
        "run_candidate",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=True),
        sa.Column("endpoint_url", sa.Text(), nullable=True),
        sa.Column("auth_method", sa.Text(), nullable=True),
        sa.Column("auth_header_name", sa.Text(), nullable=True),
        sa.Column(
            "params", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.Column("input_price_per_million_usd", sa.Numeric(precision=24, scale=12), nullable=True),
        sa.Column(
            "output_price_per_million_usd", sa.Numeric(precision=24, scale=12), nullable=True
        ),
        sa.Column("timeout_seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidate.id"], name=op.f("fk_run_candidate_candidate_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_candidate_run_id")),
        sa.PrimaryKeyConstraint("run_id", "candidate_id", name=op.f("pk_run_candidate")),
    )
    op.create_index(
        op.f("ix_run_candidate_candidate_id"), "run_candidate", ["candidate_id"], unique=False
    )
    op.create_table(
        "run_result",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("trace_id", sa.Uuid(), nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_usd", sa.Numeric(precision=24, scale=12), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidate.id"], name=op.f("fk_run_result_candidate_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_result_run_id")),
        sa.PrimaryKeyConstraint("run_id", "candidate_id", "position", name=op.f("pk_run_result")),
        sa.UniqueConstraint("id", name=op.f("uq_run_result_id")),
    )
    op.create_index("ix_run_result_run_id_id", "run_result", ["run_id", "id"], unique=False)
    op.create_table(
        "trace",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("input", sa.Text(), nullable=True),
        sa.Column(
            "messages", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("expected", sa.Text(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_usd", sa.Numeric(precision=24, scale=12), nullable=True),
        sa.Column(
            "metadata", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("source IN ('run', 'inference')", name=op.f("ck_trace_source")),
        sa.CheckConstraint("status IN ('ok', 'error')", name=op.f("ck_trace_status")),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidate.id"], name=op.f("fk_trace_candidate_id")
        ),
        sa.ForeignKeyConstraint(
            ["leaderboard_id"], ["leaderboard.id"], name=op.f("fk_trace_leaderboard_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_trace_run_id")),
        sa.ForeignKeyConstraint(["token_id"], ["api_token.id"], name=op.f("fk_trace_token_id")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_trace_workspace_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace")),
    )
    op.create_index(
        "ix_trace_leaderboard_id_created_at_id",
        "trace",
        ["leaderboard_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_trace_run_id_created_at_id",
        "trace",
        ["run_id", "created_at", "id"],
        unique=False,
        postgresql_where="run_id IS NOT NULL",
    )
    op.create_index(
        "ix_trace_workspace_id_created_at_id",
        "trace",
        ["workspace_id", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "ranking_entry",
        sa.Column("ranking_id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("error_count", sa.Integer(), nullable=False),
        sa.Column("latency_ms_p50", sa.Double(), nullable=True),
        sa.Column("latency_ms_p95", sa.Double(), nullable=True),
        sa.Column("cost_usd", sa.Numeric(precision=24, scale=12), nullable=True),
        sa.Column("cost_usd_per_1k", sa.Numeric(precision=24, scale=12), nullable=True),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidate.id"], name=op.f("fk_ranking_entry_candidate_id")
        ),
        sa.ForeignKeyConstraint(
            ["ranking_id"], ["ranking.id"], name=op.f("fk_ranking_entry_ranking_id")
        ),
        sa.PrimaryKeyConstraint("ranking_id", "candidate_id", name=op.f("pk_ranking_entry")),
    )
    op.create_index(
        op.f("ix_ranking_entry_candidate_id"), "ranking_entry", ["candidate_id"], unique=False
    )


def downgrade() -> None:
    op.drop_table("ranking_entry")
    op.drop_table("trace")
    op.drop_table("run_result")
    op.drop_table("run_candidate")
    op.drop_table("ranking")
    op.drop_table("run")
