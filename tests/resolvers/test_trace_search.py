"""Searching span by span: the same slice as in one statement, and no further than it reaches."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services import Process
from db.base import first_id_at, instant_of
from db.models import Candidate, Leaderboard
from resolvers.paging import NEWEST_FIRST, OLDEST_FIRST, PageRequest
from resolvers.trace_filter import TraceFilter
from resolvers.trace_search import read_in_spans
from resolvers.trace_upkeep import find_words
from tests.conftest import SqlLog, ask
from tests.factories import Tenant, make_leaderboard, store_traces, trace_of

NOW = datetime.now(UTC).replace(microsecond=0)
OLDEST = NOW - timedelta(days=90)
SLICE = """
query($filter: TraceFilterInput, $first: Int, $after: String, $last: Int, $before: String) {
  traces(filter: $filter, first: $first, after: $after, last: $last, before: $before) {
    nodes { output } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }
"""


instants = st.integers(0, 90 * 86_400).map(lambda ago: NOW - timedelta(seconds=ago))
marks = st.none() | instants.map(lambda at: (first_id_at(at), first_id_at(at)))


@given(
    since=st.none() | instants,
    until=st.none() | instants,
    after=marks,
    before=marks,
    order=st.sampled_from([NEWEST_FIRST, OLDEST_FIRST]),
    backward=st.booleans(),
    found=st.booleans(),
)
async def test_spans_follow_each_other_and_cover_what_is_asked_for(
    *, since: Any, until: Any, after: Any, before: Any, order: Any, backward: bool, found: bool
) -> None:
    request = PageRequest(order=order, after=after, before=before, backward=backward)
    spans: list[tuple[datetime, datetime]] = []

    async def read(part: TraceFilter) -> tuple[int, int]:
        assert part.since is not None
        assert part.until is not None
        spans.append((part.since, part.until))
        return int(found), 51

    where = TraceFilter(search="word", since=since, until=until)
    await read_in_spans(where, request, first_id_at(OLDEST), read)
    descending = order.descending != backward
    newest_first, oldest_first = (after, before) if order.descending else (before, after)
    low = max(OLDEST, since or OLDEST, instant_of(oldest_first[1]) if oldest_first else OLDEST)
    highs = [until, instant_of(newest_first[1]) if newest_first else None]
    high = min([each for each in highs if each], default=None)
    in_order = spans[::-1] if descending else spans
    assert in_order[0][0] == low
    for (_, end), (begin, _) in pairwise(in_order):
        assert end == begin
    last = in_order[-1][1]
    if high is None:
        assert last > NOW + timedelta(days=1)
    elif high >= low:
        assert high <= last <= high + timedelta(milliseconds=1)
    assert len(spans) <= 10


@pytest.mark.parametrize("gap", [timedelta(seconds=20), timedelta(minutes=7), timedelta(hours=5)])
async def test_a_span_has_not_many_more_than_are_missing(gap: timedelta) -> None:
    begins_at = datetime.now(UTC)
    missing, before, counts = 51, 1, []

    async def read(part: TraceFilter) -> tuple[int, int]:
        nonlocal missing, before
        assert part.since is not None
        assert part.until is not None
        there = (begins_at - part.since) // gap - max(begins_at - part.until, timedelta(0)) // gap
        if before:
            counts.append((there, missing))
        before = there
        missing -= min(there, missing)
        return there, missing

    await read_in_spans(TraceFilter(search="word"), PageRequest(), first_id_at(OLDEST), read)
    assert missing == 0
    assert [there <= 2 * wanted + 2 for there, wanted in counts] == [True] * len(counts)
    assert len(counts) <= 5


async def test_without_search_everything_is_read_at_once() -> None:
    seen = []

    async def read(part: TraceFilter) -> tuple[int, int]:
        seen.append(part)
        return 0, 51

    await read_in_spans(TraceFilter(model="m"), PageRequest(), first_id_at(OLDEST), read)
    assert seen == [TraceFilter(model="m")]


async def test_behind_a_mark_at_the_end_of_time_there_is_nothing() -> None:
    last = UUID(int=2**128 - 1)
    spans = []

    async def read(part: TraceFilter) -> tuple[int, int]:
        spans.append(part)
        return 0, 51

    request = PageRequest(order=OLDEST_FIRST, after=(last, last))
    await read_in_spans(TraceFilter(search="word"), request, first_id_at(OLDEST), read)
    assert len(spans) == 1


async def store(
    process: Process, board: Leaderboard, candidate: Candidate, ages: list[timedelta]
) -> None:
    now = datetime.now(UTC)  # the first span is of minutes, and the module was loaded long ago
    async with process.database.write() as session:
        await store_traces(
            session,
            [
                trace_of(board, candidate, now - age, input="a needle", output=str(number))
                for number, age in enumerate(ages)
            ],
        )
    await find_words(process.system_context())


async def test_a_search_is_paged_forwards_and_backwards(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    ages = [timedelta(minutes=1.7**number) for number in range(22)]  # up to two months
    await store(process, board, candidate, ages)
    needle = {"filter": {"search": "needle"}}
    every = [str(number) for number in range(22)]

    async def walk(size: str, mark: str, cursor: str, more: str) -> list[list[str]]:
        pages, at = [], None
        while True:
            page = (await ask(client, SLICE, **needle, **{size: 5, mark: at}))["data"]["traces"]
            pages.append([node["output"] for node in page["nodes"]])
            if not page["pageInfo"][more]:
                return pages
            at = page["pageInfo"][cursor]

    forwards = await walk("first", "after", "endCursor", "hasNextPage")
    assert forwards == [every[:5], every[5:10], every[10:15], every[15:20], every[20:]]
    backwards = await walk("last", "before", "startCursor", "hasPreviousPage")
    assert backwards == [every[17:], every[12:17], every[7:12], every[2:7], every[:2]]
    path = f"/v1/leaderboard/{board.id}/traces"
    part = await client.get(path, params={"search": "needle", "format": "json", "limit": 4,
                                          "offset": 9, "batch_limit": 100})  # fmt: skip
    assert [row["output"] for row in part.json()["rows"]] == every[9:13]
    exported = await client.get(f"{path}/export?search=needle&order=oldest_first")
    assert [f'"output":"{number}"' in line for number, line in
            zip(every[::-1], exported.text.splitlines(), strict=True)] == [True] * 22  # fmt: skip


async def test_full_pages_of_some_leaderboards_do_not_shorten_the_search_of_another(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, candidate: Candidate, sql: SqlLog
) -> None:
    busy = [await make_leaderboard(process, tenant.workspace_id) for _ in range(5)]
    rare = await make_leaderboard(process, tenant.workspace_id)
    for each in busy:
        ages = [timedelta(hours=number / 2) for number in range(240)]
        await store(process, each, candidate, ages)
    await store(process, rare, candidate, [timedelta(days=number) for number in (0, 9, 40)])
    listed = """{ leaderboards { nodes { id
        traces(first: 20, filter: {search: "needle"}) { nodes { output } } } } }"""
    with sql.record() as seen:
        answer = await ask(client, listed)
    pages = {node["id"]: [trace["output"] for trace in node["traces"]["nodes"]]
             for node in answer["data"]["leaderboards"]["nodes"]}  # fmt: skip
    newest = [str(number) for number in range(20)]
    assert [pages[str(each.id)] for each in busy] == [newest] * 5
    assert pages[str(rare.id)] == ["0", "1", "2"]
    assert len([statement for statement in seen if "trace_words" in statement]) <= 10


async def test_no_span_is_read_that_is_not_needed(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate,
    sql: SqlLog,
) -> None:  # fmt: skip
    await store(process, board, candidate, [timedelta(seconds=number) for number in range(8)])
    await store(process, board, candidate, [timedelta(hours=number) for number in range(8)])
    for first, most in ((7, 1), (8, 2), (15, 6)):
        with sql.record() as seen:
            await ask(client, SLICE, filter={"search": "needle"}, first=first)
        assert len([statement for statement in seen if "trace_words" in statement]) <= most
