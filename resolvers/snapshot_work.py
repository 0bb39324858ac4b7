"""Work on whole snapshots: what of it is under way in a process, and how much at once."""

import asyncio
from uuid import UUID

from db.models import DatasetSnapshot
from resolvers.single_flight import SingleFlight

# Each takes a processor, two database connections and some tens of megabytes.
CONSOLIDATIONS_AT_ONCE = 2
# Each takes a processor, and some hundred megabytes of a snapshot of a million rows.
LEAK_SEARCHES_AT_ONCE = 1
# Each takes 49 bytes a row.
INDEXES_AT_ONCE = 4
# Each takes a processor for a second, and 200 MB, where the snapshots have a million rows.
DIFFS_AT_ONCE = 2


class SnapshotWork:
    """Shares what several ask for at once, and bounds what is done at once.

    Args:
        connections: The database's; a consolidation holds one and needs another, so that one must
            always be left.

    Attributes:
        consolidations: By leaderboard.
        leak_searches: By snapshot and threshold.
    """

    def __init__(self, *, connections: int) -> None:
        self.consolidations: SingleFlight[UUID, DatasetSnapshot] = SingleFlight()
        self.consolidation_slots = asyncio.Semaphore(min(CONSOLIDATIONS_AT_ONCE, connections - 1))
        self.leak_searches: SingleFlight[tuple[UUID, float], None] = SingleFlight()
        self.leak_slots = asyncio.Semaphore(LEAK_SEARCHES_AT_ONCE)
        self.index_slots = asyncio.Semaphore(INDEXES_AT_ONCE)
        self.diff_slots = asyncio.Semaphore(DIFFS_AT_ONCE)
