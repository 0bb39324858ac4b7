"""Leakage use cases: training rows that are near to a row which models are judged on."""

import asyncio
import hashlib
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import undefer

from db.models import DatasetSnapshot
from providers.objects import ObjectError, ObjectMissingError
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.downloads import line_batches, open_download
from resolvers.errors import CorruptSnapshotError, UnavailableError
from resolvers.leak_search import LeakSearch
from resolvers.snapshot_files import FOLDER, SnapshotReader

LEAK_THRESHOLD: Final = 0.8
"""From which similarity on a training row gives a validation row away.

The lowest at which the search still finds nearly all pairs: 0.992 of those at the threshold itself,
against 0.865 at 0.7 (see `engine.near_duplicates`).

Source: K. Lee et al., "Deduplicating Training Data Makes Language Models Better", ACL 2022,
section 4.2, which takes documents for near-duplicates from a similarity of 0.8 on.
"""


def leaks_key(snapshot: DatasetSnapshot, threshold: float) -> str:
    """Return where the leaks of a snapshot are, once they have been looked for."""
    return f"{FOLDER}/{snapshot.leaderboard_id}/{snapshot.id}.leaks-{threshold!r}.jsonl"


@dataclass(frozen=True, slots=True)
class LeakingRow:
    """One of two rows that are near to each other.

    Attributes:
        position: Its place in the snapshot, from 0.
        key: Who it is, in hexadecimal; see `engine.rows.row_key`.
        id: The id that its source gave it.
    """

    position: int
    key: str
    id: str | None


@dataclass(frozen=True, slots=True)
class Leak:
    """A training row, and the validation row that it is nearest to.

    Attributes:
        similarity: Of their inputs, as a fraction; see `engine.near_duplicates`.
    """

    train: LeakingRow
    validation: LeakingRow
    similarity: float


@dataclass(frozen=True, slots=True)
class Leakage:
    """What of a snapshot's training side is near to its validation side.

    Attributes:
        train_row_count: Rows of the training side, those that leak too.
        train_positions: The places of the training rows that leak, in order.
        leaks: The first of them, as many as were asked for.
    """

    snapshot_id: UUID
    train_row_count: int
    validation_row_count: int
    train_positions: NDArray[np.int64]
    leaks: Sequence[Leak]

    @property
    def leaking_row_count(self) -> int:
        """Training rows that leak."""
        return len(self.train_positions)


@requires(Scope.LEADERBOARDS_READ)
async def find_leaks(
    ctx: Context,
    leaderboard_id: UUID,
    number: int | None = None,
    threshold: float = LEAK_THRESHOLD,
    *,
    first: int | None = None,
) -> Leakage:
    """Find a snapshot's training rows that are near to a validation row.

    They are looked for once, and kept beside the snapshot.

    Args:
        ctx: Who asks.
        leaderboard_id: Whose snapshot.
        number: Which; the newest when left out.
        threshold: From which similarity on, as a fraction, more than 0.
        first: So many leaks at most are returned; all of them when left out.

    Raises:
        NotFoundError: The workspace has no such leaderboard, or it no such snapshot.
        ConflictError: There is no snapshot yet.
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be used now.
    """
    found = await open_download(ctx, leaderboard_id, number)
    return await read_leakage(ctx, found.snapshot, threshold, first=first)


@requires(Scope.LEADERBOARDS_READ)
async def find_leakages(
    ctx: Context, snapshot_ids: Sequence[UUID], *, first: int
) -> list[Leakage | None]:
    """Return what leaks of each snapshot, with its first leaks.

    None stands for one that is not the workspace's, or is from before snapshots had files.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be used now.
    """
    async with ctx.database.read() as session:
        rows = await session.scalars(
            select(DatasetSnapshot)
            .where(
                DatasetSnapshot.id.in_(snapshot_ids),
                DatasetSnapshot.workspace_id == ctx.workspace_id,
                DatasetSnapshot.index_sha256.is_not(None),
            )
            .options(undefer(DatasetSnapshot.blocks))
        )
        snapshots = rows.all()
    found = {each.id: await read_leakage(ctx, each, first=first) for each in snapshots}
    return [found.get(snapshot_id) for snapshot_id in snapshot_ids]


