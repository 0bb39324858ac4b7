"""The server `rows`: asyncpg rows of a few batched statements, nested by hand, and orjson.

What a careful person would write for these queries and no others.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from starlette.types import ASGIApp

from bench.graphql import columns
from bench.graphql.bare_asgi import BareApp
from bench.graphql.queries import BOARDS, LATEST_RUNS, RESULTS, TRACES
from bench.graphql.scene import Scene

BOARD_LIST = f"SELECT {columns.BOARD_LIST} {columns.BOARDS_OF_WORKSPACE.format(limit=BOARDS)}"
BOARDS_TO_FILL = f"SELECT {columns.BOARD} {columns.BOARDS_OF_WORKSPACE.format(limit=BOARDS)}"
BOARD = f"SELECT {columns.BOARD} {columns.BOARD_BY_ID}"
TRACE_LIST = f"SELECT {columns.TRACE} {columns.TRACES_OF_WORKSPACE.format(limit=TRACES)}"
CANDIDATES = (
    f"SELECT leaderboard_id::text AS parent, {columns.CANDIDATE} "
    f"{columns.CANDIDATES_OF_BOARD.format(board='ANY($1::uuid[])')}"
)
_EACH = (
    "SELECT parent.id::text AS parent, child.* "
    "FROM unnest($1::uuid[]) AS parent (id) CROSS JOIN LATERAL ({children}) AS child"
)


def _runs(limit: int) -> str:
    runs = columns.RUNS_OF_BOARD.format(board="parent.id", limit=limit)
    return _EACH.format(children=f"SELECT {columns.RUN} {runs}")


def _results(selected: str) -> str:
    results = columns.RESULTS_OF_RUN.format(run="parent.id", limit=RESULTS)
    return _EACH.format(children=f"SELECT {selected} {results}")


RUNS = _runs(LATEST_RUNS)
LAST_RUN = _runs(1)
RESULT_LIST = _results(columns.RESULT)
RESULTS_WITH_OUTPUT = _results(columns.RESULT_WITH_OUTPUT)


def _by_parent(records: Iterable[Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        node = dict(record)
        found[node.pop("parent")].append(node)
    return found


async def _fill(
    connection: Any, boards: list[dict[str, Any]], *, runs: str, results: str
) -> list[dict[str, Any]]:
    """Put their candidates, and their runs with results, into *boards*."""
    ids = [board["id"] for board in boards]
    candidates_of = _by_parent(await connection.fetch(CANDIDATES, ids))
    runs_of = _by_parent(await connection.fetch(runs, ids))
    run_ids = [run["id"] for found in runs_of.values() for run in found]
    results_of = _by_parent(await connection.fetch(results, run_ids))
    for board in boards:
        found = runs_of[board["id"]]
        for run in found:
            run["results"] = {"nodes": results_of[run["id"]]}
        board["candidates"] = candidates_of[board["id"]]
        board["runs"] = {"nodes": found}
    return boards


def _encode(field: str, value: object) -> bytes:
    return orjson.dumps({"data": {field: value}})


async def answer_q1(connection: Any, scene: Scene, _: Mapping[str, Any]) -> bytes:
    """Answer Q1 with one statement."""
    records = await connection.fetch(BOARD_LIST, scene.workspace_id)
    return _encode("leaderboards", {"nodes": [dict(record) for record in records]})


async def answer_q2(connection: Any, scene: Scene, _: Mapping[str, Any]) -> bytes:
    """Answer Q2 with a statement for each kind of object."""
    records = await connection.fetch(BOARDS_TO_FILL, scene.workspace_id)
    boards = [dict(record) for record in records]
    filled = await _fill(connection, boards, runs=RUNS, results=RESULT_LIST)
    return _encode("leaderboards", {"nodes": filled})


async def answer_q3(connection: Any, scene: Scene, _: Mapping[str, Any]) -> bytes:
    """Answer Q3 with one statement."""
    records = await connection.fetch(TRACE_LIST, scene.workspace_id)
    return _encode("traces", {"nodes": [dict(record) for record in records]})


async def answer_q4(connection: Any, _: Scene, variables: Mapping[str, Any]) -> bytes:
    """Answer Q4 with a statement for each kind of object."""
    board = dict(await connection.fetchrow(BOARD, variables["id"]))
    await _fill(connection, [board], runs=LAST_RUN, results=RESULTS_WITH_OUTPUT)
    return _encode("leaderboard", board)


def create_app(scene: Scene) -> ASGIApp:
    """Build the application."""
    return BareApp(scene, {"Q1": answer_q1, "Q2": answer_q2, "Q3": answer_q3, "Q4": answer_q4})
