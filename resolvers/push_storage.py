"""Storing pushes: those of many callers in one transaction, each within its dataset's quotas."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, RowMapping, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import insert

from db.bulk import copy_rows
from db.models import PushBatch, PushedRow
from db.session import Database, WriteSession
from engine.quotas import Quotas, Refusal, Usage, find_room, usage_at
from engine.rows import repeated_key
from resolvers.context import JobQueue
from resolvers.errors import ConflictError, NotFoundError
from resolvers.push import Push, PushableRow, PushReceipt, Rejection

CONSOLIDATE = "dataset.consolidate"
# How exactly a push token's last use is known.
NOTED_USE = timedelta(minutes=1)

# In one order for everybody, so that nobody waits in a circle; the same for their locks below.
CREATE_DATASETS = text("""
INSERT INTO dataset (leaderboard_id, workspace_id)
SELECT id, workspace_id FROM leaderboard WHERE id = ANY(:ids) ORDER BY id
ON CONFLICT DO NOTHING
""").bindparams(bindparam("ids", type_=ARRAY(Uuid())))

# Plans are kept, also those that were made while the table was small: none may read all of it.
LOCK_DATASETS = text("""
SELECT dataset.*, leaderboard.dataset_type, leaderboard.push, leaderboard.deleted_at,
       set_config('enable_seqscan', 'off', true)
FROM dataset JOIN leaderboard ON leaderboard.id = dataset.leaderboard_id
WHERE dataset.leaderboard_id = ANY(:ids)
ORDER BY dataset.leaderboard_id
FOR NO KEY UPDATE OF dataset
""").bindparams(bindparam("ids", type_=ARRAY(Uuid())))

# The driver's own statements, as the rows are copied. Each row is looked up by itself: joined, all
# of the table may be read for one.
FIND_KNOWN = """
SELECT wanted.leaderboard_id, wanted.digest, true AS is_key, 1 AS row_count, 0 AS unnamed_count
FROM unnest($1::uuid[], $2::bytea[]) AS wanted (leaderboard_id, digest)
CROSS JOIN LATERAL (
  SELECT FROM pushed_row
  WHERE leaderboard_id = wanted.leaderboard_id AND row_key = wanted.digest
  LIMIT 1
) AS found
UNION ALL
SELECT wanted.leaderboard_id, wanted.digest, false, found.row_count, found.unnamed_count
FROM unnest($3::uuid[], $4::bytea[]) AS wanted (leaderboard_id, digest)
CROSS JOIN LATERAL (
  SELECT count(*) AS row_count, count(*) FILTER (WHERE NOT has_id) AS unnamed_count
  FROM pushed_row
  WHERE leaderboard_id = wanted.leaderboard_id AND content_hash = wanted.digest
) AS found
WHERE found.row_count > 0
"""

COUNT_UP = text("""
UPDATE dataset SET
  last_sequence = taken.last_sequence,
  day = :day, day_row_count = taken.today,
  month = :month, month_row_count = taken.this_month
FROM unnest(:ids, :last_sequences, :todays, :months) AS taken
  (leaderboard_id, last_sequence, today, this_month)
