"""Runs whose workers are killed, and what tells whether anything of them was lost or doubled."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from subprocess import Popen
from typing import Any, Protocol, Self
from uuid import UUID

import orjson
from sqlalchemy import func, select
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from app.sandbox.server import create_sandbox
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from db.base import new_id
from db.models import (
    Candidate,
    JudgeVerdict,
    PromotionEvent,
    Ranking,
    RankingEntry,
    Run,
    RunComparison,
    RunResult,
    Trace,
)
from db.session import ReadSession
from resolvers.candidates import add_candidate
from resolvers.inputs import NewCandidate, NewLeaderboard, NewRun
from resolvers.leaderboards import create_leaderboard
from resolvers.run_requests import start_run
from resolvers.workspaces import create_workspace
from tests.jobs.test_crash import worker_process

# What `worker_process` sets: the limit of a workspace's calls of a provider, over all workers.
CALLS_AT_ONCE = 4
WORKERS = 2
# Who asks for runs.
OWNER = "owner"
SEED = 7
LONGEST_RUN_SECONDS = 100
LOOK_SECONDS = 0.02
# A kill follows its moment by up to so long, to fall between calls and into commits too.
LATEST_KILL_SECONDS = 0.1
ONE_KILLED_SHARE = 2 / 3
STOPPED = "the run stopped before its ceiling"
RESULT_COLUMNS = ("output", "score", "error", "cost_usd", "is_pending")
RANKING_COLUMNS = ("row_count", "verdict", "saved_call_count", "saved_cost_usd")
# Two runs never have these in common.
OWN_COLUMNS = {"ranking_id", "candidate_id", "latency_ms_p50", "latency_ms_p95"}
ENTRY_COLUMNS = [
    column.key for column in RankingEntry.__table__.columns if column.key not in OWN_COLUMNS
]

Place = tuple[str, int]
"""A model and a row's position."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a provider was asked, and by whom."""

    caller: str
    model: str
    text: str

    @property
    def question(self) -> tuple[str, str]:
        return self.model, self.text


