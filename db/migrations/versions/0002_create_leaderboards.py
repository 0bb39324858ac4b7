"""Create leaderboards, candidates and dataset snapshots.

Why: what is compared, and on which rows.
Locks: none; the tables are new.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leaderboard",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=False),
        sa.Column("dataset_type", sa.Text(), nullable=False),
        sa.Column("dataset_url", sa.Text(), nullable=True),
        sa.Column("eval_type", sa.Text(), nullable=False),
        sa.Column(
            "evaluation", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.Column("model_selection", sa.Text(), nullable=False),
        sa.Column("selected_candidate_id", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "dataset_type IN ('GET', 'PUSH')", name=op.f("ck_leaderboard_dataset_type")
        ),
        sa.CheckConstraint(
            "eval_type IN ('exact', 'judge', 'human')", name=op.f("ck_leaderboard_eval_type")
        ),
        sa.CheckConstraint(
            "model_selection IN ('ranking_winner', 'manual')",
            name=op.f("ck_leaderboard_model_selection"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_leaderboard_workspace_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leaderboard")),
    )
    op.create_index(
        "ix_leaderboard_workspace_id_id", "leaderboard", ["workspace_id", "id"], unique=False
    )
    op.create_table(
        "candidate",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("endpoint_url", sa.Text(), nullable=True),
        sa.Column("auth_method", sa.Text(), nullable=True),
        sa.Column("auth_header_name", sa.Text(), nullable=True),
        sa.Column("auth_token_box", sa.Text(), nullable=True),
        sa.Column(
            "params", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.Column("input_price_per_million_usd", sa.Numeric(precision=24, scale=12), nullable=True),
        sa.Column(
            "output_price_per_million_usd", sa.Numeric(precision=24, scale=12), nullable=True
        ),
        sa.Column("timeout_seconds", sa.Double(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "provider IN ('openrouter', 'huggingface', 'custom')",
            name=op.f("ck_candidate_provider"),
        ),
        sa.ForeignKeyConstraint(
            ["leaderboard_id"], ["leaderboard.id"], name=op.f("fk_candidate_leaderboard_id")
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_candidate_workspace_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_candidate")),
    )
    op.create_index(
        "ix_candidate_leaderboard_id_id", "candidate", ["leaderboard_id", "id"], unique=False
    )
    op.create_table(
        "dataset_snapshot",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_url", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["leaderboard_id"], ["leaderboard.id"], name=op.f("fk_dataset_snapshot_leaderboard_id")
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_dataset_snapshot_workspace_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_snapshot")),
        sa.UniqueConstraint(
            "leaderboard_id",
            "content_sha256",
            name=op.f("uq_dataset_snapshot_leaderboard_id_content_sha256"),
        ),
        sa.UniqueConstraint(
            "leaderboard_id", "number", name=op.f("uq_dataset_snapshot_leaderboard_id_number")
        ),
    )
    op.create_table(
        "dataset_row",
        sa.Column("snapshot_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("expected", sa.Text(), nullable=True),
        sa.Column(
            "messages", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("rubric", sa.Text(), nullable=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "metadata", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["dataset_snapshot.id"], name=op.f("fk_dataset_row_snapshot_id")
        ),
        sa.PrimaryKeyConstraint("snapshot_id", "position", name=op.f("pk_dataset_row")),
    )
    # The two tables refer to each other, so this waits for both.
    op.create_foreign_key(
        op.f("fk_leaderboard_selected_candidate_id"),
        "leaderboard",
        "candidate",
        ["selected_candidate_id"],
        ["id"],
    )


def downgrade() -> None:
    op.drop_constraint(op.f("fk_leaderboard_selected_candidate_id"), "leaderboard")
    op.drop_table("dataset_row")
    op.drop_table("dataset_snapshot")
    op.drop_table("candidate")
    op.drop_table("leaderboard")
