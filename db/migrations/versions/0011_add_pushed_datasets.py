"""Add what is pushed and edited of datasets, and where snapshots keep their rows.

Why: rows arrive by webhook, are labelled and corrected, and are consolidated into snapshots, whose
rows move to object storage; a run keeps which of them it has chosen. Two snapshots of a leaderboard
may now hold the same rows, when what was pushed in between was dropped.
Locks: short ones on leaderboard, run and dataset_snapshot; every default is a constant.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.add_column("leaderboard", sa.Column("push", JSON, nullable=True))
    op.add_column("run", sa.Column("positions", sa.LargeBinary(), nullable=True))
    _extend_snapshots()
    op.create_table(
        "dataset",
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
            for name in (
                "last_sequence",
                "last_edit",
                "consolidated_sequence",
                "consolidated_edit",
            )
        ),
        sa.Column("consolidated_at", INSTANT, nullable=True),
        sa.Column("day", sa.Date(), nullable=True),
        sa.Column("day_row_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("month", sa.Date(), nullable=True),
        sa.Column("month_row_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        _to("dataset", "leaderboard"),
        _to("dataset", "workspace"),
        sa.PrimaryKeyConstraint("leaderboard_id", name=op.f("pk_dataset")),
    )
    _create_pushes()
    _create_edits()


def _extend_snapshots() -> None:
    op.drop_constraint("uq_dataset_snapshot_leaderboard_id_content_sha256", "dataset_snapshot")
    for column in (
        sa.Column("labelled_count", sa.BigInteger(), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("source_revision", sa.Text(), nullable=True),
        sa.Column("last_sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_edit", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("dropped", JSON, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("blocks", sa.LargeBinary(), nullable=True),
        sa.Column("index_sha256", sa.Text(), nullable=True),
    ):
        op.add_column("dataset_snapshot", column)


def _create_pushes() -> None:
    op.create_table(
        "pushed_row",
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("row_key", sa.LargeBinary(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("has_id", sa.Boolean(), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        _to("pushed_row", "leaderboard"),
        sa.PrimaryKeyConstraint("leaderboard_id", "sequence", name=op.f("pk_pushed_row")),
        sa.UniqueConstraint(
            "leaderboard_id", "row_key", name=op.f("uq_pushed_row_leaderboard_id_row_key")
        ),
    )
    op.create_index(
        "ix_pushed_row_leaderboard_id_content_hash",
        "pushed_row",
        ["leaderboard_id", "content_hash"],
    )
    op.create_table(
        "push_batch",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("receipt", JSON, nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        _to("push_batch", "leaderboard"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_push_batch")),
    )
    op.create_index(op.f("ix_push_batch_created_at"), "push_batch", ["created_at"])
    op.create_table(
        "push_token",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("last_used_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        _to("push_token", "workspace"),
        _to("push_token", "leaderboard"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_push_token")),
        sa.UniqueConstraint("public_id", name=op.f("uq_push_token_public_id")),
    )
    op.create_index(op.f("ix_push_token_leaderboard_id"), "push_token", ["leaderboard_id"])


def _create_edits() -> None:
    op.create_table(
        "dataset_edit",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("row_key", sa.LargeBinary(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", JSON, nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("provenance", JSON, nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.CheckConstraint(
            "origin IN ('human', 'model', 'improvement')", name=op.f("ck_dataset_edit_origin")
        ),
        _to("dataset_edit", "workspace"),
        _to("dataset_edit", "leaderboard"),
        sa.ForeignKeyConstraint(
            ["token_id"], ["api_token.id"], name=op.f("fk_dataset_edit_token_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_edit")),
        sa.UniqueConstraint(
            "leaderboard_id", "number", name=op.f("uq_dataset_edit_leaderboard_id_number")
        ),
    )
    op.create_index(
        "ix_dataset_edit_leaderboard_id_row_key", "dataset_edit", ["leaderboard_id", "row_key"]
    )


def _to(table: str, parent: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [f"{parent}_id"], [f"{parent}.id"], name=op.f(f"fk_{table}_{parent}_id")
    )


def downgrade() -> None:
    for table in ("dataset_edit", "push_token", "push_batch", "pushed_row", "dataset"):
        op.drop_table(table)
    for column in (
        "index_sha256",
        "blocks",
        "dropped",
        "last_edit",
        "last_sequence",
        "source_revision",
        "parent_id",
        "labelled_count",
    ):
        op.drop_column("dataset_snapshot", column)
    op.create_unique_constraint(
        "uq_dataset_snapshot_leaderboard_id_content_sha256",
        "dataset_snapshot",
        ["leaderboard_id", "content_sha256"],
    )
    op.drop_column("run", "positions")
    op.drop_column("leaderboard", "push")
