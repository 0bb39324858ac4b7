"""Consolidating the datasets that are due, each once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import RowMapping, text

from db.models import DatasetSnapshot
from resolvers.auth import SYSTEM, requires
from resolvers.consolidation import consolidate_dataset
from resolvers.context import Context
from resolvers.errors import AppError
from resolvers.failures import describe
from resolvers.push_storage import is_due

log = logging.getLogger("gero")

# Those with pending rows alone, of which there are few at a time.
LIST_PENDING = text("""
SELECT dataset.*, leaderboard.push
FROM dataset JOIN leaderboard ON leaderboard.id = dataset.leaderboard_id
WHERE dataset.last_sequence > dataset.consolidated_sequence
  AND leaderboard.dataset_type = 'PUSH' AND leaderboard.deleted_at IS NULL
ORDER BY dataset.leaderboard_id
""")


@dataclass(frozen=True, slots=True)
class DueDataset:
    """What came of a dataset with pending rows.

    Attributes:
        snapshot: The snapshot that covers them; None when none was made.
        skipped: Why none was made: it is not due, or making it failed.
    """

    leaderboard_id: UUID
    snapshot: DatasetSnapshot | None
    skipped: str | None


@requires(SYSTEM)
async def consolidate_due_datasets(ctx: Context) -> Sequence[DueDataset]:
    """Consolidate every dataset that is due by its number of pending rows or by their age.

    One that fails is told with the reason, and the others go on.
    """
    async with ctx.database.read() as session:
        pending = (await session.execute(LIST_PENDING)).mappings().all()
    return [await _consolidate_if_due(ctx, dataset) for dataset in pending]


async def _consolidate_if_due(ctx: Context, dataset: RowMapping) -> DueDataset:
    leaderboard_id: UUID = dataset["leaderboard_id"]
    rows = dataset["last_sequence"] - dataset["consolidated_sequence"]
    since = dataset["consolidated_at"] or dataset["created_at"]
    if not is_due(dataset["push"] or {}, rows, since, datetime.now(UTC)):
        return DueDataset(leaderboard_id, None, "not due")
    try:
        made = await consolidate_dataset(ctx.within(dataset["workspace_id"]), leaderboard_id)
    except AppError as error:
        log.warning(
            "dataset of leaderboard %s was not consolidated: %s", leaderboard_id, describe(error)
        )
        return DueDataset(leaderboard_id, None, str(error))
    if not made.is_new:
        return DueDataset(leaderboard_id, None, "another process was faster")
    return DueDataset(leaderboard_id, made.snapshot, None)
