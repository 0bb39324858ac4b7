"""Which rows a labelling job asks for, and what asking for them may cost."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import orjson
from sqlalchemy import func, select

from db.models import DatasetSnapshot, LabelJob, LabelResult
from engine.edits import EditField
from engine.label_prompts import label_messages, label_response_format
from engine.labels import find_wanted
from engine.rows import read_line
from engine.snapshot_format import BLOCK_ROWS, IndexArray
from providers.base import ChatTarget
from resolvers.call_totals import CallTotal, Expectation
from resolvers.catalogue import model_headers
from resolvers.consolidation import consolidate_dataset
from resolvers.context import Context
from resolvers.errors import InvalidDatasetError
from resolvers.snapshot_storage import read_snapshot

# A reply that can't be used is asked for once more.
REPLIES = 2
LABEL_TIMEOUT_SECONDS = 120.0
# Of a job, read and looked at together.
READ_ROWS = 4 * BLOCK_ROWS
# The latest rows that were labelled alike, from whose cost that of the next ones is expected.
SEEN_RESULTS = 500


@dataclass(slots=True)
class ChosenRows:
    """The rows that a job asks for, by their places in a snapshot and by their keys."""

    snapshot: DatasetSnapshot
    positions: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)


async def choose_rows(ctx: Context, job: LabelJob) -> tuple[ChosenRows, Expectation]:
    """Return the rows that *job* asks for, and what that may cost.

    What is pending is consolidated first, so that a row's place is known and stays.

    Raises:
        InvalidDatasetError: The dataset has no rows, or its file can't be used.
        UpstreamError: The hub failed; repeating this may help.
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be reached now.
    """
    made = await consolidate_dataset(ctx, job.leaderboard_id)
    if made.snapshot is None:
        raise InvalidDatasetError(f"leaderboard {job.leaderboard_id} has no rows to label yet")
    snapshot = made.snapshot
    reader = await read_snapshot(ctx, snapshot.id)
    choice = _Choice(ctx, job, snapshot, await reader.index())
    for start in range(0, snapshot.row_count, READ_ROWS):
        places = range(start, min(start + READ_ROWS, snapshot.row_count))
        lines = [each async for each in reader.lines(places)]
        await asyncio.to_thread(choice.add, lines)
        if choice.is_full:
            break
    mean_usd = await _mean_cost(ctx, job)
    count = len(choice.rows.positions)
    return choice.rows, choice.total.expect(mean_usd, count, tries=REPLIES)


class _Choice:
    """Chooses rows one after the other, and adds up what asking for them may cost."""

    def __init__(
        self, ctx: Context, job: LabelJob, snapshot: DatasetSnapshot, index: IndexArray
    ) -> None:
        self._job = job
        self._fields = fields_of(job)
        self._keys = index["key"]
        # Rows of a file that have no id and the same content are one, and labelled once.
        self._seen: set[bytes] = set()
        self.rows = ChosenRows(snapshot)
        self.total = CallTotal(
            _target(job, {}), default_max_tokens=ctx.services.limits.default_max_tokens
        )

    @property
    def is_full(self) -> bool:
        """Whether there are as many as the job asks for at most."""
        return len(self.rows.positions) == self._job.row_limit

    def add(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """Choose from the next lines."""
        for position, line in lines:
            if self.is_full:
                return
            if self._job.mode == "missing" and self._lacks_nothing(line):
                continue
            row = read_line(line)
            wanted = find_wanted(row, self._fields, replaces=self._job.mode == "all")
            key = self._keys[position].tobytes()
            if wanted and key not in self._seen:
                self._seen.add(key)
                self.rows.positions.append(position)
                self.rows.keys.append(key)
                messages = label_messages(self._job.system_prompt, row, wanted)
                self.total.add(messages, label_params(wanted))

    def _lacks_nothing(self, line: bytes) -> bool:
        """Tell, in a fraction of the time that reading a row takes, that it has every field."""
        present: set[str] = orjson.loads(line).keys()
        return present >= {each.value for each in self._fields}


def fields_of(job: LabelJob) -> list[EditField]:
    """Return what *job* asks for."""
    return [EditField(name) for name in job.fields]


def label_params(fields: Sequence[EditField]) -> dict[str, object]:
    """Return what is sent beside the messages that ask for *fields*."""
    return {"temperature": 0.0, "response_format": label_response_format(fields)}


async def label_target(ctx: Context, job: LabelJob) -> ChatTarget:
    """Return how to call a job's model.

    Raises:
        IntegrationMissingError: It needs a key, and none is saved.
    """
    headers = await model_headers(ctx, job.label_model, provider=job.provider)
    return _target(job, headers)


def _target(job: LabelJob, headers: dict[str, str]) -> ChatTarget:
    return ChatTarget(
        provider=job.provider,
        model_id=job.label_model,
        url=None,
        headers=headers,
        params={},
        timeout_seconds=LABEL_TIMEOUT_SECONDS,
        input_price_per_million_usd=job.input_price_per_million_usd,
        output_price_per_million_usd=job.output_price_per_million_usd,
    )


async def _mean_cost(ctx: Context, job: LabelJob) -> Decimal | None:
    """Return what the same labels of the leaderboard's rows have cost of late, on average."""
    latest = (
        select(LabelResult.cost_usd)
        .join(LabelJob, LabelJob.id == LabelResult.job_id)
        .where(
            LabelJob.leaderboard_id == job.leaderboard_id,
            LabelJob.label_model == job.label_model,
            LabelJob.fields == job.fields,
            LabelResult.replies > 0,
            LabelResult.error.is_(None),
        )
        .order_by(LabelResult.job_id.desc())
        .limit(SEEN_RESULTS)
        .subquery()
    )
    async with ctx.database.read() as session:
        return await session.scalar(select(func.avg(latest.c.cost_usd)))
