"""Partition traces by day, put their texts apart, and sum them up by the hour.

Why: a day of traces is dropped in an instant when it is old; lists read narrow rows; and nothing
is scanned to tell how many there were. Foreign keys are gone: each cost a look-up a row.
Locks: the table of traces, for as long as copying what it holds takes.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
USD = sa.Numeric(precision=24, scale=12)
# The instant in a version 7 UUID.
MADE_AT = "to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)"
SET_ASIDE = """
ALTER TABLE trace RENAME TO trace_old;
ALTER INDEX pk_trace RENAME TO pk_trace_old;
ALTER INDEX ix_trace_workspace_id_{column} RENAME TO ix_trace_old_1;
ALTER INDEX ix_trace_leaderboard_id_{column} RENAME TO ix_trace_old_2;
ALTER INDEX ix_trace_run_id_{column} RENAME TO ix_trace_old_3;
"""
# The days that there are traces of, and the next ones; a server makes those that follow.
CREATE_DAYS = """
DO $$
DECLARE
    day date;
    first text;
    next text;
    parent text;
BEGIN
    FOR day IN
        SELECT DISTINCT (MADE_AT AT TIME ZONE 'UTC')::date FROM trace_old
        UNION
        SELECT (now() AT TIME ZONE 'UTC')::date + ahead FROM generate_series(0, 2) AS ahead
    LOOP
        first := rpad(lpad(to_hex((extract(epoch FROM day) * 1000)::bigint), 12, '0'), 32, '0');
        next := rpad(lpad(to_hex((extract(epoch FROM day + 1) * 1000)::bigint), 12, '0'), 32, '0');
        FOREACH parent IN ARRAY ARRAY['trace', 'trace_text'] LOOP
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                parent || '_' || to_char(day, 'YYYYMMDD'), parent, first::uuid, next::uuid
            );
        END LOOP;
    END LOOP;
END $$
"""
FILL = """
INSERT INTO trace_text (id, workspace_id, input, messages, output, expected)
SELECT id, workspace_id, input, messages, output, expected FROM trace_old;
INSERT INTO trace (
    id, workspace_id, leaderboard_id, run_id, candidate_id, token_id, source, status, provider,
    model, score, error, latency_ms, prompt_tokens, completion_tokens, cost_usd, cost_source,
    metadata, created_at
)
SELECT
    id, workspace_id, leaderboard_id, run_id, candidate_id, token_id, source, status, provider,
    model, score, error, latency_ms, prompt_tokens, completion_tokens, cost_usd,
    CASE WHEN cost_usd IS NULL THEN 'unknown' END, metadata, MADE_AT
FROM trace_old;
INSERT INTO trace_hour
SELECT
    workspace_id, leaderboard_id, date_trunc('hour', created_at, 'UTC'), source, provider, model,
    ceil(ln(greatest(latency_ms, 1)) / ln(1.05))::integer,
    '00000000-0000-0000-0000-000000000000',
    count(*), count(*) FILTER (WHERE status = 'error'),
    coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
    coalesce(sum(cost_usd), 0), count(*) FILTER (WHERE cost_usd IS NULL)
FROM trace
GROUP BY 1, 2, 3, 4, 5, 6, 7;
DROP TABLE trace_old;
"""
FILL_BACK = """
INSERT INTO trace
SELECT
    t.id, t.workspace_id, t.leaderboard_id, t.run_id, t.candidate_id, t.token_id, t.source,
    replace(t.status, 'cancelled', 'error'), t.provider, t.model, x.input, x.messages, x.output,
    x.expected, t.score, t.error, t.latency_ms, t.prompt_tokens, t.completion_tokens, t.cost_usd,
    t.metadata, t.created_at
FROM trace_old AS t JOIN trace_text AS x USING (id)
WHERE t.candidate_id IS NOT NULL AND t.leaderboard_id IS NOT NULL;
DROP TABLE trace_old;
DROP TABLE trace_text;
DROP TABLE trace_hour;
"""


def _execute(statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            op.execute(statement)


def upgrade() -> None:
    _execute(SET_ASIDE.format(column="created_at_id"))
    _create_traces()
    _create_texts()
    _create_hours()
    op.execute(CREATE_DAYS.replace("MADE_AT", MADE_AT))
    _execute(FILL.replace("MADE_AT", MADE_AT))


def _create_traces() -> None:
    op.create_table(
        "trace",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("candidate_id", sa.Uuid(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("first_byte_ms", sa.Double(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_usd", USD, nullable=True),
        sa.Column("cost_source", sa.Text(), nullable=True),
        sa.Column("price_version", sa.Integer(), nullable=True),
        sa.Column("metadata", JSONB, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "source IN ('run', 'inference', 'dataset', 'manual')", name=op.f("ck_trace_source")
        ),
        sa.CheckConstraint("status IN ('ok', 'error', 'cancelled')", name=op.f("ck_trace_status")),
        sa.CheckConstraint(
            "cost_source IN ('provider', 'computed', 'unknown')",
            name=op.f("ck_trace_cost_source"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace")),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("ix_trace_leaderboard_id_id", "trace", ["leaderboard_id", "id"])
    op.create_index("ix_trace_workspace_id_id", "trace", ["workspace_id", "id"])
    op.create_index(
        "ix_trace_run_id_id", "trace", ["run_id", "id"], postgresql_where="run_id IS NOT NULL"
    )


def _create_texts() -> None:
    op.create_table(
        "trace_text",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("input", sa.Text(), nullable=True),
        sa.Column("messages", JSONB, nullable=True),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("expected", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace_text")),
        postgresql_partition_by="RANGE (id)",
    )


def _create_hours() -> None:
    op.create_table(
        "trace_hour",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("writer", sa.Uuid(), nullable=False),
        sa.Column("trace_count", sa.BigInteger(), nullable=False),
        sa.Column("error_count", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", USD, nullable=False),
        sa.Column("unpriced_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "workspace_id",
            "leaderboard_id",
            "hour",
            "source",
            "provider",
            "model",
            "bucket",
            "writer",
            name=op.f("pk_trace_hour"),
        ),
    )


def downgrade() -> None:
    _execute(SET_ASIDE.format(column="id"))
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
        sa.Column("messages", JSONB, nullable=True),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("expected", sa.Text(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_usd", USD, nullable=True),
        sa.Column("metadata", JSONB, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("source IN ('run', 'inference')", name=op.f("ck_trace_source")),
        sa.CheckConstraint("status IN ('ok', 'error')", name=op.f("ck_trace_status")),
        *(
            sa.ForeignKeyConstraint([f"{name}_id"], [f"{table}.id"], name=f"fk_trace_{name}_id")
            for name, table in (
                ("workspace", "workspace"),
                ("leaderboard", "leaderboard"),
                ("run", "run"),
                ("candidate", "candidate"),
                ("token", "api_token"),
            )
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace")),
    )
    for parent in ("workspace", "leaderboard", "run"):
        op.create_index(
            f"ix_trace_{parent}_id_created_at_id",
            "trace",
            [f"{parent}_id", "created_at", "id"],
            postgresql_where="run_id IS NOT NULL" if parent == "run" else None,
        )
    _execute(FILL_BACK)
