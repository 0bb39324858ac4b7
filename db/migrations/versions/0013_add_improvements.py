"""Add improvements: runs that propose changes of a dataset.

Why: what candidates answer says which rows lack, contradict or waste what they are for.
Locks: a short one on run, whose new rule about kinds is checked by the next revision.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
KINDS = "kind IN ('ranking', 'rescore', 'replay'{})"


def upgrade() -> None:
    op.add_column(
        "run",
        sa.Column("auto_apply", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    _admit_kinds(", 'improve_dataset'")
    op.create_table(
        "improvement",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("snapshot_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("decided_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'accepted', 'rejected')", name=op.f("ck_improvement_status")
        ),
        sa.ForeignKeyConstraint(["id"], ["run.id"], name=op.f("fk_improvement_id")),
        _to("improvement", "workspace_id", "workspace"),
        _to("improvement", "leaderboard_id", "leaderboard"),
        _to("improvement", "snapshot_id", "dataset_snapshot"),
        _to("improvement", "token_id", "api_token"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_improvement")),
    )
    op.create_index("ix_improvement_leaderboard_id_id", "improvement", ["leaderboard_id", "id"])
    op.create_table(
        "proposed_change",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("improvement_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("row_key", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("old", JSON, nullable=True),
        sa.Column("new", JSON, nullable=True),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('fill', 'flag', 'easy', 'separates', 'neutral')",
            name=op.f("ck_proposed_change_kind"),
        ),
        sa.CheckConstraint(
            "decision IN ('pending', 'accepted', 'rejected')",
            name=op.f("ck_proposed_change_decision"),
        ),
        _to("proposed_change", "workspace_id", "workspace"),
        _to("proposed_change", "improvement_id", "improvement"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposed_change")),
    )
    op.create_index(
        "uq_proposed_change_place",
        "proposed_change",
        ["improvement_id", "position", "field"],
        unique=True,
    )
    op.create_index(
        "ix_proposed_change_improvement_id_id", "proposed_change", ["improvement_id", "id"]
    )


def _to(table: str, column: str, parent: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{parent}.id"], name=op.f(f"fk_{table}_{column}"))


def _admit_kinds(more: str) -> None:
    op.drop_constraint(op.f("ck_run_kind"), "run")
    op.create_check_constraint(
        op.f("ck_run_kind"), "run", KINDS.format(more), postgresql_not_valid=True
    )


def downgrade() -> None:
    op.drop_table("proposed_change")
    op.drop_table("improvement")
    _admit_kinds("")
    op.drop_column("run", "auto_apply")
