"""Index traces for search and rare values, and keep the sums of past hours in few rows.

Why: what is rare is found without reading the traces between, and words are; the sums of a month
are a few hundred rows, where they were hundreds of thousands.
Locks: traces are read and not stored while the indexes are built, some 100 s for each million.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

USD = sa.Numeric(precision=24, scale=12)
# The words of the beginnings of the input and the output, for no more of them fit into an index's
# entry, and the workspace's id as a word, so that none reads another's. Written in plpgsql, whose
# cost is not lost by inlining: the planner must know that it is dear.
WORDS = """
CREATE FUNCTION trace_words(input text, output text, workspace_id uuid) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 5000 AS $$
BEGIN
    RETURN to_tsvector(
        'simple', left(coalesce(input, ''), 50000) || ' ' || left(coalesce(output, ''), 50000)
    ) || array_to_tsvector(ARRAY[workspace_id::text]);
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL statement_timeout = 0")
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
    op.execute(WORDS)
    op.create_index(
        "ix_trace_text_words",
        "trace_text",
        [sa.text("trace_words(input, output, workspace_id)")],
        postgresql_using="gin",
    )
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
    op.drop_index("ix_trace_text_words", "trace_text")
    op.execute("DROP FUNCTION trace_words")
    for name in (
        "ix_trace_metadata",
        "ix_trace_failed",
        "ix_trace_workspace_id_source_id",
        "ix_trace_workspace_id_token_id_id",
        "ix_trace_workspace_id_candidate_id_id",
        "ix_trace_workspace_id_model_id",
    ):
        op.drop_index(name, "trace")
