"""Snapshots in GraphQL: their list, their rows as they are stored, and what they leave out."""

import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest

from app.services import Process
from app.settings import Settings
from db.models import Leaderboard
from engine.rows import normalize_row, row_key
from engine.splits import is_validation
from resolvers.snapshot_files import dropped_key, index_key, lines_key
from tests.conftest import SqlLog, ask
from tests.factories import (
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
    make_token,
)
from tests.rest_compat.test_consolidation import consolidate
from tests.rest_compat.test_push import make_push_board, push, rows
from tests.schema.test_dataset_edits import edit

ROWS = """query Q($id: ID!, $first: Int, $after: String, $last: Int, $before: String,
  $filter: SnapshotRowFilterInput) { datasetSnapshot(id: $id) {
  rows(first: $first, after: $after, last: $last, before: $before, filter: $filter) { totalCount
    nodes { id position key externalId input expected hasExpected side weight quality labels tags
            metadata rubric messages }
    pageInfo { startCursor endCursor hasNextPage hasPreviousPage } } } }"""
DROPPED = """query Q($id: ID!, $first: Int, $after: String, $last: Int) { datasetSnapshot(id: $id) {
  droppedRows(first: $first, after: $after, last: $last) { totalCount
    nodes { key externalId reason of similarity } pageInfo { endCursor hasNextPage } } } }"""


async def make_snapshot(
    client: httpx2.AsyncClient, board: Leaderboard, given: Sequence[Any]
) -> Any:
    """Push rows and consolidate them."""
    for start in range(0, len(given), 1_000):
        assert (await push(client, board, given[start : start + 1_000])).status_code == 202
    return (await consolidate(client, board))["snapshot"]


