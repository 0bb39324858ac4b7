"""Storing what a labelling model replied: once, and never over a person's word."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_
from sqlalchemy.dialects.postgresql import insert

from db.models import LabelJob, LabelResult
from db.session import Database, ReadSession, WriteSession
from engine.edits import EditField, EditOrigin
from engine.instants import rfc3339
from engine.labels import find_open
from engine.rows import DatasetRow
from resolvers.ceilings import release_costs
from resolvers.context import Context
from resolvers.edit_storage import NewEdit, edits_by_key, lock_dataset, store_edits
from resolvers.label_lifecycle import notify_job
from resolvers.run_storage import store_patiently


@dataclass(frozen=True, slots=True)
class AskedRow:
    """A row that a model is asked to label.

    Attributes:
        key: Who it is; see `engine.rows.row_key`.
        fields: What is asked for.
        replies: How often the model has replied already.
    """

    position: int
    key: bytes
    row: DatasetRow
    fields: Sequence[EditField]
    replies: int = 0


@dataclass(frozen=True, slots=True)
class LabelReply:
    """What came of asking once.

    Attributes:
        number: How often the model has replied by now.
        labels: Empty when the reply can't be used, or tells nothing.
        error: Why there are no labels, as `code: message`.
        is_final: Whether the row is asked no more.
        released_usd: What the call did not cost of what was set aside for it.
    """

    number: int
    labels: Mapping[EditField, Any]
    error: str | None
    is_final: bool
    cost_usd: Decimal | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float = 0.0
    released_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class RowReply:
    """A reply about a row of a job, to be stored.

    Attributes:
        seen: The newest edit in what the model was shown.
    """

    ctx: Context
    job: LabelJob
    asked: AskedRow
    reply: LabelReply
    seen: int


async def find_open_fields(
    session: ReadSession,
    job: LabelJob,
    fields: Mapping[bytes, Sequence[EditField]],
    *,
    seen: int,
    until: int,
) -> dict[bytes, frozenset[EditField]]:
    """Return what labels may still be stored for, by the rows' keys.

    Args:
        session: Where to read.
        job: The job.
        fields: What is asked for, by the rows' keys.
        seen: The newest edit in what the model was shown.
        until: The newest edit of all.
    """
    edits = await edits_by_key(session, job.leaderboard_id, list(fields), until=until)
    return {
        key: find_open(wanted, edits.get(key, ()), seen=seen, replaces=job.mode == "all")
        for key, wanted in fields.items()
    }


async def store_replies(database: Database, replies: Sequence[RowReply]) -> None:
    """Store replies with their labels in one transaction; what is stored already changes nothing.

    What a person, or an accepted improvement, has said of a row meanwhile stands: whoever edits
    locks the dataset's row, so that nothing can come between this look at the edits and the commit.

    Raises:
        SQLAlchemyError: The database refused them, or did not come back in time.
    """
    await store_patiently(database, partial(_store, replies=replies))


async def _store(session: WriteSession, replies: Sequence[RowReply]) -> None:
    of_jobs: dict[tuple[UUID, UUID], list[RowReply]] = defaultdict(list)
    for each in replies:
        of_jobs[each.job.leaderboard_id, each.job.id].append(each)
    # In one order everywhere, so that two batches can't deadlock.
    for key in sorted(of_jobs):
        await _store_of_job(session, of_jobs[key])


async def _store_of_job(session: WriteSession, replies: Sequence[RowReply]) -> None:
    ctx, job = replies[0].ctx, replies[0].job
    labels = await _keep_open(session, replies)
    stored = [
        each
        for each in replies
        if await _store_result(session, each, list(labels.get(each.asked.key, ())))
    ]
    said = _provenance(job)
    edits = [
        NewEdit(each.asked.key, name, value, said)
        for each in stored
        for name, value in labels.get(each.asked.key, {}).items()
    ]
    if edits:
        await store_edits(session, ctx, job.leaderboard_id, edits, EditOrigin.MODEL)
    released_usd = sum((each.reply.released_usd for each in stored), Decimal(0))
    if released_usd:
        await release_costs(session, LabelJob, [(job.id, released_usd)])
    await notify_job(session, job.id)


async def _keep_open(
    session: WriteSession, replies: Sequence[RowReply]
) -> dict[bytes, Mapping[EditField, Any]]:
    """Return the labels that may be stored, by the rows' keys, with the dataset's row locked."""
    labelled = {each.asked.key: each.reply.labels for each in replies if each.reply.labels}
    if not labelled:
        return {}
    ctx, job, seen = replies[0].ctx, replies[0].job, replies[0].seen
    dataset = await lock_dataset(session, ctx, job.leaderboard_id)
    fields = {key: list(labels) for key, labels in labelled.items()}
    still_open = await find_open_fields(session, job, fields, seen=seen, until=dataset.last_edit)
    return {
        key: {name: value for name, value in labels.items() if name in still_open[key]}
        for key, labels in labelled.items()
    }


async def _store_result(
    session: WriteSession, given: RowReply, labelled: Sequence[EditField]
) -> bool:
    """Store what came of a row, unless it, or what came later, is stored; tell whether it was."""
    reply = given.reply
    statement = insert(LabelResult).values(
        job_id=given.job.id,
        position=given.asked.position,
        replies=reply.number,
        is_pending=not reply.is_final,
        labelled=[field.value for field in labelled],
        error=reply.error,
        cost_usd=reply.cost_usd,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        latency_ms=reply.latency_ms,
    )
    new = statement.excluded
    names = ("replies", "is_pending", "labelled", "error", "latency_ms", "created_at")
    sums = ("cost_usd", "prompt_tokens", "completion_tokens")
    is_news = or_(LabelResult.replies < new.replies, ~new.is_pending)
    stored = await session.scalar(
        statement.on_conflict_do_update(
            index_elements=["job_id", "position"],
            set_={
                **{name: new[name] for name in names},
                **{name: _sum_of_known(getattr(LabelResult, name), new[name]) for name in sums},
            },
            where=LabelResult.is_pending & is_news,
        ).returning(LabelResult.position)
    )
    return stored is not None


def _sum_of_known(one: Any, other: Any) -> Any:
    """Return the sum of two columns of which either may not be known."""
    return func.coalesce(one + other, one, other)


def _provenance(job: LabelJob) -> dict[str, Any]:
    return {
        "model": job.label_model,
        "prompt_version": job.prompt_version,
        "job_id": str(job.id),
        "at": rfc3339(datetime.now(UTC)),
    }
