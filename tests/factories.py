"""Plain async builders over real rows; every argument has a default."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import update

from app.services import Process
from db.base import first_id_at, new_id
from db.models import (
    Candidate,
    DatasetRow,
    DatasetSnapshot,
    LabelJob,
    LabelResult,
    Leaderboard,
    Ranking,
    RankingEntry,
    Run,
    RunCandidate,
    RunResult,
    Trace,
    TraceText,
)
from db.partitions import create_days, day_of
from resolvers.redactors import StorableTrace
from resolvers.tokens import create_api_token
from resolvers.trace_storage import STORE, storing_values
from resolvers.workspaces import create_workspace

_serial = count(1)
DATASET_URL = "https://huggingface.co/datasets/gero-sandbox/tasks/resolve/main/tasks.jsonl"
TWO_ROWS_URL = "https://huggingface.co/datasets/gero-sandbox/faults/resolve/main/two.jsonl"


@dataclass(frozen=True)
class Tenant:
    """A workspace, its owner, and a token with every scope."""

    workspace_id: UUID
    owner_id: UUID
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


async def make_token(process: Process, workspace_id: UUID, **options: Any) -> str:
    chosen = {
        "name": "test",
        "scopes": ["*"],
        "expires_in": None,
        "budget_limit_usd": None,
        "budget_reset_interval": "none",
        **options,
    }
    made = await create_api_token(process.system_context(workspace_id), **chosen)
    return made.token


async def make_tenant(process: Process) -> Tenant:
    workspace_id, owner_id = new_id(), new_id()
    await create_workspace(
        process.system_context(), id=workspace_id, name=f"w{next(_serial)}", owner_id=owner_id
    )
    return Tenant(workspace_id, owner_id, await make_token(process, workspace_id))


async def make_leaderboard(
    process: Process, workspace_id: UUID, *, url: str | None = DATASET_URL, **columns: Any
) -> Leaderboard:
    board = Leaderboard(
        id=new_id(),
        workspace_id=workspace_id,
        **{
            "name": f"board-{next(_serial)}",
            "system_prompt": "Solve: {input}",
            "dataset_type": "GET",
            "dataset_url": url,
            "eval_type": "exact",
            "evaluation": {"match": "normalized", "extract": r"Answer:\s*(.+)"},
            "model_selection": "ranking_winner",
            **columns,
        },
    )
    async with process.database.write() as session:
        session.add(board)
    return board


async def make_candidate(
    process: Process, board: Leaderboard, *, endpoint_url: str | None = None, **columns: Any
) -> Candidate:
    candidate = Candidate(
        id=new_id(),
        workspace_id=board.workspace_id,
        leaderboard_id=board.id,
        **{
            "provider": "custom" if endpoint_url else "openrouter",
            "model_id": None if endpoint_url else "sandbox/balanced-medium",
            "display_name": f"candidate-{next(_serial)}",
            "endpoint_url": endpoint_url,
            "params": {},
            "timeout_seconds": 20.0,
            **columns,
        },
    )
    async with process.database.write() as session:
        session.add(candidate)
    return candidate


async def make_ranked_run(
    process: Process, board: Leaderboard, candidates: Sequence[Candidate], *, rows: int = 2
) -> Run:
    """Store a completed run as its execution would have: rows, results, traces, ranking."""
    now = datetime.now(UTC)
    ids = {"workspace_id": board.workspace_id, "leaderboard_id": board.id}
    async with process.database.write() as session:
        snapshot = DatasetSnapshot(
            id=new_id(), number=next(_serial), content_sha256=f"{next(_serial):064d}",
            row_count=rows, size_bytes=10, source_url=board.dataset_url, **ids,
        )  # fmt: skip
        session.add(snapshot)
        run = Run(
            id=new_id(), kind="ranking", status="completed", system_prompt=board.system_prompt,
            dataset_url=board.dataset_url, evaluation=board.evaluation, row_count=rows,
            dataset_size={"algorithm": "ALL", "rows": None, "seed": 1}, snapshot_id=snapshot.id,
            started_at=now, finished_at=now, **ids,
        )  # fmt: skip
        await session.flush()
        session.add(run)
        session.add_all(
            DatasetRow(
                snapshot_id=snapshot.id, position=position, workspace_id=board.workspace_id,
                content_hash=b"x", input=f"question {position}", expected="yes", tags=[],
                row_metadata={},
            )
            for position in range(rows)
        )  # fmt: skip
        await session.flush()
        ranking = Ranking(id=new_id(), run_id=run.id, row_count=rows, completed_at=now, **ids)
        session.add(ranking)
        await session.flush()
        await session.execute(
            update(Leaderboard)
            .where(Leaderboard.id == board.id)
            .values(production_candidate_id=candidates[0].id if candidates else None)
        )
        for rank, candidate in enumerate(candidates, start=1):
            session.add(
                RunCandidate(
                    run_id=run.id, candidate_id=candidate.id, position=rank,
                    provider=candidate.provider, model_id=candidate.model_id,
                    endpoint_url=candidate.endpoint_url, params={}, timeout_seconds=20.0,
                )
            )  # fmt: skip
            session.add(
                RankingEntry(
                    ranking_id=ranking.id, candidate_id=candidate.id, rank=rank,
                    score=1 / rank, row_count=rows, error_count=0, latency_ms_p50=1.0,
                    latency_ms_p95=2.0, cost_usd=Decimal("0.01"), cost_usd_per_1k=Decimal(5),
                )
            )  # fmt: skip
            for position in range(rows):
                trace = await make_trace(session, board, candidate, run=run)
                session.add(
                    RunResult(
                        id=new_id(), run_id=run.id, candidate_id=candidate.id, position=position,
                        trace_id=trace.id, output="yes", score=1 / rank, latency_ms=1.0,
                        cost_usd=Decimal("0.005"),
                    )
                )  # fmt: skip
    return run


async def make_label_job(process: Process, board: Leaderboard, **columns: Any) -> LabelJob:
    """Store a completed job of one row."""
    job = LabelJob(
        id=new_id(),
        workspace_id=board.workspace_id,
        leaderboard_id=board.id,
        **{
            "status": "completed",
            "mode": "missing",
            "fields": ["tags"],
            "provider": "openrouter",
            "label_model": "sandbox/labeller",
            "system_prompt": board.system_prompt,
            "prompt_version": "label-1",
            "row_count": 1,
            **columns,
        },
    )
    async with process.database.write() as session:
        session.add(job)
        await session.flush()
        session.add(
            LabelResult(
                job_id=job.id, position=0, replies=1, labelled=["tags"], latency_ms=1.0,
                cost_usd=Decimal("0.001"),
            )
        )  # fmt: skip
    return job


def trace_of(
    board: Leaderboard, candidate: Candidate, made_at: datetime, **given: Any
) -> dict[str, Any]:
    """Return the columns of a trace of *made_at*."""
    # Ids are of the millisecond that has begun; of one instant, the later one sorts behind.
    began = made_at.replace(microsecond=made_at.microsecond // 1_000 * 1_000)
    rest = 7 << 76 | next(_serial) << 16 | 2 << 62
    absent: dict[str, Any] = dict.fromkeys(
        column.key for entity in (Trace, TraceText) for column in entity.__table__.columns
    )
    return absent | {
        "id": UUID(int=first_id_at(began).int | rest),
        "workspace_id": board.workspace_id, "leaderboard_id": board.id,
        "candidate_id": candidate.id, "source": "inference", "status": "ok",
        "provider": candidate.provider, "model": candidate.display_name, "input": "question",
        "messages": [], "output": "yes", "latency_ms": 1.0, "trace_metadata": {},
        "created_at": made_at, **given,
    }  # fmt: skip


async def store_traces(session: Any, traces: Sequence[dict[str, Any]]) -> list[Trace]:
    """Store traces as the product does, as they are, and return what lists are made of."""
    await create_days(session, {day_of(trace["created_at"]) for trace in traces})
    connection = await session.connection()
    storable = [StorableTrace(trace) for trace in traces]
    await connection.exec_driver_sql(STORE, tuple(storing_values(storable)))
    narrow = Trace.__table__.columns.keys()
    return [Trace(**{key: trace[key] for key in narrow}) for trace in traces]


async def make_trace(
    session: Any,
    board: Leaderboard,
    candidate: Candidate,
    *,
    run: Run | None = None,
    at: datetime | None = None,
    days_ago: int = 0,
) -> Trace:
    made_at = (at or datetime.now(UTC)) - timedelta(days=days_ago)
    (trace,) = await store_traces(
        session,
        [
            trace_of(
                board, candidate, made_at, run_id=run.id if run else None,
                source="run" if run else "inference",
            )
        ],
    )  # fmt: skip
    return trace
