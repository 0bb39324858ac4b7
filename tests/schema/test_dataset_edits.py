"""Rows that are labelled, corrected and excluded by hand, and the snapshots that carry it."""

from typing import Any

import httpx2
import orjson
import pytest

from app.services import Process
from tests.conftest import ask
from tests.factories import TWO_ROWS_URL, Tenant, make_leaderboard, make_tenant
from tests.rest_compat.test_consolidation import consolidate, download
from tests.rest_compat.test_push import make_push_board, push

EDIT = """
mutation ($input: EditRowsInput!) {
  editRows(input: $input) {
    editCount
    dataset {
      status { pendingEdits }
      edits(first: 10) { totalCount nodes { number field value origin provenance rowKey } }
    }
  }
}
"""
GIVEN = [
    {"id": "a", "input": "one", "output": "1"},
    {"id": "b", "input": "two"},
    {"id": "c", "input": "three", "output": "3"},
]


async def edit(client: httpx2.AsyncClient, board: Any, *rows: dict[str, Any]) -> Any:
    return await ask(client, EDIT, input={"leaderboardId": str(board.id), "rows": list(rows)})


async def lines_of(client: httpx2.AsyncClient, board: Any) -> dict[str, Any]:
    content = (await download(client, board)).content
    return {row["id"]: row for row in map(orjson.loads, content.splitlines())}


async def test_the_next_snapshot_carries_what_a_person_said(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    await push(client, board, GIVEN)
    first = (await consolidate(client, board))["snapshot"]
    answer = await edit(
        client,
        board,
        {"externalId": "b", "expected": "2", "tags": ["x"], "reason": "checked"},
        {"externalId": "a", "input": "uno", "weight": 2, "quality": 0.5},
        {"externalId": "c", "excluded": True},
    )
    edited = answer["data"]["editRows"]
    assert (edited["editCount"], edited["dataset"]["status"]) == (6, {"pendingEdits": 6})
    assert edited["dataset"]["edits"]["totalCount"] == 6
    newest = edited["dataset"]["edits"]["nodes"][0]
    assert (newest["number"], newest["field"], newest["value"]) == (6, "EXCLUDED", True)
    assert newest["origin"] == "HUMAN"
    assert newest["provenance"].keys() == {"at", "token_id"}
    second = (await consolidate(client, board))["snapshot"]
    assert (second["row_count"], second["dropped"]) == (2, {"excluded": 1})
    rows = await lines_of(client, board)
    assert rows["b"]["expected"] == "2"
    assert rows["b"]["labels"]["expected"]["reason"] == "checked"
    assert (rows["a"]["input"], rows["a"]["weight"], rows["a"]["quality"]) == ("uno", 2.0, 0.5)
    assert (await download(client, board, params={"snapshot": 1})).headers["etag"] == (
        f'"{first["content_sha256"]}"'
    )
    await edit(
        client, board, {"externalId": "c", "excluded": False}, {"externalId": "b", "expected": None}
    )
    assert (await consolidate(client, board))["snapshot"]["row_count"] == 3
    assert "expected" not in (await lines_of(client, board))["b"]


async def test_a_row_is_named_by_its_place_in_a_snapshot_too(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    await push(client, board, [{"input": f"row {n}"} for n in range(5)])
    made = (await consolidate(client, board))["snapshot"]
    content = (await download(client, board)).content.splitlines()
    position = content.index(b'{"input":"row 3"}')
    answer = await edit(client, board, {"rowId": f"{made['id']}:{position}", "expected": "three"})
    assert answer["data"]["editRows"]["editCount"] == 1
    await consolidate(client, board)
    after = [orjson.loads(line) for line in (await download(client, board)).content.splitlines()]
    assert [row["input"] for row in after if "expected" in row] == ["row 3"]


async def test_rows_that_are_read_from_a_url_are_edited_too(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id, url=TWO_ROWS_URL)
    first = (await consolidate(client, board))["snapshot"]
    assert (first["number"], len(first["source_revision"])) == (1, 40)
    assert (await consolidate(client, board))["status"] == "nothing_pending"
    await edit(client, board, {"externalId": "row-1", "expected": "four"})
    second = (await consolidate(client, board))["snapshot"]
    assert (second["number"], second["source_revision"]) == (2, first["source_revision"])
    assert (await lines_of(client, board))["row-1"]["expected"] == "four"
    assert (await consolidate(client, board))["status"] == "nothing_pending"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"externalId": "z", "expected": "1"}, "rows.0.external_id: 'z' is not a row"),
        ({"rowId": "x:1", "expected": "1"}, "rows.0.row_id: 'x:1' is not a snapshot's id"),
        ({"rowId": "00000000-0000-7000-8000-000000000000:0", "expected": "1"}, "is not a row"),
        ({"rowId": "00000000-0000-7000-8000-000000000000:1_0", "expected": "1"}, "and a position"),
        ({"rowId": "00000000-0000-7000-8000-000000000000:-1", "expected": "1"}, "and a position"),
        ({"externalId": "a"}, "nothing of the row is edited"),
        ({"expected": "1"}, "one of row_id and external_id"),
        ({"externalId": "a", "rowId": "x:1", "expected": "1"}, "one of row_id and external_id"),
        ({"externalId": "a", "quality": 1.5}, "quality"),
        ({"externalId": "a", "weight": -1}, "weight"),
        ({"externalId": "a", "input": " "}, "must not be blank"),
        ({"externalId": "a", "expected": "a\x00b"}, "NUL"),
    ],
)
async def test_a_wrong_edit_edits_nothing_and_names_what_is_wrong(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, row: dict[str, Any], said: str
) -> None:
    board = await make_push_board(process, tenant)
    await push(client, board, GIVEN)
    good = {"externalId": "a", "tags": []}
    answer = await edit(client, board, row, good)
    (error,) = answer["errors"]
    assert (error["extensions"]["code"], said in error["message"]) == ("invalid_input", True), error
    status = (await client.get(f"/v1/leaderboard/{board.id}/dataset/status")).json()
    assert status["pending_edits"] == 0


async def test_another_workspaces_rows_are_not_edited(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    other = await make_push_board(process, await make_tenant(process))
    answer = await edit(client, other, {"externalId": "a", "expected": "1"})
    assert answer["errors"][0]["extensions"]["code"] == "not_found"
