"""Add feedback: what people say of traces.

Why: a correction, or an answer that somebody found good, is what a row expects.
Locks: none on tables that exist.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trace_feedback",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("trace_id", sa.Uuid(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("correction", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name=op.f("ck_trace_feedback_score")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_trace_feedback_workspace_id")
        ),
        sa.ForeignKeyConstraint(
            ["token_id"], ["api_token.id"], name=op.f("fk_trace_feedback_token_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace_feedback")),
    )
    op.create_index("ix_trace_feedback_trace_id_id", "trace_feedback", ["trace_id", "id"])


def downgrade() -> None:
    op.drop_table("trace_feedback")
