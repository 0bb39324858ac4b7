"""The server `limit`: PostgreSQL writes the whole answer in one statement; Python passes it on."""

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp

from bench.graphql import columns
from bench.graphql.bare_asgi import BareApp
from bench.graphql.queries import BOARDS, LATEST_RUNS, RESULTS, TRACES
from bench.graphql.scene import Scene


def _list(statement: str) -> str:
    return f"(SELECT coalesce(json_agg(item), '[]') FROM ({statement}) AS item)"


def _connection(statement: str) -> str:
    return f"json_build_object('nodes', {_list(statement)})"


def _data(field: str, value: str) -> str:
    return f"SELECT json_build_object('data', json_build_object('{field}', {value}))::text"


def _below_board(runs: int, result: str) -> str:
    """Return the columns with a leaderboard's candidates and runs."""
    board, run = "leaderboard.id", "run.id"
    candidates = f"SELECT {columns.CANDIDATE} {columns.CANDIDATES_OF_BOARD.format(board=board)}"
    results = f"SELECT {result} {columns.RESULTS_OF_RUN.format(run=run, limit=RESULTS)}"
    latest = (
        f"SELECT {columns.RUN}, {_connection(results)} AS results "
        f"{columns.RUNS_OF_BOARD.format(board=board, limit=runs)}"
    )
    return f"{_list(candidates)} AS candidates, {_connection(latest)} AS runs"


_BOARDS = columns.BOARDS_OF_WORKSPACE.format(limit=BOARDS)
_TRACES = columns.TRACES_OF_WORKSPACE.format(limit=TRACES)
_WHOLE_BOARD = f"{columns.BOARD}, {_below_board(LATEST_RUNS, columns.RESULT)}"
_ONE_BOARD = f"{columns.BOARD}, {_below_board(1, columns.RESULT_WITH_OUTPUT)}"

Q1 = _data("leaderboards", _connection(f"SELECT {columns.BOARD_LIST} {_BOARDS}"))
Q2 = _data("leaderboards", _connection(f"SELECT {_WHOLE_BOARD} {_BOARDS}"))
Q3 = _data("traces", _connection(f"SELECT {columns.TRACE} {_TRACES}"))
Q4 = _data(
    "leaderboard",
    f"(SELECT to_json(item) FROM (SELECT {_ONE_BOARD} {columns.BOARD_BY_ID}) AS item)",
)


async def answer_q1(connection: Any, scene: Scene, _: Mapping[str, Any]) -> bytes:
    """Answer Q1."""
    return await _pass_on(connection, Q1, scene.workspace_id)


async def answer_q2(connection: Any, scene: Scene, _: Mapping[str, Any]) -> bytes:
    """Answer Q2."""
    return await _pass_on(connection, Q2, scene.workspace_id)


async def answer_q3(connection: Any, scene: Scene, _: Mapping[str, Any]) -> bytes:
    """Answer Q3."""
    return await _pass_on(connection, Q3, scene.workspace_id)


async def answer_q4(connection: Any, _: Scene, variables: Mapping[str, Any]) -> bytes:
    """Answer Q4."""
    return await _pass_on(connection, Q4, variables["id"])


async def _pass_on(connection: Any, statement: str, argument: object) -> bytes:
    text: str = await connection.fetchval(statement, argument)
    return text.encode()


def create_app(scene: Scene) -> ASGIApp:
    """Build the application."""
    return BareApp(scene, {"Q1": answer_q1, "Q2": answer_q2, "Q3": answer_q3, "Q4": answer_q4})
