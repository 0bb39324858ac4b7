"""Add what serving rests on: charges, versions of prices, slugs, limits of rates, notifications.

Why: each call is charged once, in a ledger that nothing is taken back from; a leaderboard is
called by a name; and every server hears of a change that a call depends on, whoever makes it.
Locks: the tables that get columns and triggers, in an instant each.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
USD = sa.Numeric(precision=24, scale=12)
INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
FILL_SLUGS = """
WITH named AS (
    SELECT id, workspace_id, coalesce(nullif(trim(BOTH '-' FROM left(trim(BOTH '-' FROM
        regexp_replace(lower(name), '[^a-z0-9]+', '-', 'g')), 60)), ''), 'leaderboard') AS slug
    FROM leaderboard
), numbered AS (
    SELECT id, slug, row_number() OVER (PARTITION BY workspace_id, slug ORDER BY id) AS place
    FROM named
)
UPDATE leaderboard
SET slug = numbered.slug
    || CASE WHEN place > 1 THEN '-' || right(leaderboard.id::text, 8) ELSE '' END
FROM numbered WHERE numbered.id = leaderboard.id
"""
FILL_PRICES = """
INSERT INTO candidate_price (
    candidate_id, version, input_price_per_million_usd, output_price_per_million_usd, created_at
)
SELECT id, 1, input_price_per_million_usd, output_price_per_million_usd, created_at FROM candidate
"""
REFUSE_CHANGES = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$
"""
APPEND_ONLY = """
CREATE TRIGGER charge_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON charge
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""
# Payloads are `kind:id`; see db/changes.py.
TELL = """
CREATE FUNCTION tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
    ELSE
        changed := NEW;
    END IF;
    PERFORM pg_notify('gero_changes', TG_ARGV[0] || ':' || (to_jsonb(changed) ->> TG_ARGV[1]));
    RETURN NULL;
END $$
"""
WATCHED_OF_TOKENS = (
    "secret_sha256",
    "scopes",
    "expires_at",
    "revoked_at",
    "budget_limit_usd",
    "budget_reset_interval",
    "requests_per_minute",
    "tokens_per_minute",
)
WATCHED = (
    (
        "api_token",
        f"UPDATE OF {', '.join(WATCHED_OF_TOKENS)} OR DELETE",
        "token",
        "id",
    ),
    ("push_token", "UPDATE OF secret_sha256, revoked_at OR DELETE", "token", "id"),
    (
        "leaderboard",
        "UPDATE OF slug, system_prompt, serving, production_candidate_id, deleted_at OR DELETE",
        "leaderboard",
        "id",
    ),
    ("candidate", "INSERT OR UPDATE OR DELETE", "leaderboard", "leaderboard_id"),
    ("ranking", "INSERT", "leaderboard", "leaderboard_id"),
    ("integration", "INSERT OR UPDATE OR DELETE", "workspace", "workspace_id"),
    ("workspace", "UPDATE OR DELETE", "workspace", "id"),
)


def upgrade() -> None:
    _add_columns()
    _create_charges()
    _create_prices()
    op.execute(FILL_SLUGS)
    op.execute(FILL_PRICES)
    op.execute(REFUSE_CHANGES)
    op.execute(APPEND_ONLY)
    op.execute(TELL)
    for table, events, kind, column in WATCHED:
        op.execute(
            f"CREATE TRIGGER {table}_tells AFTER {events} ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION tell_change('{kind}', '{column}')"
        )


def _add_columns() -> None:
    op.add_column("leaderboard", sa.Column("slug", sa.Text(), nullable=True))
    op.add_column(
        "leaderboard", sa.Column("serving", JSONB, server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column(
        "candidate",
        sa.Column("price_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
    )
    op.add_column("candidate", sa.Column("first_byte_timeout_seconds", sa.Double(), nullable=True))
    for name in ("requests_per_minute", "tokens_per_minute"):
        op.add_column("api_token", sa.Column(name, sa.Integer(), nullable=True))
    for name in ("requests_free_at", "tokens_free_at"):
        op.add_column("api_token", sa.Column(name, INSTANT, nullable=True))
    op.add_column("workspace", sa.Column("trace_retention_days", sa.Integer(), nullable=True))
    op.add_column("workspace", sa.Column("redaction", JSONB, nullable=True))


def _create_charges() -> None:
    op.create_table(
        "charge",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("amount_usd", USD, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("price_version", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.CheckConstraint(
            "source IN ('provider', 'computed', 'unknown')", name=op.f("ck_charge_source")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_charge")),
    )


def _create_prices() -> None:
    op.create_table(
        "candidate_price",
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("input_price_per_million_usd", USD, nullable=True),
        sa.Column("output_price_per_million_usd", USD, nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidate.id"], name=op.f("fk_candidate_price_candidate_id")
        ),
        sa.PrimaryKeyConstraint("candidate_id", "version", name=op.f("pk_candidate_price")),
    )


def downgrade() -> None:
    for table, _events, _kind, _column in WATCHED:
        op.execute(f"DROP TRIGGER {table}_tells ON {table}")
    op.execute("DROP FUNCTION tell_change")
    op.drop_table("candidate_price")
    op.drop_table("charge")
    op.execute("DROP FUNCTION refuse_change")
    for name in ("redaction", "trace_retention_days"):
        op.drop_column("workspace", name)
    for name in ("tokens_free_at", "requests_free_at", "tokens_per_minute", "requests_per_minute"):
        op.drop_column("api_token", name)
    for name in ("first_byte_timeout_seconds", "price_version"):
        op.drop_column("candidate", name)
    for name in ("serving", "slug"):
        op.drop_column("leaderboard", name)
