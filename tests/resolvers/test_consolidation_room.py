"""What a consolidation needs of a process, and what it leaves: connections, room, its files."""

import asyncio
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.services import Process
from resolvers.consolidation import consolidate_dataset
from resolvers.errors import UnavailableError
from resolvers.push import push_rows
from resolvers.snapshot_files import ABANDONED_SECONDS, DIRECTORY_PREFIX
from tests.factories import Tenant
from tests.rest_compat.test_push import make_push_board, rows

HUNG_SECONDS = 5


@pytest.fixture
def own_temp(tmp_path: Path) -> Iterator[Path]:
    """Have temporary files in a directory of the test's own."""
    usual, tempfile.tempdir = tempfile.tempdir, str(tmp_path)
    yield tmp_path
    tempfile.tempdir = usual


def entries(directory: Path) -> list[Path]:
    return list(directory.iterdir())


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as on a disk that fills up."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.mark.parametrize("setting_overrides", [{"database_pool_size": 2}])
async def test_the_smallest_pool_is_enough_for_several_consolidations_at_once(
    process: Process, tenant: Tenant
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    boards = [await make_push_board(process, tenant) for _ in range(4)]
    for board in boards:
        await push_rows(ctx, board.id, rows(2))
    async with asyncio.timeout(HUNG_SECONDS):
        made = await asyncio.gather(*(consolidate_dataset(ctx, board.id) for board in boards))
    assert [each.is_new for each in made] == [True] * 4


@pytest.mark.parametrize("threshold", [None, 0.9])
async def test_a_full_disk_is_told_as_such_and_leaves_the_rows_pending(
    process: Process, tenant: Tenant, own_temp: Path, threshold: float | None
) -> None:
    ctx = process.system_context(tenant.workspace_id)
    board = await make_push_board(process, tenant, near_duplicate_threshold=threshold)
    await push_rows(ctx, board.id, rows(1_000))
    with (
        no_room_beyond(20_000),
        pytest.raises(UnavailableError, match="can't be written: File too large"),
    ):
        await consolidate_dataset(ctx, board.id)
    assert entries(own_temp) == []
    made = await consolidate_dataset(ctx, board.id)
    assert made.snapshot is not None
    assert made.snapshot.row_count + sum(made.snapshot.dropped.values()) == 1_000


async def test_what_killed_processes_left_is_deleted_and_what_others_write_is_not(
    process: Process, tenant: Tenant, own_temp: Path
) -> None:
    left, fresh = (own_temp / f"{DIRECTORY_PREFIX}{name}" for name in ("left", "fresh"))
    for directory in (left, fresh):
        directory.mkdir()
        (directory / "lines").touch()
    before = time.time() - ABANDONED_SECONDS - 60
    os.utime(left, (before, before))
    ctx = process.system_context(tenant.workspace_id)
    board = await make_push_board(process, tenant)
    await push_rows(ctx, board.id, rows(1))
    await consolidate_dataset(ctx, board.id)
    assert entries(own_temp) == [fresh]