async def read_leakage(
    ctx: Context,
    snapshot: DatasetSnapshot,
    threshold: float = LEAK_THRESHOLD,
    *,
    first: int | None = None,
) -> Leakage:
    """Return what leaks of a snapshot, and look for it if nobody has yet.

    Who goes away while it is looked for leaves it to the next who asks.

    Raises:
        CorruptSnapshotError: The stored bytes were changed, or are gone.
        UnavailableError: Object storage can't be used now.
    """
    known = await _read(ctx, snapshot, threshold, first)
    if known is not None:
        return known
    await ctx.services.snapshot_work.leak_searches.share(
        (snapshot.id, threshold), lambda: _search(ctx, snapshot, threshold)
    )
    found = await _read(ctx, snapshot, threshold, first)
    if found is None:
        raise UnavailableError(f"the leaks of snapshot {snapshot.id} were deleted just now")
    return found


async def _search(ctx: Context, snapshot: DatasetSnapshot, threshold: float) -> None:
    """Look for a snapshot's leaks, and keep them."""
    reader = SnapshotReader(ctx.services.objects, snapshot)
    async with ctx.services.snapshot_work.leak_slots:
        with tempfile.TemporaryDirectory(prefix="gero-leaks-") as directory:
            made = Path(directory) / "leaks"
            with LeakSearch(Path(directory), await reader.index()) as search:
                async for position, lines in line_batches(reader):
                    await asyncio.to_thread(search.add, position, lines)
                await asyncio.to_thread(search.write, made, threshold)
            try:
                await ctx.services.objects.put_file(leaks_key(snapshot, threshold), made)
            except ObjectError as error:
                raise UnavailableError(f"the leaks can't be stored: {error}") from error


async def _read(
    ctx: Context, snapshot: DatasetSnapshot, threshold: float, first: int | None
) -> Leakage | None:
    """Return the leaks that are kept; None where nobody has looked for them."""
    key = leaks_key(snapshot, threshold)
    reading = _Reading(snapshot.id, first)
    try:
        async for chunk in ctx.services.objects.stream(key):
            await asyncio.to_thread(reading.feed, chunk)
        return reading.finish()
    except ObjectMissingError:
        return None
    except ObjectError as error:
        raise UnavailableError(
            f"the leaks can't be read now: {error}", retry_after_seconds=1
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptSnapshotError(
            f"the leaks of snapshot {snapshot.id} are not as they were stored: delete the object "
            f"{key} to have them looked for again"
        ) from error


class _Reading:
    """Reads what `LeakSearch.write` wrote."""

    def __init__(self, snapshot_id: UUID, first: int | None) -> None:
        self._snapshot_id = snapshot_id
        self._first = first
        self._rest = b""
        self._stored_digest: str | None = None
        self._digest = hashlib.sha256()
        self._figures: dict[str, Any] = {}
        self._positions = array("q")
        self._leaks: list[Leak] = []

    def feed(self, chunk: bytes) -> None:
        """Read on."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            value = orjson.loads(line)
            if self._stored_digest is None:
                self._stored_digest = value["sha256"]
                continue
            self._digest.update(line + b"\n")
            if self._figures:
                self._take(value)
            else:
                self._figures = value

    def finish(self) -> Leakage:
        """Return all of it.

        Raises:
            ValueError: It is not what was written.
        """
        if self._rest or self._digest.hexdigest() != self._stored_digest:
            raise ValueError("another digest")
        return Leakage(
            snapshot_id=self._snapshot_id,
            train_row_count=self._figures["train_row_count"],
            validation_row_count=self._figures["validation_row_count"],
            train_positions=np.array(self._positions, np.int64),
            leaks=self._leaks,
        )

    def _take(self, value: dict[str, Any]) -> None:
        self._positions.append(value["train"]["position"])
        if self._first is None or len(self._leaks) < self._first:
            rows = LeakingRow(**value["train"]), LeakingRow(**value["validation"])
            self._leaks.append(Leak(*rows, value["similarity"]))