class Provider:
    """The sandbox, at an address for each caller.

    Attributes:
        calls: As they came.
        under_way: Calls that are not answered yet, by their callers.
        open: While it is not set, nobody is answered.
    """

    def __init__(self, latency_scale: float) -> None:
        self.url = ""
        self.calls: list[Call] = []
        self.under_way: Counter[str] = Counter()
        self.open = asyncio.Event()
        self.open.set()
        self._sandbox = create_sandbox(latency_scale=latency_scale)

    def address(self, caller: str) -> str:
        return f"{self.url}/{caller}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._sandbox(scope, receive, send)
            return
        _, caller, path = scope["path"].split("/", 2)
        scope = {**scope, "path": f"/{path}"}
        if path.endswith("chat/completions"):
            await self._answer(caller, scope, receive, send)
        else:
            await self._sandbox(scope, receive, send)

    async def _answer(self, caller: str, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        asked = orjson.loads(body)
        self.calls.append(Call(caller, asked["model"], asked["messages"][-1]["content"]))
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def read() -> Message:
            return unread.pop() if unread else await receive()

        self.under_way[caller] += 1
        try:
            await self.open.wait()
            await self._sandbox(scope, read, send)
        finally:
            self.under_way[caller] -= 1


@asynccontextmanager
async def serve_provider(*, latency_scale: float) -> AsyncIterator[Provider]:
    provider = Provider(latency_scale)
    listener = listen("127.0.0.1", 0)
    provider.url = url_of(listener)
    async with serving(provider, listener):
        yield provider


class Workers:
    """Worker processes, each with a name of its own that the provider knows it by."""

    def __init__(self, settings: Settings, provider: Provider) -> None:
        self._settings = settings
        self._provider = provider
        self._stack = ExitStack()
        self._started = 0
        self._living: dict[str, Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for _ in range(WORKERS):
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        """Those that live."""
        return list(self._living)

    def start(self) -> None:
        self._started += 1
        name = f"worker-{self._started}"
        settings = self._settings.model_copy(update={"sandbox_url": self._provider.address(name)})
        self._living[name] = self._stack.enter_context(worker_process(settings))

    def kill(self, names: Sequence[str], along_with: Callable[[], None] = lambda: None) -> None:
        """Send SIGKILL to some, and do one thing more, before any of them is waited for."""
        killed = [self._living.pop(name) for name in names]
        for process in killed:
            process.kill()
        along_with()
        for process in killed:
            process.wait()


@dataclass(frozen=True)
class Case:
    """A kind of run.

    Attributes:
        name: Opens its prompts, by which its calls are known.
        board: More fields of its leaderboard, as `run` of the run.
        params: Of its candidates.
        may_stop: Whether its ceiling is so low that it may end it.
    """

    name: str
    models: tuple[str, ...]
    rows: int
    board: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    may_stop: bool = False

    async def start(self, process: Process) -> UUID:
        """Ask for a run in a workspace of its own, so that it shares no limit and no verdict."""
        ctx = process.system_context(new_id())
        await create_workspace(ctx, id=ctx.workspace_id, name=self.name, owner_id=new_id())
        dataset = f"gero-sandbox/sized/resolve/main/rows-{self.rows}.jsonl"
        fields = {
            "name": self.name,
            "system_prompt": f"{self.name}: {{input}}",
            "dataset_url": f"https://huggingface.co/datasets/{dataset}",
            "evaluation": {"match": "number"},
            **self.board,
        }
        board = await create_leaderboard(ctx, NewLeaderboard.model_validate(fields))
        for model in self.models:
            new = NewCandidate(provider="openrouter", model_id=model, params=self.params)
            await add_candidate(ctx, board.id, new)
        asked = NewRun.model_validate({"dataset": {"seed": SEED}, **self.run})
        return (await start_run(ctx, board.id, asked)).id


@dataclass(frozen=True)
class Outcome:
    """What came of a run, without what differs between any two of them.

    Attributes:
        ranking: Its own columns, and then each entry's, the best first.
        promotions: How many changes of production it caused.
    """

    status: str
    error: str | None
    results: dict[Place, dict[str, Any]]
    comparisons: dict[tuple[int, str, str], str]
    ranking: list[dict[str, Any]]
    promotions: int


@dataclass(frozen=True)
class Books:
    """What is stored of a run's calls.

    Attributes:
        ids: Of its results.
        untraced: Results without a trace of the same cost.
        prices_usd: What each call cost, by its question; the judge's too.
        traces: Of all these calls.
        verdicts_usd: What each verdict cost that it asked for.
        judged_usd: What its results say that judging them cost.
    """

    ids: dict[Place, UUID]
    untraced: int
    prices_usd: dict[tuple[str, str], Decimal]
    traces: int
    verdicts_usd: list[Decimal]
    judged_usd: Decimal
    committed_usd: Decimal


@dataclass(frozen=True)
class Moment:
    """When somebody is killed.

    Attributes:
        call_count: Of the runs under way, all together.
        is_whole_server: Whether everything is, PostgreSQL too; else one worker or all.
    """

    call_count: int
    is_whole_server: bool = False


@dataclass(frozen=True)
class Kill:
    """Workers that were killed, and the ids of the results that were stored before."""

    moment: Moment
    workers: tuple[str, ...]
    kept: dict[Place, UUID]


@dataclass
class Story:
    """A run, how often its workers were killed, and what the provider was asked for it.

    Attributes:
        faults: What was seen while it went on and must never be.
    """

    case: Case
    run_id: UUID
    has_ended: bool = False
    kills: list[Kill] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def killed(self) -> set[str]:
        return {name for kill in self.kills for name in kill.workers}

    @property
    def repeats(self) -> Counter[str]:
        """How many calls were made again, by the callers of the earlier ones."""
        callers = defaultdict(list)
        for call in self.calls:
            callers[call.question].append(call.caller)
        return Counter(name for names in callers.values() for name in names[:-1])

    @property
    def repeats_by_kill(self) -> list[int]:
        repeats = self.repeats
        return [sum(repeats[name] for name in kill.workers) for kill in self.kills]


@dataclass(frozen=True)
class Ending:
    """A run that has ended."""

    story: Story
    outcome: Outcome
    books: Books


class KillableServer(Protocol):
    """A PostgreSQL server."""

    def kill(self) -> None:
        """Send it SIGKILL."""

    async def start(self) -> None:
        """Start it again."""


@dataclass(frozen=True)
class Ground:
    """Where runs happen."""

    process: Process
    provider: Provider
    workers: Workers
    server: KillableServer | None = None

    async def carry_out(
        self, cases: Sequence[Case], moments: Sequence[Moment] = (), *, seed: int = 0
    ) -> list[Ending]:
        """Carry out a run of each case, all at once; workers are killed at the moments.

        Args:
            cases: Which runs; each case once.
            moments: In order; whoever was killed is followed by a new one at once.
            seed: Of who is killed, and how soon after the moment.
        """
        rng = random.Random(seed)
        before = len(self.provider.calls)
        stories = [Story(case, await case.start(self.process)) for case in cases]
        async with asyncio.timeout(LONGEST_RUN_SECONDS):
            for moment in moments:
                await self._follow(stories, until=before + moment.call_count)
                await asyncio.sleep(rng.uniform(0, LATEST_KILL_SECONDS))
                await self._kill(stories, self._choose(moment, rng), moment)
            await self._follow(stories)
        calls = self.provider.calls[before:]
        for story in stories:
            story.calls += [call for call in calls if f"{story.case.name}: " in call.text]
        return [
            Ending(
                story,
                await read_outcome(self.process, story.run_id),
                await read_books(self.process, story.run_id),
            )
            for story in stories
        ]

    async def _follow(self, stories: Sequence[Story], until: int | None = None) -> None:
        """Look at runs until there have been so many calls, or all have ended."""
        while not all(story.has_ended for story in stories):
            if until is not None and len(self.provider.calls) >= until:
                return
            for story in stories:
                await self._look(story)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, story: Story) -> None:
        spent = select(func.coalesce(func.sum(Trace.cost_usd), 0)).where(
            Trace.run_id == story.run_id
        )
        # One statement sees one state.
        statement = select(
            Run.status, Run.committed_usd, Run.max_cost_usd, spent.scalar_subquery()
        ).where(Run.id == story.run_id)
        async with self.process.database.read() as session:
            status, committed, ceiling, spent_usd = (await session.execute(statement)).one()
        story.has_ended = status in {"completed", "failed", "cancelled"}
        if ceiling is not None and not (spent_usd or 0) <= committed <= ceiling:
            story.faults.append(f"{committed} USD is set aside for {spent_usd} within {ceiling}")

    def _choose(self, moment: Moment, rng: random.Random) -> list[str]:
        """Choose who is killed: everybody, or somebody who is at work if there is one."""
        names = self.workers.names
        if moment.is_whole_server or rng.random() > ONE_KILLED_SHARE:
            return names
        return [rng.choice([name for name in names if self.provider.under_way[name]] or names)]

    async def _kill(self, stories: Sequence[Story], names: list[str], moment: Moment) -> None:
        for story in stories:
            kept = await read_ids(self.process, story.run_id)
            story.kills.append(Kill(moment, tuple(names), kept))
        if moment.is_whole_server:
            assert self.server is not None
            self.workers.kill(names, along_with=self.server.kill)
            await self.server.start()
        else:
            self.workers.kill(names)
        for _ in names:
            self.workers.start()


async def read_ids(process: Process, run_id: UUID) -> dict[Place, UUID]:
    """Return each stored result's id."""
    statement = (
        select(Candidate.model_id, RunResult.position, RunResult.id)
        .join(Candidate, Candidate.id == RunResult.candidate_id)
        .where(RunResult.run_id == run_id)
    )
    async with process.database.read() as session:
        return {(row[0] or "", row[1]): row[2] for row in await session.execute(statement)}


async def read_outcome(process: Process, run_id: UUID) -> Outcome:
    async with process.database.read() as session:
        run = await session.get_one(Run, run_id)
        found = await session.execute(
            select(Candidate.id, Candidate.model_id).where(
                Candidate.leaderboard_id == run.leaderboard_id
            )
        )
        models = {row[0]: row[1] or "" for row in found}
        results = await session.scalars(select(RunResult).where(RunResult.run_id == run_id))
        compared = await session.execute(
            select(
                RunComparison.position,
                RunComparison.first_candidate_id,
                RunComparison.second_candidate_id,
                RunComparison.outcome,
            ).where(RunComparison.run_id == run_id)
        )
        promotions = select(func.count()).where(PromotionEvent.run_id == run_id)
        return Outcome(
            status=run.status,
            error=run.error,
            results={
                (models[each.candidate_id], each.position): _columns(each, *RESULT_COLUMNS)
                for each in results
            },
            comparisons={(row[0], models[row[1]], models[row[2]]): row[3] for row in compared},
            ranking=await _read_ranking(session, run_id, models),
            promotions=await session.scalar(promotions) or 0,
        )


async def _read_ranking(
    session: ReadSession, run_id: UUID, models: dict[UUID, str]
) -> list[dict[str, Any]]:
    rankings = await session.scalars(select(Ranking).where(Ranking.run_id == run_id))
    entries = await session.scalars(
        select(RankingEntry)
        .join(Ranking, Ranking.id == RankingEntry.ranking_id)
        .where(Ranking.run_id == run_id)
        .order_by(RankingEntry.rank)
    )
    return [
        *(_columns(each, *RANKING_COLUMNS) for each in rankings),
        *({"model": models[e.candidate_id], **_columns(e, *ENTRY_COLUMNS)} for e in entries),
    ]


def _columns(row: object, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


async def read_books(process: Process, run_id: UUID) -> Books:
    result_costs = (
        select(func.count())
        .select_from(RunResult)
        .outerjoin(Trace, Trace.id == RunResult.trace_id)
        .where(RunResult.run_id == run_id, Trace.cost_usd.is_distinct_from(RunResult.cost_usd))
    )
    judged = select(func.sum(RunResult.judge_cost_usd)).where(RunResult.run_id == run_id)
    verdicts = select(JudgeVerdict.cost_usd).where(JudgeVerdict.run_id == run_id)
    async with process.database.read() as session:
        run = await session.get_one(Run, run_id)
        judge = run.evaluation.get("judge", {}).get("model")
        traces = (await session.scalars(select(Trace).where(Trace.run_id == run_id))).all()
        return Books(
            ids=await read_ids(process, run_id),
            untraced=await session.scalar(result_costs) or 0,
            traces=len(traces),
            prices_usd={
                (
                    str(judge if each.trace_metadata.get("role") == "judge" else each.model),
                    (each.messages or [])[-1]["content"],
                ): each.cost_usd or Decimal(0)
                for each in traces
            },
            verdicts_usd=[cost or Decimal(0) for cost in await session.scalars(verdicts)],
            judged_usd=await session.scalar(judged) or Decimal(0),
            committed_usd=run.committed_usd,
        )


def find_faults(found: Ending, undisturbed: Ending) -> list[str]:
    """Say what of a run was lost, doubled or changed by the kills, in words."""
    return [
        *found.story.faults,
        *_find_flaws(undisturbed),
        *_find_changes(found, undisturbed),
        *_find_losses(found),
        *_find_repeats(found.story),
        *_find_unpaid(found, undisturbed),
    ]


def _find_flaws(undisturbed: Ending) -> Iterator[str]:
    """Check a run that others are compared with."""
    case, outcome = undisturbed.story.case, undisturbed.outcome
    if outcome.status != "completed":
        yield f"even the run that nobody disturbed {outcome.status} with {outcome.error}"
    expected_count = case.rows * len(case.models)
    if "early_stopping" not in case.run and len(outcome.results) != expected_count:
        yield f"even the run that nobody disturbed has {len(outcome.results)} results"
    if undisturbed.story.repeats:
        yield "even the run that nobody disturbed made calls again"


def _find_changes(found: Ending, undisturbed: Ending) -> Iterator[str]:
    """Compare with a run in whose course nobody was killed."""
    outcome, expected = found.outcome, undisturbed.outcome
    asked = {call.question for call in found.story.calls}
    if not asked <= {call.question for call in undisturbed.story.calls}:
        yield "it asked what the run that nobody disturbed did not"
    is_stopped = outcome.status == "failed" and STOPPED in (outcome.error or "")
    if found.story.case.may_stop and is_stopped:
        if any(expected.results.get(at) != result for at, result in outcome.results.items()):
            yield "it has other results than the run that nobody disturbed"
        return
    if outcome.status != "completed":
        yield f"it {outcome.status} with {outcome.error}"
    for part in ("results", "comparisons", "ranking", "promotions"):
        if getattr(outcome, part) != getattr(expected, part):
            yield f"its {part} are not those of the run that nobody disturbed"


def _find_losses(found: Ending) -> Iterator[str]:
    story, books = found.story, found.books
    for kill in story.kills:
        gone = kill.kept.items() - books.ids.items()
        if gone:
            yield f"{len(gone)} of {len(kill.kept)} results were stored, and are gone"
    if books.untraced:
        yield f"{books.untraced} results have no trace of the same cost"
    if sum(books.verdicts_usd) != books.judged_usd:
        yield f"{sum(books.verdicts_usd)} USD of verdicts are {books.judged_usd} USD in the results"
    if not len(books.ids) + len(books.verdicts_usd) <= books.traces <= len(story.calls):
        yield f"{len(story.calls)} calls left {books.traces} traces of {len(books.ids)} results"


def _find_repeats(story: Story) -> Iterator[str]:
    repeats = story.repeats
    for name in sorted(repeats.keys() - story.killed):
        yield f"{repeats[name]} calls of {name} were made again, although it lived"
    for kill, count in zip(story.kills, story.repeats_by_kill, strict=True):
        if count > CALLS_AT_ONCE:
            names = ", ".join(kill.workers)
            yield f"{count} calls of {names} were made again, of {CALLS_AT_ONCE} under way"


def _find_unpaid(found: Ending, undisturbed: Ending) -> Iterator[str]:
    """Check that a ceiling held for what the provider charges, the repeated calls included."""
    if "max_cost_usd" in found.story.case.run:
        prices_usd = undisturbed.books.prices_usd
        charged_usd = sum(prices_usd.get(call.question, 0) for call in found.story.calls)
        if charged_usd > found.books.committed_usd:
            yield f"{charged_usd} USD was charged, and {found.books.committed_usd} set aside"
