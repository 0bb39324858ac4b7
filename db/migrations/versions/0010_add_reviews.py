"""Add reviews: what people say of answers, by themselves or beside a judge.

Why: a run can be scored by people, and a judge's scores be checked by them.
Locks: a short one on run_result; the column has no default.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("run_result", sa.Column("human_score", sa.Double(), nullable=True))
    op.create_table(
        "review",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("other_candidate_id", sa.Uuid(), nullable=False),
        sa.Column("is_swapped", sa.Boolean(), nullable=False),
        sa.Column("is_sampled", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("preferred", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at", INSTANT, server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("reviewed_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "status IN ('assigned', 'done', 'skipped', 'expired')", name=op.f("ck_review_status")
        ),
        sa.CheckConstraint(
            "preferred IN ('first', 'second', 'tie')", name=op.f("ck_review_preferred")
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspace.id"], name=op.f("fk_review_workspace_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_review_run_id")),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidate.id"], name=op.f("fk_review_candidate_id")
        ),
        sa.ForeignKeyConstraint(
            ["other_candidate_id"], ["candidate.id"], name=op.f("fk_review_other_candidate_id")
        ),
        sa.ForeignKeyConstraint(["token_id"], ["api_token.id"], name=op.f("fk_review_token_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
    )
    op.create_index("ix_review_run_id_id", "review", ["run_id", "id"])
    op.create_index(
        "uq_review_open",
        "review",
        ["run_id", "position", "candidate_id", "other_candidate_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('assigned', 'done')"),
    )


def downgrade() -> None:
    op.drop_table("review")
    op.drop_column("run_result", "human_score")