WHERE dataset.leaderboard_id = taken.leaderboard_id
""").bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
    *(
        bindparam(name, type_=ARRAY(BigInteger()))
        for name in ("last_sequences", "todays", "months")
    ),
)

NOTE_USE = text("""
UPDATE push_token SET last_used_at = :now
WHERE id = ANY(:ids) AND (last_used_at IS NULL OR last_used_at < :before)
""").bindparams(bindparam("ids", type_=ARRAY(Uuid())))

FIND_BATCHES = text("SELECT id, receipt FROM push_batch WHERE id = ANY(:ids)").bindparams(
    bindparam("ids", type_=ARRAY(Uuid()))
)


async def store_pushes(database: Database, queue: JobQueue, pushes: Sequence[Push]) -> None:
    """Store *pushes* in one transaction, and give each its receipt, or what is wrong with it.

    The rows of the datasets are locked first, so that counting and storing are one step for
    whoever pushes to them: a quota can't be passed by two who look at once.
    """
    for push in pushes:
        # They may be stored by themselves now, after they failed together with others.
        push.receipt = push.problem = None
    ids = {"ids": sorted({push.leaderboard_id for push in pushes})}
    async with database.write() as session:
        locked = (await session.execute(LOCK_DATASETS, ids)).mappings().all()
        if len(locked) == len(ids["ids"]):
            await _store(session, queue, pushes, locked)
            return
    # By itself: whoever waits for a dataset that another makes must hold none meanwhile.
    async with database.write() as session:
        await session.execute(CREATE_DATASETS, ids)
    async with database.write() as session:
        locked = (await session.execute(LOCK_DATASETS, ids)).mappings().all()
        await _store(session, queue, pushes, locked)


async def _store(
    session: WriteSession, queue: JobQueue, pushes: Sequence[Push], locked: Sequence[RowMapping]
) -> None:
    # Not before: whoever had the locks may have begun another day.
    now = datetime.now(UTC)
    datasets = {row["leaderboard_id"]: _LockedDataset(row, now) for row in locked}
    for push in pushes:
        push.problem = _find_problem(push, datasets.get(push.leaderboard_id))
    await _answer_repeats(session, pushes)
    fresh = [push for push in pushes if push.receipt is None and push.problem is None]
    known = await _find_known(session, fresh)
    stored = [
        row
        for push in fresh
        for row in _take(push, datasets[push.leaderboard_id], known[push.leaderboard_id], now)
    ]
    await _write(session, datasets, stored, now)
    await _keep_receipts(session, fresh)
    await _note_use(session, fresh, now)
    for dataset in datasets.values():
        if dataset.falls_due():
            await queue.enqueue(
                session,
                CONSOLIDATE,
                workspace_id=dataset.workspace_id,
                subject_id=dataset.leaderboard_id,
                arguments=[{}],
            )


class _LockedDataset:
    """A dataset while rows are taken into it.

    Attributes:
        last_sequence: The number of the row that was taken last.
        taken: Rows taken in this transaction.
    """

    def __init__(self, row: RowMapping, now: datetime) -> None:
        self.leaderboard_id: UUID = row["leaderboard_id"]
        self.workspace_id: UUID = row["workspace_id"]
        self.is_deleted = row["deleted_at"] is not None
        self.takes_pushes = row["dataset_type"] == "PUSH"
        self.settings: Mapping[str, Any] = row["push"] or {}
        self.last_sequence: int = row["last_sequence"]
        self.taken = 0
        self._consolidated_sequence: int = row["consolidated_sequence"]
        self._consolidated_at: datetime = row["consolidated_at"] or row["created_at"]
        self._now = now
        seen = Usage(
            row["day"],
            row["day_row_count"],
            row["month"],
            row["month_row_count"],
            row["last_sequence"],
        )
        self.usage = usage_at(seen, now)
        self.room, self.refusal = find_room(self._quotas(), self.usage, now)

    def _quotas(self) -> Quotas:
        ends_at = self.settings.get("end_date")
        has_room = self.settings.get("auto_limit_size")
        return Quotas(
            daily=self.settings.get("daily_event_limit"),
            monthly=self.settings.get("monthly_event_limit"),
            total=None if has_room else self.settings.get("max_samples_to_gather"),
            ends_at=None if ends_at is None else datetime.fromisoformat(ends_at),
        )

    @property
    def takes_once(self) -> bool:
        """Whether a row's content is taken once."""
        return bool(self.settings.get("dedupe", True))

    @property
    def pending(self) -> int:
        """Rows that no snapshot covers."""
        return self.last_sequence - self._consolidated_sequence

    def take(self) -> int | None:
        """Return the number of one more row; None when there is no room for it."""
        if self.room is not None and self.taken >= self.room:
            return None
        self.taken += 1
        self.last_sequence += 1
        return self.last_sequence

    def is_due(self) -> bool:
        """Tell whether a snapshot is due."""
        return is_due(self.settings, self.pending, self._consolidated_at, self._now)

    def falls_due(self) -> bool:
        """Tell whether the rows taken now have made a snapshot due, by their number."""
        events = self.settings.get("consolidate_every_events")
        return events is not None and self.pending - self.taken < events <= self.pending


