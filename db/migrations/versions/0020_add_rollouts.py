"""Add rollouts, what their arms did and were judged, and shadows.

Why: a promotion can go out step by step and take itself back, and a challenger can be tried on
production's requests without answering any.
Servers hear of what changes who is called; what a shadow spends is no such change.
Locks: short ones on promotion_event, for a column without a default and for checks that the next
revision validates; every other table is new.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
USD = sa.Numeric(24, 12)
RUNNING = sa.text("status = 'running'")
WATCHED = (("rollout", "status, step, share"), ("shadow", "status, share, ends_at"))
OLD_CAUSES = "cause IN ('promotion', 'selection', 'removal', 'rollback')"
CAUSES = "cause IN ('promotion', 'selection', 'removal', 'rollback', 'rollout', 'rollout_rollback')"


def upgrade() -> None:
    _create_rollout()
    _create_rollout_arm()
    op.create_table(
        "trace_score",
        sa.Column("trace_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("rollout_id", sa.Uuid(), nullable=False),
        sa.Column("judge_model", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("cost_usd", USD, nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name=op.f("ck_trace_score_score")),
        *_refers("trace_score", workspace_id="workspace", rollout_id="rollout"),
        sa.PrimaryKeyConstraint("trace_id", name=op.f("pk_trace_score")),
    )
    op.create_index("ix_trace_score_rollout_id", "trace_score", ["rollout_id"])
    _create_shadow()
    op.add_column("promotion_event", sa.Column("rollout_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_promotion_event_rollout_id"),
        "promotion_event",
        "rollout",
        ["rollout_id"],
        ["id"],
        postgresql_not_valid=True,
    )
    _check_causes(CAUSES)
    for table, columns in WATCHED:
        op.execute(
            f"CREATE TRIGGER {table}_tells AFTER INSERT OR UPDATE OF {columns} ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION tell_change('leaderboard', 'leaderboard_id')"
        )


def _create_rollout() -> None:
    op.create_table(
        "rollout",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("from_candidate_id", sa.Uuid(), nullable=False),
        sa.Column("to_candidate_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("decision", JSON, nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("judge", JSON, nullable=True),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("numbers", JSON, nullable=True),
        sa.Column("max_cost_usd", USD, nullable=False),
        sa.Column("committed_usd", USD, server_default=sa.text("0"), nullable=False),
        sa.Column("judge_error", sa.Text(), nullable=True),
        sa.Column("judged_until", INSTANT, nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("step_started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "status IN ('running', 'completed', 'rolled_back', 'cancelled')",
            name=op.f("ck_rollout_status"),
        ),
        sa.CheckConstraint("share > 0 AND share < 1", name=op.f("ck_rollout_share")),
        *_refers(
            "rollout",
            workspace_id="workspace",
            leaderboard_id="leaderboard",
            from_candidate_id="candidate",
            to_candidate_id="candidate",
            run_id="run",
            token_id="api_token",  # noqa: S106 - a table's name
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout")),
    )
    _index_by_leaderboard("rollout")


def _create_rollout_arm() -> None:
    totals = ("log_latency", "cost_usd", "score")
    op.create_table(
        "rollout_arm",
        sa.Column("rollout_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("writer", sa.Uuid(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        *(
            column
            for name in totals
            for column in (
                sa.Column(f"{name}_count", sa.BigInteger(), nullable=False),
                sa.Column(f"{name}_total", sa.Double(), nullable=False),
                sa.Column(f"{name}_square_total", sa.Double(), nullable=False),
            )
        ),
        sa.CheckConstraint("arm IN ('control', 'canary')", name=op.f("ck_rollout_arm_arm")),
        *_refers("rollout_arm", rollout_id="rollout"),
        sa.PrimaryKeyConstraint("rollout_id", "step", "arm", "writer", name=op.f("pk_rollout_arm")),
    )


def _create_shadow() -> None:
    op.create_table(
        "shadow",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("challenger_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("budget_usd", USD, nullable=False),
        sa.Column("spent_usd", USD, server_default=sa.text("0"), nullable=False),
        sa.Column("held_usd", USD, server_default=sa.text("0"), nullable=False),
        sa.Column("call_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("error_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("ends_at", INSTANT, nullable=True),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "status IN ('running', 'stopped', 'exhausted', 'ended')",
            name=op.f("ck_shadow_status"),
        ),
        sa.CheckConstraint("share > 0 AND share <= 1", name=op.f("ck_shadow_share")),
        sa.CheckConstraint("held_usd >= 0 AND spent_usd >= 0", name=op.f("ck_shadow_amounts")),
        *_refers(
            "shadow",
            workspace_id="workspace",
            leaderboard_id="leaderboard",
            challenger_id="candidate",
            token_id="api_token",  # noqa: S106 - a table's name
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow")),
    )
    _index_by_leaderboard("shadow")
    op.create_table(
        "shadow_hold",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("shadow_id", sa.Uuid(), nullable=False),
        sa.Column("amount_usd", USD, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        *_refers("shadow_hold", shadow_id="shadow"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_hold")),
    )
    op.create_index("ix_shadow_hold_shadow_id", "shadow_hold", ["shadow_id"])
    op.create_index("ix_shadow_hold_expires_at", "shadow_hold", ["expires_at"])


def _refers(table: str, **targets: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"))
        for column, target in targets.items()
    ]


def _index_by_leaderboard(table: str) -> None:
    op.create_index(f"ix_{table}_leaderboard_id_id", table, ["leaderboard_id", "id"])
    op.create_index(
        f"uq_{table}_running", table, ["leaderboard_id"], unique=True, postgresql_where=RUNNING
    )


def _check_causes(condition: str) -> None:
    op.drop_constraint(op.f("ck_promotion_event_cause"), "promotion_event")
    op.create_check_constraint(
        op.f("ck_promotion_event_cause"), "promotion_event", condition, postgresql_not_valid=True
    )


def downgrade() -> None:
    op.execute("DELETE FROM promotion_event WHERE cause = 'rollout_rollback'")
    op.execute("UPDATE promotion_event SET cause = 'promotion' WHERE cause = 'rollout'")
    _check_causes(OLD_CAUSES)
    op.drop_column("promotion_event", "rollout_id")
    for table in ("shadow_hold", "shadow", "trace_score", "rollout_arm", "rollout"):
        op.drop_table(table)
