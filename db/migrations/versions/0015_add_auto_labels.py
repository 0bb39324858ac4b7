"""Add auto-labels: jobs in which a model labels a dataset's rows, and what came of each row.

Why: rows that lack an expected output, tags, a quality or a rubric can be given them by a model,
in work that survives its workers and keeps below a ceiling.
Locks: none that matter; both tables are new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
USD = sa.Numeric(24, 12)


def upgrade() -> None:
    op.create_table(
        "label_job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("fields", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("row_limit", sa.Integer(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("label_model", sa.Text(), nullable=False),
        sa.Column("input_price_per_million_usd", USD, nullable=True),
        sa.Column("output_price_per_million_usd", USD, nullable=True),
        sa.Column("system_prompt", sa.Text(), nullable=False),
        sa.Column("prompt_version", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.Uuid(), nullable=True),
        sa.Column("row_count", sa.Integer(), nullable=True),
        sa.Column("max_cost_usd", USD, nullable=True),
        sa.Column("committed_usd", USD, server_default=sa.text("0"), nullable=False),
        sa.Column("estimated_cost_usd", USD, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_label_job_status"),
        ),
        sa.CheckConstraint("mode IN ('missing', 'all')", name=op.f("ck_label_job_mode")),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=op.f(f"fk_label_job_{column}"))
            for column, table in (
                ("workspace_id", "workspace"),
                ("leaderboard_id", "leaderboard"),
                ("snapshot_id", "dataset_snapshot"),
                ("token_id", "api_token"),
            )
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_job")),
    )
    op.create_index("ix_label_job_leaderboard_id_id", "label_job", ["leaderboard_id", "id"])
    op.create_table(
        "label_result",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("replies", sa.Integer(), nullable=False),
        sa.Column("is_pending", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("labelled", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("cost_usd", USD, nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["label_job.id"], name=op.f("fk_label_result_job_id")),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_label_result")),
    )


def downgrade() -> None:
    op.drop_table("label_result")
    op.drop_table("label_job")
