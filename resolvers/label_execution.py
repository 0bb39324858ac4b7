"""The work of a labelling job: asking for the labels of its rows, and storing each reply once."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Uuid, bindparam, select

from db.models import Dataset, DatasetSnapshot, Job, LabelJob, LabelResult, Leaderboard
from db.session import ReadSession
from engine.json_replies import ReplyError
from engine.label_prompts import label_messages
from engine.labels import find_wanted, read_labels
from engine.rows import read_line
from providers.base import ChatTarget, ProviderError
from resolvers.auth import SYSTEM, requires
from resolvers.columns import kept_query
from resolvers.context import Context
from resolvers.failures import explain_errors
from resolvers.label_lifecycle import LABEL_SHARD, fail_job, finish_job, lock_job
from resolvers.label_rows import REPLIES, fields_of, label_params, label_target
from resolvers.label_storage import AskedRow, LabelReply, RowReply, find_open_fields
from resolvers.meters import CallSource
from resolvers.model_calls import CallOutcome
from resolvers.paging import AnySelect
from resolvers.run_calls import call_for
from resolvers.shards import ShardWork, count_unfinished_shards, end_shard, note_progress
from resolvers.snapshot_storage import read_snapshot

UNREADABLE = "unreadable_reply"


@requires(SYSTEM)
async def execute_label_shard(ctx: Context, shard: Job) -> None:
    """Ask for the labels of some of a job's rows that are not stored yet.

    Args:
        ctx: The worker's.
        shard: Its subject is a labelling job, of which nothing is done unless it is under way; its
            `positions` are the rows by their place in the job's snapshot, its `keys` their keys.

    Raises:
        IntegrationMissingError: The key that the model needs was taken away.
        BudgetExceededError: The job's ceiling leaves no room for another call.
        CorruptSnapshotError: The stored rows were changed, or are gone.
        UnavailableError: Object storage can't be read now.
    """
    positions = shard.arguments["positions"]
    async with ctx.database.read() as session:
        job = await session.get(LabelJob, shard.subject_id)
        board = await session.get(Leaderboard, job.leaderboard_id) if job else None
        if job is None or board is None or job.status != "running":
            return
        snapshot = await session.get_one(DatasetSnapshot, job.snapshot_id)
        replies = await _missing(session, job.id, positions)
    if board.deleted_at is not None:
        await fail_job(ctx, job.id, "the leaderboard was deleted")
        return
    if shard.attempts > 1:
        await note_progress(ctx, shard, len(replies), of=len(positions))
    keys = dict(zip(positions, map(bytes.fromhex, shard.arguments["keys"]), strict=True))
    rows = await _read_rows(ctx, job, snapshot, {place: keys[place] for place in replies})
    labelling = _Labelling(ctx, job, await label_target(ctx, job), seen=snapshot.last_edit)
    await labelling.work.do(
        [labelling.label(replace(row, replies=replies[row.position])) for row in rows]
    )
    await _finish_shard(ctx, job, shard.id)


async def _missing(session: ReadSession, job_id: UUID, positions: Sequence[int]) -> dict[int, int]:
    """Return the rows that are not dealt with, and how often the model has replied about each."""
    stored = await session.execute(
        select(LabelResult.position, LabelResult.replies, LabelResult.is_pending).where(
            LabelResult.job_id == job_id, LabelResult.position.in_(positions)
        )
    )
    known = {position: (replies, is_pending) for position, replies, is_pending in stored}
    found = {position: known.get(position, (0, True)) for position in positions}
    return {position: replies for position, (replies, is_pending) in found.items() if is_pending}


async def _read_rows(
    ctx: Context, job: LabelJob, snapshot: DatasetSnapshot, keys: Mapping[int, bytes]
) -> list[AskedRow]:
    """Return the rows at the places of *keys*, and what of each is still to be asked for."""
    reader = await read_snapshot(ctx, snapshot.id)
    fields, replaces = fields_of(job), job.mode == "all"
    read = [(position, read_line(line)) async for position, line in reader.lines(keys)]
    wanted = {keys[place]: find_wanted(row, fields, replaces=replaces) for place, row in read}
    async with ctx.database.read() as session:
        dataset = await session.get(Dataset, job.leaderboard_id)
        until = 0 if dataset is None else dataset.last_edit
        still_open = await find_open_fields(
            session, job, wanted, seen=snapshot.last_edit, until=until
        )
    return [
        AskedRow(
            position=place,
            key=keys[place],
            row=row,
            fields=[each for each in wanted[keys[place]] if each in still_open[keys[place]]],
        )
        for place, row in read
    ]


def _write_status() -> AnySelect:
    return select(LabelJob.id, LabelJob.status).where(LabelJob.id == bindparam("id", type_=Uuid()))


class _Labelling:
    """The calls of a shard; each reply is stored as it comes back."""

    def __init__(self, ctx: Context, job: LabelJob, target: ChatTarget, *, seen: int) -> None:
        self._ctx = ctx
        self._job = job
        self._target = target
        self._seen = seen
        self.work = ShardWork(self._is_running)
        self._stopped = self.work.stopped

    async def _is_running(self) -> bool:
        # Beside the sessions, which may all be taken by what is under way.
        (row,) = await self._ctx.database.fetch(kept_query(_write_status), id=self._job.id)
        return bool(row.status == "running")

    async def label(self, asked: AskedRow) -> None:
        """Ask for one row's labels, once more if the reply can't be used."""
        if not asked.fields:  # somebody was faster
            nothing = LabelReply(asked.replies, {}, None, is_final=True, cost_usd=Decimal(0))
            await self._store(asked, nothing)
            return
        services, workspace_id = self._ctx.services, self._job.workspace_id
        endpoint = services.health.of(workspace_id, self._target, self._stopped)
        with suppress(ProviderError):
            await endpoint.wait()
        async with services.gate.of(workspace_id, self._target.provider):
            # The place is held until the reply is stored: so no more calls than there are places
            # can be lost, and paid for again, with a process that dies.
            for number in range(asked.replies + 1, REPLIES + 1):
                if self._stopped.is_set() or await self._ask(asked, number):
                    return

    async def _ask(self, asked: AskedRow, number: int) -> bool:
        """Ask once and store the reply; tell whether the row is asked no more."""
        messages = label_messages(self._job.system_prompt, asked.row, asked.fields)
        params = label_params(asked.fields)
        call = call_for(
            self._ctx, self._job, self._target, messages, params,
            source=CallSource.LABEL, stopped=self._stopped,
        )  # fmt: skip
        async with call as (outcome, released_usd):
            reply = _read_reply(asked, outcome, number)
            await self._store(asked, replace(reply, released_usd=released_usd))
        return reply.is_final

    async def _store(self, asked: AskedRow, reply: LabelReply) -> None:
        made = RowReply(self._ctx, self._job, asked, reply, self._seen)
        await (await self._ctx.services.label_replies.offer(made))


def _read_reply(asked: AskedRow, outcome: CallOutcome, number: int) -> LabelReply:
    reply = LabelReply(
        number,
        {},
        error=None,
        is_final=True,
        cost_usd=outcome.cost_usd,
        latency_ms=outcome.latency_ms,
    )
    answer = outcome.answer
    if answer is None:
        return replace(reply, error=outcome.error.summary if outcome.error else "unknown")
    reply = replace(
        reply, prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens
    )
    try:
        return replace(reply, labels=read_labels(answer.output, asked.fields))
    except ReplyError as error:
        return replace(reply, error=f"{UNREADABLE}: {error}", is_final=number >= REPLIES)


async def _finish_shard(ctx: Context, job: LabelJob, shard_id: UUID) -> None:
    """Mark a shard done; the last one ends the job, which fails if every row did."""
    async with ctx.database.write() as session:
        locked = await lock_job(session, job.id)
        if locked is None or locked.status != "running":
            return
        await end_shard(session, shard_id)
        if await count_unfinished_shards(session, job.id, kind=LABEL_SHARD):
            return
        failure = await _find_failure(session, job.id)
        await finish_job(session, locked, "failed" if failure else "completed", error=failure)


async def _find_failure(session: ReadSession, job_id: UUID) -> str | None:
    """Say what went wrong in a job of which no row was labelled for errors alone; else None."""
    of_job = select(LabelResult.error).where(LabelResult.job_id == job_id)
    good = of_job.where(LabelResult.error.is_(None)).with_only_columns(LabelResult.position)
    if await session.scalar(good.limit(1)) is not None:
        return None
    return explain_errors(await session.scalars(of_job))
