"""Comparing two snapshots in GraphQL."""

from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from app.services import Process
from app.settings import Settings
from engine.rows import normalize_row, row_key
from resolvers.snapshot_files import index_key, lines_key
from tests.conftest import SqlLog, ask
from tests.factories import Tenant, make_leaderboard, make_ranked_run, make_tenant
from tests.rest_compat.test_consolidation import consolidate
from tests.rest_compat.test_push import make_push_board, push, rows
from tests.schema.test_snapshots import edit_alike, make_snapshot, named, read, read_rows

COUNTS = "addedCount removedCount changedCount unchangedCount"
DIFF = """query Q($a: ID!, $b: ID!, $first: Int, $after: String) { snapshotDiff(a: $a, b: $b) {
  a { number } b { number parent { number } } addedCount removedCount changedCount unchangedCount
  added(first: $first, after: $after) { ...Rows }
  removed(first: $first) { ...Rows }
  changed(first: $first, after: $after) { totalCount pageInfo { endCursor hasNextPage }
    nodes { before { key position expected } after { key position expected labels } } } } }
fragment Rows on DatasetRowConnection { totalCount pageInfo { endCursor hasNextPage }
  nodes { id key input side } }"""


async def diff(client: httpx2.AsyncClient, a: object, b: object, **variables: Any) -> Any:
    return (await read(client, DIFF, a=str(a), b=str(b), **variables))["snapshotDiff"]


def key_of(row: dict[str, Any]) -> str:
    return row_key(normalize_row(row)).hex()


async def test_rows_that_came_went_and_changed_are_told_apart(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    given = named(12)
    first = await make_snapshot(client, board, given[:8])
    await push(client, board, given[8:])
    await edit_alike(client, board, given[:1], excluded=True)
    await edit_alike(client, board, given[1:4], expected="no")
    second = (await consolidate(client, board))["snapshot"]
    found = await diff(client, first["id"], second["id"])
    assert (found["a"], found["b"]) == ({"number": 1}, {"number": 2, "parent": {"number": 1}})
    assert [found[f"{name}Count"] for name in ("added", "removed", "changed", "unchanged")] == [
        4, 1, 3, 4,
    ]  # fmt: skip
    old = {row["id"]: row for row in (await read_rows(client, first["id"]))["nodes"]}
    new = {row["id"]: row for row in (await read_rows(client, second["id"]))["nodes"]}
    assert {row["key"] for row in found["added"]["nodes"]} == {key_of(row) for row in given[8:]}
    assert [row["key"] for row in found["removed"]["nodes"]] == [key_of(given[0])]
    for side, source in (("added", new), ("removed", old)):
        assert found[side]["totalCount"] == found[f"{side}Count"]
        for row in found[side]["nodes"]:
            assert {name: source[row["id"]][name] for name in row} == row
    pairs = found["changed"]["nodes"]
    assert {pair["after"]["key"] for pair in pairs} == {key_of(row) for row in given[1:4]}
    for pair in pairs:
        assert pair["before"]["key"] == pair["after"]["key"]
        assert (pair["before"]["expected"], pair["after"]["expected"]) == ("yes", "no")
        assert pair["after"]["labels"]["expected"]["origin"] == "human"
        assert old[f"{first['id']}:{pair['before']['position']}"]["key"] == pair["before"]["key"]
        assert new[f"{second['id']}:{pair['after']['position']}"]["key"] == pair["after"]["key"]
    back = await diff(client, second["id"], first["id"])
    assert back["removed"] == found["added"]
    assert back["added"] == found["removed"]
    assert (back["changedCount"], back["unchangedCount"]) == (3, 4)
    same = await diff(client, second["id"], second["id"])
    assert [same[f"{name}Count"] for name in ("added", "removed", "changed", "unchanged")] == [
        0, 0, 0, 11,
    ]  # fmt: skip


async def test_each_list_is_read_page_by_page(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    first = await make_snapshot(client, board, named(10))
    await edit_alike(client, board, named(10), quality=0.5)
    second = await make_snapshot(client, board, named(10, start=10))
    for name in ("added", "changed"):
        seen, after, whole = [], None, (await diff(client, first["id"], second["id"]))[name]
        for size in (4, 4, 2):
            page = (await diff(client, first["id"], second["id"], first=4, after=after))[name]
            assert (page["totalCount"], len(page["nodes"])) == (10, size)
            assert page["pageInfo"]["hasNextPage"] is (size == 4)
            seen += page["nodes"]
            after = page["pageInfo"]["endCursor"]
        assert seen == whole["nodes"]


async def test_snapshots_without_files_are_compared_too(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    a, b = [await make_ranked_run(process, board, [], rows=count) for count in (2, 5)]
    found = await diff(client, a.snapshot_id, b.snapshot_id)
    assert [found[f"{name}Count"] for name in ("added", "removed", "changed", "unchanged")] == [
        3, 0, 0, 2,
    ]  # fmt: skip
    assert [row["input"] for row in found["added"]["nodes"]] == [
        f"question {n}" for n in range(2, 5)
    ]


async def test_only_snapshots_of_one_leaderboard_and_ones_own_are_compared(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    stranger = await make_tenant(process)
    mine, other, theirs = [
        (await make_ranked_run(process, await make_leaderboard(process, owner), [])).snapshot_id
        for owner in (tenant.workspace_id, tenant.workspace_id, stranger.workspace_id)
    ]
    query = f"query Q($a: ID!, $b: ID!) {{ snapshotDiff(a: $a, b: $b) {{ {COUNTS} }} }}"
    for pair, code in (
        ((mine, other), "invalid_input"),
        ((mine, theirs), "not_found"),
        ((theirs, mine), "not_found"),
        ((theirs, theirs), "not_found"),
        ((mine, "no id"), "invalid_input"),
    ):
        answer = await ask(client, query, a=str(pair[0]), b=str(pair[1]))
        assert answer["errors"][0]["extensions"]["code"] == code
        assert answer["data"] is None


@pytest.mark.parametrize("part", ["index", "lines"])
async def test_a_changed_byte_is_an_error_and_never_a_difference(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings, part: str
) -> None:
    board = await make_push_board(process, tenant)
    first = await make_snapshot(client, board, rows(3))
    second = await make_snapshot(client, board, rows(3, start=3))
    key = (
        index_key(board.id, UUID(second["id"]))
        if part == "index"
        else lines_key(board.id, second["content_sha256"])
    )
    path = Path(settings.object_store) / key
    stored = bytearray(path.read_bytes())
    stored[30] ^= 1
    path.write_bytes(stored)
    answer = await ask(client, DIFF, a=first["id"], b=second["id"])
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "corrupt_snapshot"
    assert error["path"] == (["snapshotDiff"] if part == "index" else ["snapshotDiff", "added"])
    query = f"query Q($a: ID!, $b: ID!) {{ snapshotDiff(a: $a, b: $b) {{ {COUNTS} }} }}"
    answer = await ask(client, query, a=first["id"], b=second["id"])
    assert ("errors" in answer) is (part == "index")


async def test_statements_do_not_grow_with_the_rows_that_differ(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, sql: SqlLog
) -> None:
    counts = []
    for size in (2, 150):
        board = await make_push_board(process, tenant)
        first = await make_snapshot(client, board, named(size))
        await edit_alike(client, board, named(size // 2), expected="no")
        second = await make_snapshot(client, board, named(size, start=size))
        with sql.record() as seen:
            found = await diff(client, first["id"], second["id"], first=100)
        assert found["addedCount"] == size
        counts.append(len(seen))
    assert counts == [2, 2]