def is_due(
    settings: Mapping[str, Any], pending: int, consolidated_at: datetime, now: datetime
) -> bool:
    """Tell whether a snapshot is due, by the number of pending rows or by the hours they wait."""
    events = settings.get("consolidate_every_events")
    hours = settings.get("consolidate_every_hours")
    if not pending:
        return False
    if events is not None and pending >= events:
        return True
    return hours is not None and now - consolidated_at >= timedelta(hours=hours)


def _find_problem(
    push: Push, dataset: _LockedDataset | None
) -> NotFoundError | ConflictError | None:
    """Return why *push* can't be taken at all, if so."""
    if dataset is None or dataset.workspace_id != push.workspace_id or dataset.is_deleted:
        return NotFoundError(f"leaderboard {push.leaderboard_id} does not exist")
    if not dataset.takes_pushes:
        return ConflictError(
            f"leaderboard {push.leaderboard_id} reads its dataset from a URL: only one whose "
            "dataset_type is PUSH takes rows"
        )
    return None


async def _answer_repeats(session: WriteSession, pushes: Sequence[Push]) -> None:
    """Give those pushes that were stored before the receipts that they got then."""
    ids = [push.batch_id for push in pushes if push.is_repeatable]
    if not ids:
        return
    kept = {row.id: row.receipt for row in await session.execute(FIND_BATCHES, {"ids": ids})}
    for push in pushes:
        if push.problem is None and (receipt := kept.get(push.batch_id)) is not None:
            rejections = [Rejection(**each) for each in receipt["rejections"]]
            push.receipt = PushReceipt(
                **{**receipt, "batch_id": push.batch_id, "rejections": rejections}
            )


@dataclass(frozen=True, slots=True)
class _Known:
    """Which of a dataset's pushed rows are there already; it grows as rows are taken.

    Attributes:
        keys: Keys of rows.
        contents: How many rows there are of a content hash.
        unnamed: How many of these have no id.
    """

    keys: set[bytes]
    contents: Counter[bytes]
    unnamed: Counter[bytes]


async def _find_known(session: WriteSession, pushes: Sequence[Push]) -> Mapping[UUID, _Known]:
    known = {push.leaderboard_id: _Known(set(), Counter(), Counter()) for push in pushes}
    named = _wanted(pushes, lambda row: row.key if row.has_id else None)
    contents = _wanted(pushes, lambda row: row.content_hash)
    connection = await session.connection()
    for found in await connection.exec_driver_sql(FIND_KNOWN, (*named, *contents)):
        of_dataset = known[found.leaderboard_id]
        if found.is_key:
            of_dataset.keys.add(found.digest)
        else:
            of_dataset.contents[found.digest] = found.row_count
            of_dataset.unnamed[found.digest] = found.unnamed_count
    return known


def _wanted(
    pushes: Sequence[Push], digest_of: Callable[[PushableRow], bytes | None]
) -> tuple[list[UUID], list[bytes]]:
    """Return what to look up, each digest once with its dataset."""
    by_dataset: dict[UUID, set[bytes]] = defaultdict(set)
    for push in pushes:
        digests = map(digest_of, push.rows)
        by_dataset[push.leaderboard_id].update(each for each in digests if each is not None)
    ids = [key for key, digests in by_dataset.items() for _ in digests]
    return ids, [each for found in by_dataset.values() for each in found]