def named(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Return rows by whose ids they can be edited."""
    return [{**row, "id": row["input"]} for row in rows(count, start=start)]


async def edit_alike(
    client: httpx2.AsyncClient, board: Leaderboard, given: Sequence[Any], **changes: Any
) -> None:
    """Edit the same fields of some rows."""
    await edit(client, board, *({"externalId": row["id"], **changes} for row in given))


def stored_lines(settings: Settings, board: Leaderboard, snapshot: Any) -> list[Any]:
    path = Path(settings.object_store) / lines_key(board.id, snapshot["content_sha256"])
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


async def read(client: httpx2.AsyncClient, query: str, **variables: Any) -> Any:
    answer = await ask(client, query, **variables)
    assert "errors" not in answer, answer
    return answer["data"]


async def read_rows(client: httpx2.AsyncClient, snapshot_id: object, **variables: Any) -> Any:
    data = await read(client, ROWS, id=str(snapshot_id), **variables)
    return data["datasetSnapshot"]["rows"]


async def pages(
    client: httpx2.AsyncClient, snapshot_id: object, size: int, **variables: Any
) -> AsyncIterator[Any]:
    """Yield a snapshot's rows page by page, from the first to the last."""
    after = None
    while True:
        page = await read_rows(client, snapshot_id, first=size, after=after, **variables)
        yield page
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return


async def test_the_snapshots_of_a_dataset_are_listed_by_number(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    made = [await make_snapshot(client, board, rows(2, start=2 * n)) for n in range(5)]
    query = """query Q($id: ID!, $first: Int, $after: String, $orderBy: ListOrder!) {
      leaderboard(id: $id) { dataset {
        snapshots(first: $first, after: $after, orderBy: $orderBy) {
          totalCount nodes { id number rowCount labelledRowCount parentId parent { number }
            sourceRevision sourceUrl leaderboard { id } dropped { reason count } downloadUrl }
          pageInfo { endCursor hasNextPage } } } } }"""
    seen: list[Any] = []
    for order, numbers in (("NEWEST_FIRST", [5, 4, 3, 2, 1]), ("OLDEST_FIRST", [1, 2, 3, 4, 5])):
        seen, after = [], None
        for size in (2, 2, 1):
            data = await read(client, query, id=str(board.id), first=2, after=after, orderBy=order)
            page = data["leaderboard"]["dataset"]["snapshots"]
            assert (page["totalCount"], len(page["nodes"])) == (5, size)
            assert page["pageInfo"]["hasNextPage"] is (size == 2)
            seen += page["nodes"]
            after = page["pageInfo"]["endCursor"]
        assert [each["number"] for each in seen] == numbers
    for number, (node, stored) in enumerate(zip(seen, made, strict=True), start=1):
        assert node["id"] == stored["id"]
        assert node["parentId"] == (made[number - 2]["id"] if number > 1 else None)
        assert node["parent"] == ({"number": number - 1} if number > 1 else None)
        assert (node["rowCount"], node["labelledRowCount"]) == (2 * number, 2 * number)
        assert (node["sourceUrl"], node["sourceRevision"], node["dropped"]) == (None, None, [])
        assert node["leaderboard"] == {"id": str(board.id)}
        got = await client.get(node["downloadUrl"])
        assert got.headers["etag"].removeprefix("W/") == f'"{stored["content_sha256"]}"'


async def test_the_rows_are_those_of_the_file_in_its_order_page_by_page(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings
) -> None:
    board = await make_push_board(process, tenant)
    given = [
        {
            "id": f"row {n}", "input": f"question {n}", "tags": ["t", str(n)],
            "metadata": {"n": n}, "rubric": "be brief",
            **({"output": "yes"} if n % 3 else {}),
        }
        for n in range(600)
    ]  # fmt: skip
    snapshot = await make_snapshot(client, board, given)
    lines = stored_lines(settings, board, snapshot)
    found = []
    async for page in pages(client, snapshot["id"], 170):
        assert page["totalCount"] == 600
        found += page["nodes"]
    assert [row["position"] for row in found] == list(range(600))
    for position, (row, line) in enumerate(zip(found, lines, strict=True)):
        assert row["id"] == f"{snapshot['id']}:{position}"
        assert row["externalId"] == line["id"]
        assert (row["input"], row["expected"]) == (line["input"], line.get("expected"))
        assert row["hasExpected"] is ("expected" in line)
        assert (row["tags"], row["metadata"]) == (line["tags"], line["metadata"])
        assert row["key"] == row_key(normalize_row(line)).hex()
        assert row["side"] == ("VALIDATION" if is_validation(line["input"]) else "TRAIN")
        assert (row["weight"], row["quality"], row["labels"]) == (1, None, {})
        assert (row["rubric"], row["messages"]) == ("be brief", None)
    backward: list[Any] = []
    before = None
    for is_last in (False, False, False, True):
        page = await read_rows(client, snapshot["id"], last=170, before=before)
        assert page["pageInfo"]["hasPreviousPage"] is not is_last
        backward = page["nodes"] + backward
        before = page["pageInfo"]["startCursor"]
    assert backward == found


async def test_a_row_says_what_was_edited_and_by_whom(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    given = named(3)
    snapshot = await make_snapshot(client, board, given)
    changes = {"input": "another question", "expected": "no", "weight": 2.5, "quality": 0.4}
    await edit_alike(client, board, given[1:2], **changes, reason="I know better")
    edited = (await consolidate(client, board))["snapshot"]
    before, after = [
        {row["key"]: row for row in (await read_rows(client, each["id"]))["nodes"]}
        for each in (snapshot, edited)
    ]
    assert before.keys() == after.keys()
    (key,) = (each for each in before if before[each] | {"id": 0} != after[each] | {"id": 0})
    assert key == row_key(normalize_row(given[1])).hex()
    row = after[key]
    assert {name: row[name] for name in changes} == changes
    assert (row["labels"].keys(), row["labels"]["weight"]["origin"]) == (changes.keys(), "human")
    assert row["labels"]["weight"]["reason"] == "I know better"
    # Its side is that of the input that came, whatever it says now.
    assert row["side"] == before[key]["side"]


@pytest.mark.parametrize("is_old", [False, True], ids=["in storage", "in the database"])
async def test_a_filter_finds_the_rows_of_a_side_and_those_with_labels(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, *, is_old: bool
) -> None:
    if is_old:
        board = await make_leaderboard(process, tenant.workspace_id)
        snapshot_id = (await make_ranked_run(process, board, [], rows=90)).snapshot_id
    else:
        board = await make_push_board(process, tenant)
        given = [{**row, "output": None if n % 3 else "x"} for n, row in enumerate(rows(900))]
        snapshot_id = UUID((await make_snapshot(client, board, given))["id"])
    everything = [row async for page in pages(client, snapshot_id, 200) for row in page["nodes"]]
    for chosen in ({"side": "TRAIN"}, {"side": "VALIDATION"}, {"labelled": True},
                   {"labelled": False}, {"side": "VALIDATION", "labelled": True}, {}):  # fmt: skip
        wanted = [
            row
            for row in everything
            if chosen.get("side", row["side"]) == row["side"]
            and chosen.get("labelled", row["hasExpected"]) == row["hasExpected"]
        ]
        found = []
        async for page in pages(client, snapshot_id, 70, filter=chosen):
            assert page["totalCount"] == len(wanted)
            found += page["nodes"]
        assert found == wanted
    assert 0 < len([row for row in everything if row["side"] == "VALIDATION"]) < len(everything)


async def test_the_rows_of_a_snapshot_without_files_are_read_from_the_database(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    run = await make_ranked_run(process, board, [], rows=3)
    page = await read_rows(client, run.snapshot_id, first=2)
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (3, True)
    first = page["nodes"][0]
    assert (first["input"], first["expected"], first["weight"]) == ("question 0", "yes", 1)
    assert first["key"] == row_key(normalize_row({"input": "question 0", "output": "yes"})).hex()
    query = "query Q($id: ID!) { datasetSnapshot(id: $id) { downloadUrl labelledRowCount } }"
    data = await read(client, query, id=str(run.snapshot_id))
    assert data["datasetSnapshot"] == {"downloadUrl": None, "labelledRowCount": None}


async def test_counting_and_places_read_nothing_of_the_rows(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings
) -> None:
    board = await make_push_board(process, tenant)
    snapshot = await make_snapshot(client, board, rows(300))
    shutil.rmtree(settings.object_store)
    query = """query Q($id: ID!) { datasetSnapshot(id: $id) { rows(first: 2) { totalCount
      nodes { id position } edges { cursor } pageInfo { hasNextPage } } } }"""
    page = (await read(client, query, id=snapshot["id"]))["datasetSnapshot"]["rows"]
    assert page["totalCount"] == 300
    assert [row["position"] for row in page["nodes"]] == [0, 1]
    answer = await ask(client, ROWS, id=snapshot["id"])
    assert answer["errors"][0]["extensions"]["code"] == "corrupt_snapshot"


async def test_one_row_is_found_by_its_id(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    snapshot = await make_snapshot(client, board, rows(3))
    query = "query Q($id: ID!) { datasetRow(id: $id) { id position input key side } }"
    nodes = (await read_rows(client, snapshot["id"]))["nodes"]
    for row in nodes:
        found = (await read(client, query, id=row["id"]))["datasetRow"]
        assert found == {name: row[name] for name in found}
    for wrong, code in (
        (f"{snapshot['id']}:3", "not_found"),
        (f"{snapshot['id']}:{10**30}", "not_found"),
        (f"{uuid4()}:0", "not_found"),
        (snapshot["id"], "invalid_input"),
        (f"{snapshot['id']}:-1", "invalid_input"),
        (f"{snapshot['id']}:{'9' * 5_000}", "invalid_input"),
        ("x:0", "invalid_input"),
    ):
        answer = await ask(client, query, id=wrong)
        assert answer["errors"][0]["extensions"]["code"] == code, wrong


async def test_a_runs_answers_tell_what_the_file_says_of_their_rows(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board)
    await make_ranked_run(process, board, [candidate], rows=2)
    query = """{ leaderboards(first: 2) { nodes { runs(first: 2) { nodes { results { nodes {
      row { id position input key side weight labels hasExpected } } } } } } } }"""
    (node,) = (await read(client, query))["leaderboards"]["nodes"]
    results = node["runs"]["nodes"][0]["results"]["nodes"]
    assert [(each["row"]["input"], each["row"]["weight"]) for each in results] == [
        ("question 0", 1),
        ("question 1", 1),
    ]
    assert {len(each["row"]["key"]) for each in results} == {32}


async def test_what_is_left_out_is_listed_with_its_reason(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(
        process, tenant, near_duplicate_threshold=0.7, auto_limit_size=True,
        max_samples_to_gather=2,
    )  # fmt: skip
    text = " ".join(f"word{n}" for n in range(60))
    given = [
        {"id": "a", "input": text, "output": "1"},
        {"id": "b", "input": f"{text} more", "output": "2"},
        {"id": "hidden", "input": "not to be seen", "output": "3"},
        *rows(4),
    ]
    await push(client, board, given)
    await edit_alike(client, board, given[2:3], excluded=True)
    snapshot = (await consolidate(client, board))["snapshot"]
    query = "query Q($id: ID!) { datasetSnapshot(id: $id) { dropped { reason count } } }"
    counts = (await read(client, query, id=snapshot["id"]))["datasetSnapshot"]["dropped"]
    assert counts == [
        {"reason": "EXCLUDED", "count": 1},
        {"reason": "NEAR_DUPLICATE", "count": 1},
        {"reason": "OVER_LIMIT", "count": 3},
    ]
    found, after = [], None
    for size in (2, 2, 1):
        data = await read(client, DROPPED, id=snapshot["id"], first=2, after=after)
        page = data["datasetSnapshot"]["droppedRows"]
        assert (page["totalCount"], len(page["nodes"])) == (5, size)
        assert page["pageInfo"]["hasNextPage"] is (size == 2)
        found += page["nodes"]
        after = page["pageInfo"]["endCursor"]
    tail = (await read(client, DROPPED, id=snapshot["id"], last=3))["datasetSnapshot"]
    assert tail["droppedRows"]["nodes"] == found[2:]
    by_reason = {each["reason"]: each for each in found}
    assert by_reason["EXCLUDED"]["externalId"] == "hidden"
    keys = {name: row_key(normalize_row(given[n])).hex() for n, name in enumerate("ab")}
    near = by_reason["NEAR_DUPLICATE"]
    assert {near["key"], near["of"]} == set(keys.values())
    assert 0.9 < near["similarity"] < 1
    assert len({each["key"] for each in found}) == 5


@pytest.mark.parametrize("change", ["gone", "cut off", "no JSON", "another reason"])
async def test_a_list_of_dropped_rows_that_was_changed_is_an_error(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings, change: str
) -> None:
    board = await make_push_board(process, tenant, auto_limit_size=True, max_samples_to_gather=1)
    snapshot = await make_snapshot(client, board, rows(3))
    path = Path(settings.object_store) / dropped_key(board.id, UUID(snapshot["id"]))
    stored = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {
                "cut off": stored[:-1],
                "no JSON": stored.replace(b"{", b"["),
                "another reason": stored.replace(b"over_limit", b"over_lemon"),
            }[change]
        )
    answer = await ask(client, DROPPED, id=snapshot["id"])
    assert answer["errors"][0]["extensions"]["code"] == "corrupt_snapshot"


@pytest.mark.parametrize(
    ("part", "change"),
    [
        *(("lines", change) for change in ("a byte", "the end", "everything")),
        *(("index", change) for change in ("a byte", "the end", "everything", "more")),
    ],
)
async def test_a_changed_byte_is_an_error_of_that_snapshot_alone(
    client: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    settings: Settings,
    part: str,
    change: str,
) -> None:
    board = await make_push_board(process, tenant)
    made = [await make_snapshot(client, board, rows(20, start=20 * n)) for n in range(2)]
    key = (
        lines_key(board.id, made[0]["content_sha256"])
        if part == "lines"
        else index_key(board.id, UUID(made[0]["id"]))
    )
    path = Path(settings.object_store) / key
    stored = bytearray(path.read_bytes())
    if change == "everything":
        path.unlink()
    elif change == "a byte":
        stored[20] ^= 1
        path.write_bytes(stored)
    elif change == "the end":
        path.write_bytes(stored[:-1])
    else:
        path.write_bytes(stored + bytes(49))
    query = """query Q($id: ID!) { leaderboard(id: $id) { dataset { snapshots(orderBy: OLDEST_FIRST)
      { nodes { number rows { nodes { input side } } } } } } }"""
    answer = await ask(client, query, id=str(board.id))
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "corrupt_snapshot"
    assert error["path"] == ["leaderboard", "dataset", "snapshots", "nodes", 0, "rows"]
    assert len((await read_rows(client, made[1]["id"]))["nodes"]) == 40


async def test_snapshots_are_their_workspaces_own_and_need_the_scope_to_read(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    snapshot = await make_snapshot(client, board, rows(2))
    stranger = await make_tenant(process)
    scoped = await make_token(process, tenant.workspace_id, scopes=["models:read"])
    queries = {
        ROWS: {"id": snapshot["id"]},
        DROPPED: {"id": snapshot["id"]},
        "query Q($id: ID!) { datasetRow(id: $id) { input } }": {"id": f"{snapshot['id']}:0"},
        "query Q($id: ID!) { datasetRow(id: $id) { id } }": {"id": f"{snapshot['id']}:0"},
        "query Q($id: ID!) { snapshotDiff(a: $id, b: $id) { addedCount } }": {"id": snapshot["id"]},
    }
    for token, code in ((stranger.token, "not_found"), (scoped, "forbidden")):
        anonymous.headers["Authorization"] = f"Bearer {token}"
        for query, variables in queries.items():
            answer = await ask(anonymous, query, **variables)
            assert answer["data"] is None
            assert answer["errors"][0]["extensions"]["code"] == code, query
    for query, variables in queries.items():
        await read(client, query, **variables)


async def test_cursors_of_other_lists_are_refused(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    snapshot = await make_snapshot(client, board, rows(2))
    cursors = "{ leaderboards { edges { cursor } } }"
    (edge,) = (await read(client, cursors))["leaderboards"]["edges"]
    null = "WyJwb3NpdGlvbiIsbnVsbCwiMDAwMDAwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAwIl0"
    for cursor in (edge["cursor"], null, "x"):
        answer = await ask(client, ROWS, id=snapshot["id"], after=cursor)
        assert answer["errors"][0]["extensions"]["code"] == "invalid_input"


async def test_statements_do_not_grow_with_snapshots_or_rows(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, sql: SqlLog
) -> None:
    query = """query Q($id: ID!) { leaderboard(id: $id) { dataset { snapshots { totalCount nodes {
      number parent { number } leaderboard { name } dropped { count }
      rows(first: 20) { totalCount nodes { key input side } }
      train: rows(filter: {side: TRAIN}) { totalCount nodes { input } }
      droppedRows { totalCount nodes { key } } } } } } }"""
    counts = []
    for snapshots, size in ((2, 40), (7, 80)):
        board = await make_push_board(
            process, tenant, auto_limit_size=True, max_samples_to_gather=size - 1
        )
        for number in range(snapshots):
            await make_snapshot(client, board, rows(size, start=size * number))
        for _ in range(snapshots):
            await make_ranked_run(process, board, [], rows=size)
        with sql.record() as seen:
            data = await read(client, query, id=str(board.id))
        nodes = data["leaderboard"]["dataset"]["snapshots"]["nodes"]
        assert len(nodes) == 2 * snapshots
        counts.append(len(seen))
    assert counts[0] == counts[1]
