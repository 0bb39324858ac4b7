"""Group commit: callers share transactions, and each is told of its own item."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy.exc import DataError

from resolvers.group_commit import GroupCommit


class Shelf:
    """Where batches are stored; the first one waits until it is let through."""

    def __init__(self, *, refused: frozenset[int] = frozenset()) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self._refused = refused

    async def store(self, batch: Sequence[int]) -> None:
        await self.open.wait()
        if self._refused & set(batch):
            raise DataError("INSERT", {}, ValueError("a value out of range"))
        self.batches.append(list(batch))


async def offer_all(
    commits: GroupCommit[int], items: Sequence[int]
) -> list["asyncio.Future[None]"]:
    return [await commits.offer(item) for item in items]


async def test_what_comes_while_a_batch_is_stored_shares_the_next_one() -> None:
    shelf = Shelf()
    commits = GroupCommit(shelf.store, max_waiting=10)
    stored = await offer_all(commits, [1])
    await asyncio.sleep(0)
    stored += await offer_all(commits, [2, 3, 4])
    assert not any(each.done() for each in stored)
    shelf.open.set()
    await asyncio.gather(*stored)
    assert shelf.batches == [[1], [2, 3, 4]]


async def test_large_items_share_no_more_than_they_may() -> None:
    shelf = Shelf()
    commits = GroupCommit(shelf.store, max_waiting=10, size_of=abs, max_batch_bytes=5)
    stored = await offer_all(commits, [9, 2, 3, 1, 7, 1, 1])
    shelf.open.set()
    await asyncio.gather(*stored)
    assert shelf.batches == [[9], [2, 3], [1, 7], [1, 1]]


async def test_an_item_that_is_refused_fails_alone() -> None:
    shelf = Shelf(refused=frozenset({2}))
    commits = GroupCommit(shelf.store, max_waiting=10)
    stored = await offer_all(commits, [1, 2, 3])
    shelf.open.set()
    ended = await asyncio.gather(*stored, return_exceptions=True)
    assert [type(each) for each in ended] == [type(None), DataError, type(None)]
    assert shelf.batches == [[1], [3]]


async def test_an_outage_fails_the_whole_batch_and_not_the_next() -> None:
    outages = [ConnectionError("gone")]

    async def store(batch: Sequence[int]) -> None:
        if outages:
            raise outages.pop()
        assert batch

    commits = GroupCommit(store, max_waiting=10)
    ended = await asyncio.gather(*await offer_all(commits, [1, 2]), return_exceptions=True)
    assert [str(each) for each in ended] == ["gone", "gone"]
    await (await commits.offer(3))


async def test_what_is_to_be_kept_outlasts_an_outage_that_its_callers_are_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shelf = Shelf(refused=frozenset({2}))
    shelf.open.set()
    outages: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def store(batch: Sequence[int]) -> None:
        if (outage := await outages.get()) is not None:
            raise outage
        await shelf.store(batch)

    counts: list[int] = []
    commits = GroupCommit(store, max_waiting=3, keeps=True)
    commits.watchers.append(lambda count, _: counts.append(count))
    told = await offer_all(commits, [1, 2])
    outages.put_nowait(ConnectionError("gone"))
    ended = await asyncio.gather(*told, return_exceptions=True)
    third = await commits.offer(3)
    fourth = asyncio.create_task(commits.offer(4))  # for which there is no room meanwhile
    outages.put_nowait(ConnectionError("gone"))
    ended += await asyncio.gather(third, return_exceptions=True)
    assert [str(each) for each in ended] == ["gone"] * 3
    for _ in range(10):
        outages.put_nowait(None)
    await (await fourth)
    assert [item for batch in shelf.batches for item in batch] == [1, 3, 4]
    assert sum(counts) == 4
    assert "what nobody waits for could not be stored: ValueError" in caplog.text


async def test_no_more_is_taken_than_there_is_room_for() -> None:
    shelf = Shelf()
    commits = GroupCommit(shelf.store, max_waiting=2)
    await offer_all(commits, [1, 2])
    third = asyncio.create_task(commits.offer(3))
    done, _ = await asyncio.wait({third}, timeout=0.02)
    assert not done
    shelf.open.set()
    await (await third)
    assert [item for batch in shelf.batches for item in batch] == [1, 2, 3]


async def test_a_caller_that_went_away_leaves_its_item_to_be_stored() -> None:
    shelf = Shelf()
    commits = GroupCommit(shelf.store, max_waiting=2)
    gone, other = await offer_all(commits, [1, 2])
    gone.cancel()
    shelf.open.set()
    await other
    assert shelf.batches == [[1, 2]]
