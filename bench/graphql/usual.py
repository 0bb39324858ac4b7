"""The server `usual`: Strawberry over ORM entities, with a DataLoader for each edge.

Written as the libraries' own guides do it, without credentials or limits.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeAlias, TypeVar

import strawberry
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import aliased, defer
from strawberry.dataloader import DataLoader
from strawberry.fastapi import GraphQLRouter

from bench.graphql.scene import Scene
from db import models
from schema.enums import (
    CallStatus,
    CandidateProvider,
    DatasetType,
    EvalType,
    ModelSelection,
    RunStatus,
    TraceSource,
)
from schema.money import PLAIN_DECIMALS

T = TypeVar("T")
Info: TypeAlias = strawberry.Info[dict[str, Any], None]
Sessions: TypeAlias = async_sessionmaker[AsyncSession]
Page: TypeAlias = tuple[Any, int]


@strawberry.type
class Connection(Generic[T]):
    """The items of a slice."""

    nodes: list[T]


@strawberry.type
class CandidateModel:
    """A row of `db.models.Candidate`."""

    id: strawberry.ID
    provider: CandidateProvider
    model_id: str | None
    display_name: str
    timeout_seconds: float
    created_at: datetime


@strawberry.type
class RunResult:
    """A row of `db.models.RunResult`."""

    id: strawberry.ID
    position: int
    output: str | None
    score: float
    error: str | None
    latency_ms: float
    prompt_tokens: int | None
    cost_usd: Decimal | None


@strawberry.type
class Run:
    """A row of `db.models.Run`."""

    id: strawberry.ID
    status: RunStatus
    row_count: int | None
    created_at: datetime
    finished_at: datetime | None

    @strawberry.field
    @staticmethod
    async def results(
        root: strawberry.Parent[models.Run], info: Info, first: int
    ) -> Connection[RunResult]:
        """Return its first results."""
        return Connection(nodes=await info.context["results"].load((root.id, first)))


@strawberry.type
class Leaderboard:
    """A row of `db.models.Leaderboard`."""

    id: strawberry.ID
    name: str
    dataset_type: DatasetType
    dataset_url: str | None
    eval_type: EvalType
    model_selection: ModelSelection
    created_at: datetime
    updated_at: datetime

    @strawberry.field
    @staticmethod
    async def candidates(
        root: strawberry.Parent[models.Leaderboard], info: Info
    ) -> list[CandidateModel]:
        """Return whom it compares."""
        return await info.context["candidates"].load(root.id)  # type: ignore[no-any-return]

    @strawberry.field
    @staticmethod
    async def runs(
        root: strawberry.Parent[models.Leaderboard], info: Info, first: int
    ) -> Connection[Run]:
        """Return its latest runs."""
        return Connection(nodes=await info.context["runs"].load((root.id, first)))


@strawberry.type
class Trace:
    """A row of `db.models.Trace`."""

    id: strawberry.ID
    source: TraceSource
    status: CallStatus
    provider: str
    model: str
    score: float | None
    error: str | None
    latency_ms: float
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: Decimal | None
    created_at: datetime


@strawberry.type
class Query:
    """What can be read."""

    @strawberry.field
    async def leaderboard(self, info: Info, id: strawberry.ID) -> Leaderboard:
        """Return one leaderboard."""
        async with info.context["sessions"]() as session:
            return await session.get_one(models.Leaderboard, id)  # type: ignore[no-any-return]

    @strawberry.field
    async def leaderboards(self, info: Info, first: int) -> Connection[Leaderboard]:
        """Return the newest leaderboards."""
        board = models.Leaderboard
        statement = (
            select(board)
            .where(
                board.workspace_id == info.context["scene"].workspace_id, board.deleted_at.is_(None)
            )
            .order_by(board.id.desc())
            .limit(first)
        )
        async with info.context["sessions"]() as session:
            return Connection(nodes=(await session.scalars(statement)).all())

    @strawberry.field
    async def traces(self, info: Info, first: int) -> Connection[Trace]:
        """Return the newest traces."""
        trace = models.Trace
        statement = (
            select(trace)
            .where(trace.workspace_id == info.context["scene"].workspace_id)
            .order_by(trace.id.desc())
            # Which are looked up in another table, row by row: nobody asks for them here.
            .options(
                *(
                    defer(text)
                    for text in (trace.input, trace.messages, trace.output, trace.expected)
                )
            )
            .limit(first)
        )
        async with info.context["sessions"]() as session:
            return Connection(nodes=(await session.scalars(statement)).all())


async def load_candidates(sessions: Sessions, keys: list[Any]) -> list[list[models.Candidate]]:
    """Return the candidates of each leaderboard."""
    statement = (
        select(models.Candidate)
        .where(models.Candidate.leaderboard_id.in_(keys), models.Candidate.removed_at.is_(None))
        .order_by(models.Candidate.id)
    )
    found = defaultdict(list)
    async with sessions() as session:
        for row in await session.scalars(statement):
            found[row.leaderboard_id].append(row)
    return [found[key] for key in keys]


async def load_pages(
    sessions: Sessions, entity: Any, parent: Any, order: Any, keys: list[Page]
) -> list[Sequence[Any]]:
    """Return the first children of each (parent's id, how many)."""
    found: dict[Page, list[Any]] = defaultdict(list)
    async with sessions() as session:
        for first in {first for _, first in keys}:
            place = func.row_number().over(partition_by=parent, order_by=order).label("place")
            parents = [parent_id for parent_id, asked in keys if asked == first]
            placed = select(entity, place).where(parent.in_(parents)).subquery()
            child = aliased(entity, placed)
            statement = select(child).where(placed.c.place <= first).order_by(placed.c.place)
            for row in await session.scalars(statement):
                found[getattr(row, parent.key), first].append(row)
    return [found[key] for key in keys]


def loaders(sessions: Sessions) -> dict[str, DataLoader[Any, Any]]:
    """Return a request's loaders."""
    run, result = models.Run, models.RunResult

    async def candidates(keys: list[Any]) -> list[list[models.Candidate]]:
        return await load_candidates(sessions, keys)

    async def runs(keys: list[Page]) -> list[Sequence[models.Run]]:
        return await load_pages(sessions, run, run.leaderboard_id, run.id.desc(), keys)

    async def results(keys: list[Page]) -> list[Sequence[models.RunResult]]:
        return await load_pages(sessions, result, result.run_id, result.id, keys)

    return {
        "candidates": DataLoader(candidates),
        "runs": DataLoader(runs),
        "results": DataLoader(results),
    }


def create_app(scene: Scene) -> FastAPI:
    """Build the application."""
    engine = create_async_engine(scene.database_url, pool_size=20)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def context() -> dict[str, Any]:
        return {"scene": scene, "sessions": sessions, **loaders(sessions)}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    router: GraphQLRouter[Any, None] = GraphQLRouter(
        strawberry.Schema(query=Query, scalar_overrides=PLAIN_DECIMALS), context_getter=context
    )
    app = FastAPI(lifespan=lifespan)
    app.include_router(router, prefix="/graphql")
    return app
