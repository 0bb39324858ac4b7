"""Index traces for search and rare values, and keep the sums of past hours in few rows.

Why: what is rare is found without reading the traces between, and words are; the sums of a month
are a few hundred rows, where they were hundreds of thousands.
Locks: traces are read and not stored while the indexes are built, some 20 s for each million.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

USD = sa.Numeric(precision=24, scale=12)
# A partition of words for each day that there is one of texts for.
CREATE_DAYS = """
DO $$
DECLARE
    day record;
BEGIN
    FOR day IN
        SELECT relname, pg_get_expr(relpartbound, pg_class.oid) AS bounds
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'trace_text'::regclass
    LOOP
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF trace_words %s',
            replace(day.relname, 'trace_text', 'trace_words'), day.bounds
        );
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL statement_timeout = 0")
    _index_what_is_rare()
    _create_words()
    op.create_table(
        "trace_sum",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("leaderboard_id", sa.Uuid(), nullable=False),
        sa.Column("span", sa.Text(), nullable=False),
        sa.Column("begins_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("trace_count", sa.BigInteger(), nullable=False),
        sa.Column("error_count", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", USD, nullable=False),
        sa.Column("unpriced_count", sa.BigInteger(), nullable=False),
        sa.Column("buckets", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("bucket_counts", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.CheckConstraint("span IN ('hour', 'day')", name=op.f("ck_trace_sum_span")),
        sa.PrimaryKeyConstraint(
            "workspace_id",
            "leaderboard_id",
            "span",
            "begins_at",
            "source",
            "provider",
            "model",
            name=op.f("pk_trace_sum"),
        ),
    )


def _index_what_is_rare() -> None:
    op.create_index("ix_trace_workspace_id_model_id", "trace", ["workspace_id", "model", "id"])
    op.create_index(
        "ix_trace_workspace_id_candidate_id_id", "trace", ["workspace_id", "candidate_id", "id"]
    )
    op.create_index(
        "ix_trace_workspace_id_token_id_id",
        "trace",
        ["workspace_id", "token_id", "id"],
        postgresql_where="token_id IS NOT NULL",
    )
    op.create_index(
        "ix_trace_workspace_id_source_id",
        "trace",
        ["workspace_id", "source", "id"],
        postgresql_where="source <> 'inference'",
    )
    op.create_index(
        "ix_trace_failed",
        "trace",
        ["workspace_id", "id"],
        postgresql_where=sa.text("error IS NOT NULL OR status <> 'ok'"),
    )
    op.create_index(
        "ix_trace_metadata",
        "trace",
        ["metadata"],
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
    )


def _create_words() -> None:
    op.create_table(
        "trace_words",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("words", TSVECTOR(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace_words")),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("ix_trace_words_words", "trace_words", ["words"], postgresql_using="gin")
    op.create_table(
        "trace_unsearched",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "id", name=op.f("pk_trace_unsearched")),
    )
    op.execute(CREATE_DAYS)
    op.execute("INSERT INTO trace_unsearched SELECT workspace_id, id FROM trace_text")


def downgrade() -> None:
    op.execute(
        """
        INSERT INTO trace_hour
        SELECT workspace_id, leaderboard_id, begins_at, source, provider, model, bucket,
            '00000000-0000-0000-0000-000000000000', count,
            -- What is not known by bucket is told with the lowest of them.
            CASE place WHEN 1 THEN error_count ELSE 0 END,
            CASE place WHEN 1 THEN prompt_tokens ELSE 0 END,
            CASE place WHEN 1 THEN completion_tokens ELSE 0 END,
            CASE place WHEN 1 THEN cost_usd ELSE 0 END,
            CASE place WHEN 1 THEN unpriced_count ELSE 0 END
        FROM trace_sum, unnest(buckets, bucket_counts) WITH ORDINALITY AS part(bucket, count, place)
        WHERE span = 'hour' AND leaderboard_id <> 'ffffffff-ffff-ffff-ffff-ffffffffffff'
        """
    )
    op.drop_table("trace_sum")
    op.drop_table("trace_unsearched")
    op.drop_table("trace_words")
    for name in (
        "ix_trace_metadata",
        "ix_trace_failed",
        "ix_trace_workspace_id_source_id",
        "ix_trace_workspace_id_token_id_id",
        "ix_trace_workspace_id_candidate_id_id",
        "ix_trace_workspace_id_model_id",
    ):
        op.drop_index(name, "trace")
