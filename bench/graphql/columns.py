"""What the hand-written servers select for each object: the field's name and its SQL.

Ids and decimals are text, and enums are in capitals, because the answers have
them so. Every list is ordered by a qualified column: an unqualified `id` would
mean the selected text, and no index is in its order.
"""

from collections.abc import Mapping


def selected(columns: Mapping[str, str]) -> str:
    """Return *columns* as a SELECT list, each under its field's name."""
    return ", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())


_BOARD_NAMES = {"id": "leaderboard.id::text", "name": "name"}
BOARD_LIST = selected(
    _BOARD_NAMES
    | {
        "datasetType": "dataset_type",
        "datasetUrl": "dataset_url",
        "evalType": "upper(eval_type)",
        "modelSelection": "upper(model_selection)",
        "createdAt": "created_at",
        "updatedAt": "updated_at",
    }
)
BOARD = selected(_BOARD_NAMES | {"evalType": "upper(eval_type)", "createdAt": "created_at"})
CANDIDATE = selected(
    {
        "id": "candidate.id::text",
        "provider": "upper(provider)",
        "modelId": "model_id",
        "displayName": "display_name",
        "timeoutSeconds": "timeout_seconds",
        "createdAt": "created_at",
    }
)
RUN = selected(
    {
        "id": "run.id::text",
        "status": "upper(status)",
        "rowCount": "row_count",
        "createdAt": "created_at",
        "finishedAt": "finished_at",
    }
)
_RESULT = {
    "id": "run_result.id::text",
    "position": "position",
    "score": "score",
    "latencyMs": "latency_ms",
    "promptTokens": "prompt_tokens",
    "costUsd": "trim_scale(cost_usd)::text",
}
RESULT = selected(_RESULT)
RESULT_WITH_OUTPUT = selected(_RESULT | {"output": "output", "error": "error"})
TRACE = selected(
    {
        "id": "trace.id::text",
        "source": "upper(source)",
        "status": "upper(status)",
        "provider": "provider",
        "model": "model",
        "score": "score",
        "error": "error",
        "latencyMs": "latency_ms",
        "promptTokens": "prompt_tokens",
        "completionTokens": "completion_tokens",
        "costUsd": "trim_scale(cost_usd)::text",
        "createdAt": "created_at",
    }
)

BOARDS_OF_WORKSPACE = (
    "FROM leaderboard WHERE workspace_id = $1 AND deleted_at IS NULL "
    "ORDER BY leaderboard.id DESC LIMIT {limit}"
)
BOARD_BY_ID = "FROM leaderboard WHERE leaderboard.id = $1 AND deleted_at IS NULL"
TRACES_OF_WORKSPACE = "FROM trace WHERE workspace_id = $1 ORDER BY trace.id DESC LIMIT {limit}"
CANDIDATES_OF_BOARD = (
    "FROM candidate WHERE leaderboard_id = {board} AND removed_at IS NULL ORDER BY candidate.id"
)
RUNS_OF_BOARD = "FROM run WHERE leaderboard_id = {board} ORDER BY run.id DESC LIMIT {limit}"
RESULTS_OF_RUN = "FROM run_result WHERE run_id = {run} ORDER BY run_result.id LIMIT {limit}"