def _take(
    push: Push, dataset: _LockedDataset, known: _Known, now: datetime
) -> list[dict[str, Any]]:
    """Return what is stored of *push*, and give it its receipt."""
    stored: list[dict[str, Any]] = []
    rejections = list(push.rejections)
    duplicates = 0
    for row in push.rows:
        content = row.content_hash
        if _is_known(row, known, takes_once=dataset.takes_once):
            duplicates += 1
            continue
        sequence = dataset.take()
        if sequence is None:
            rejections.append(_no_room(row.index, dataset))
            continue
        key = row.key if row.has_id else repeated_key(content, known.unnamed[content])
        known.keys.add(key)
        known.contents[content] += 1
        known.unnamed[content] += not row.has_id
        stored.append(
            {
                "leaderboard_id": push.leaderboard_id,
                "sequence": sequence,
                "row_key": key,
                "content_hash": row.content_hash,
                "has_id": row.has_id,
                "line": row.line,
                "batch_id": push.batch_id,
                "created_at": now,
            }
        )
    push.receipt = PushReceipt(
        batch_id=push.batch_id,
        accepted_rows=len(stored),
        duplicate_rows=duplicates,
        rejections=sorted(rejections, key=lambda rejection: rejection.index),
        pending_events=dataset.pending,
        daily_event_limit=dataset.settings.get("daily_event_limit"),
        monthly_event_limit=dataset.settings.get("monthly_event_limit"),
        max_samples_to_gather=dataset.settings.get("max_samples_to_gather"),
        should_consolidate=dataset.is_due(),
    )
    return stored


def _is_known(row: PushableRow, known: _Known, *, takes_once: bool) -> bool:
    if row.has_id and row.key in known.keys:
        return True
    return takes_once and known.contents[row.content_hash] > 0


def _no_room(index: int, dataset: _LockedDataset) -> Rejection:
    settings = dataset.settings
    messages = {
        Refusal.ENDED: f"the dataset closed at {settings.get('end_date')}",
        Refusal.DAILY_LIMIT: f"daily_event_limit: {settings.get('daily_event_limit')} rows were "
        "accepted today (UTC)",
        Refusal.MONTHLY_LIMIT: f"monthly_event_limit: {settings.get('monthly_event_limit')} rows "
        "were accepted this month (UTC)",
        Refusal.FULL: f"max_samples_to_gather: the dataset holds "
        f"{settings.get('max_samples_to_gather')} rows",
    }
    return Rejection(index, dataset.refusal, messages[dataset.refusal])


async def _write(
    session: WriteSession,
    datasets: Mapping[UUID, _LockedDataset],
    stored: Sequence[Mapping[str, Any]],
    now: datetime,
) -> None:
    if not stored:
        return
    await copy_rows(session, PushedRow, stored)
    changed = [dataset for dataset in datasets.values() if dataset.taken]
    await session.execute(
        COUNT_UP,
        {
            "ids": [dataset.leaderboard_id for dataset in changed],
            "last_sequences": [dataset.last_sequence for dataset in changed],
            "todays": [dataset.usage.today + dataset.taken for dataset in changed],
            "months": [dataset.usage.this_month + dataset.taken for dataset in changed],
            "day": now.date(),
            "month": now.date().replace(day=1),
        },
    )


async def _keep_receipts(session: WriteSession, pushes: Sequence[Push]) -> None:
    kept = [
        {
            "id": push.batch_id,
            "leaderboard_id": push.leaderboard_id,
            "receipt": {**asdict(push.receipt), "batch_id": str(push.batch_id)},
        }
        for push in pushes
        if push.is_repeatable and push.receipt is not None
    ]
    if kept:
        await session.execute(insert(PushBatch), kept)


async def _note_use(session: WriteSession, pushes: Sequence[Push], now: datetime) -> None:
    ids = sorted({push.push_token_id for push in pushes if push.push_token_id is not None})
    if ids:
        await session.execute(NOTE_USE, {"ids": ids, "now": now, "before": now - NOTED_USE})
