"""Statistics of traces: of what is stored, in both APIs, and the same once put together."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from app.services import Process
from db.models import Candidate, Leaderboard, Member
from resolvers.trace_upkeep import put_hours_together
from tests.conftest import ON_OLDEST_TOO, SqlLog, ask, session_token
from tests.factories import (
    Tenant,
    make_leaderboard,
    make_tenant,
    store_traces,
    trace_of,
)

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
POINT = """beginsAt model source count errorCount latencyMsP50 latencyMsP95 latencyMsP99
    promptTokens completionTokens costUsd unpricedCount"""
STATS = f"""
query($since: DateTime, $until: DateTime, $interval: StatsInterval! = HOUR,
      $by: StatsSeries! = NONE, $source: TraceSource, $model: String) {{
  workspace {{ traceStats(since: $since, until: $until, interval: $interval, by: $by,
                          source: $source, model: $model) {{ {POINT} }} }}
  leaderboards {{ nodes {{ id traceStats(since: $since, until: $until, interval: $interval, by: $by,
                                   source: $source, model: $model) {{ {POINT} }} }} }} }}
"""


def call(board: Leaderboard, candidate: Candidate, hour: float, **given: Any) -> dict[str, Any]:
    at = MIDNIGHT + timedelta(hours=hour)
    told = {"model": "a", "prompt_tokens": 10, "latency_ms": 0.0, **given}
    return trace_of(board, candidate, at, **told)


async def store(process: Process, traces: Sequence[dict[str, Any]]) -> None:
    async with process.database.write() as session:
        await store_traces(session, traces)


async def stats(client: httpx2.AsyncClient, **asked: Any) -> tuple[Any, dict[str, Any]]:
    answer = await ask(client, STATS, **asked)
    assert "errors" not in answer, answer
    boards = answer["data"]["leaderboards"]["nodes"]
    return answer["data"]["workspace"]["traceStats"], {
        each["id"]: each["traceStats"] for each in boards
    }


def point(hour: float, **given: Any) -> dict[str, Any]:
    return {
        "beginsAt": (MIDNIGHT + timedelta(hours=hour)).isoformat(), "model": None, "source": None,
        "count": 1, "errorCount": 0, "latencyMsP50": 0.0, "latencyMsP95": 0.0, "latencyMsP99": 0.0,
        "promptTokens": 10.0, "completionTokens": 0.0, "costUsd": "0", "unpricedCount": 1, **given,
    }  # fmt: skip


@ON_OLDEST_TOO
async def test_points_are_what_the_traces_come_to_however_they_are_kept(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    other = await make_leaderboard(process, board.workspace_id)
    stranger = await make_leaderboard(process, (await make_tenant(process)).workspace_id)
    await store(
        process,
        [
            call(board, candidate, 1, completion_tokens=2, cost_usd=Decimal("0.25")),
            call(board, candidate, 1.9, status="error", error="x", cost_usd=Decimal("0.000001")),
            call(board, candidate, 5, model="b", source="run"),
            call(board, candidate, 25, model=None, source="manual", prompt_tokens=2**31 - 1),
            call(board, candidate, 25, source="manual", prompt_tokens=2**31 - 1),
            call(other, candidate, 1),
            call(stranger, candidate, 1),
        ],
    )
    own, others = str(board.id), str(other.id)
    everything = {"since": MIDNIGHT.isoformat(), "until": datetime.now(UTC).isoformat()}
    for _ in range(2):
        whole, boards = await stats(client, **everything)
        paid = {"costUsd": "0.250001", "completionTokens": 2.0, "errorCount": 1}
        late = point(25, count=2, unpricedCount=2, promptTokens=2.0 * (2**31 - 1))
        first = point(1, count=2, promptTokens=20.0, unpricedCount=0, **paid)
        assert boards == {own: [first, point(5), late], others: [point(1)]}
        both = point(1, count=3, promptTokens=30.0, unpricedCount=1, **paid)
        assert whole == [both, point(5), late]

        whole, boards = await stats(client, **everything, interval="DAY", by="SOURCE")
        day = point(0, source="INFERENCE", count=2, promptTokens=20.0, unpricedCount=0, **paid)
        manual = {**late, "beginsAt": point(24)["beginsAt"], "source": "MANUAL"}
        assert boards[own] == [day, point(0, source="RUN"), manual]
        assert [each["count"] for each in whole] == [3, 1, 2]

        _, boards = await stats(client, **everything, by="MODEL")
        assert [(each["model"], each["count"]) for each in boards[own]] == [
            ("a", 2), ("b", 1), ("", 1), ("a", 1),
        ]  # fmt: skip
        for chosen, counts in (
            ({"model": "b"}, [1]), ({"source": "MANUAL"}, [2]), ({"model": "c"}, []),
            ({"source": "INFERENCE", "model": "a"}, [3]),
        ):  # fmt: skip
            whole, _ = await stats(client, **everything, **chosen)
            assert [each["count"] for each in whole] == counts
        await put_hours_together(process.system_context())


async def test_what_is_stored_later_adds_to_what_is_put_together(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    await store(process, [call(board, candidate, 3, latency_ms=100.0) for _ in range(90)])
    await put_hours_together(process.system_context())
    await store(process, [call(board, candidate, 3, latency_ms=5_000.0) for _ in range(10)])
    whole, _ = await stats(client, since=MIDNIGHT.isoformat())
    (found,) = whole
    assert found["count"] == 100
    assert found["latencyMsP50"] == pytest.approx(100, rel=0.025)
    assert found["latencyMsP95"] == pytest.approx(5_000, rel=0.025)


async def test_intervals_are_whole_and_end_where_they_are_asked_to(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    await store(process, [call(board, candidate, hour + 0.5) for hour in range(6)])
    for since, until, hours in ((2, 4, [2, 3]), (2.9, 4.1, [2, 3, 4]), (3.5, 3.6, [3])):
        whole, _ = await stats(
            client,
            since=(MIDNIGHT + timedelta(hours=since)).isoformat(),
            until=(MIDNIGHT + timedelta(hours=until)).isoformat(),
        )
        assert [each["beginsAt"] for each in whole] == [
            (MIDNIGHT + timedelta(hours=hour)).isoformat() for hour in hours
        ]
    whole, _ = await stats(client)  # the last day
    assert whole == []


async def test_rest_answers_the_same(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    await store(
        process, [call(board, candidate, 1, source="run", cost_usd=Decimal("0.5")),
                  call(board, candidate, 30)],
    )  # fmt: skip
    path = f"/v1/leaderboard/{board.id}/traces/stats"
    answer = await client.get(
        path, params={"since": MIDNIGHT.isoformat(), "by": "model", "interval": "day"}
    )
    first = {
        "begins_at": MIDNIGHT.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": "a", "source": None, "count": 1, "error_count": 0, "latency_ms_p50": 0.0,
        "latency_ms_p95": 0.0, "latency_ms_p99": 0.0, "prompt_tokens": 10, "completion_tokens": 0,
        "cost_usd": 0.5, "unpriced_count": 0,
    }  # fmt: skip
    document = answer.json()
    assert document["points"][0] == first
    assert [point["count"] for point in document.pop("points")] == [1, 1]
    assert document == {"leaderboard_id": str(board.id), "interval": "day", "by": "model"}
    other = await make_leaderboard(process, (await make_tenant(process)).workspace_id)
    refused = await client.get(f"/v1/leaderboard/{other.id}/traces/stats")
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
         "since: must be before until, 2026-01-01T00:00:00.000Z (got 2026-01-01T00:00:00.000Z)"),
        ({"since": "2026-01-01T00:00:00"}, "since: Input should have timezone info"),
    ],
)  # fmt: skip
async def test_a_time_that_is_none_is_400_and_named(
    client: httpx2.AsyncClient, board: Leaderboard, asked: dict[str, str], said: str
) -> None:
    answer = await ask(client, STATS, **asked)
    assert {error["message"].startswith(said) for error in answer["errors"]} == {True}
    refused = await client.get(f"/v1/leaderboard/{board.id}/traces/stats", params=asked)
    assert (refused.status_code, refused.json()["error"].startswith(said)) == (400, True)


@pytest.mark.parametrize("setting_overrides", [{"trace_retention_days": 90}])
async def test_too_many_points_are_400(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    path = f"/v1/leaderboard/{board.id}/traces/stats"
    now = datetime.now(UTC)
    since = [(now - timedelta(days=days)).isoformat() for days in (83, 84)]
    assert (await client.get(path, params={"since": since[0]})).status_code == 200
    answer = await client.get(path, params={"since": since[1]})
    assert answer.status_code == 400
    assert "is more than 2000 intervals of one hour before" in answer.json()["error"]
    await store(process, [call(board, candidate, 1, model=f"m{n}") for n in range(2_001)])
    answer = await client.get(path, params={"since": MIDNIGHT.isoformat(), "by": "model"})
    assert answer.json()["error"] == (
        "by: there are more than 2000 points by model; ask for a shorter time, longer intervals or "
        "fewer leaderboards"
    )


async def test_statistics_never_read_a_trace_and_cost_one_statement(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, sql: SqlLog
) -> None:
    for _ in range(20):
        await make_leaderboard(process, board.workspace_id)
    with sql.record() as seen:
        await ask(client, "{ leaderboards { nodes { traceStats(by: MODEL) { count } } } }")
    about = [statement for statement in seen if "trace" in statement]
    assert len(about) == 1
    assert "trace_sum" in about[0]
    assert "FROM trace " not in about[0]


async def test_another_workspace_is_asked_within_it(
    process: Process, anonymous: httpx2.AsyncClient, tenant: Tenant
) -> None:
    second = await make_tenant(process)
    async with process.database.write() as session:
        session.add(
            Member(workspace_id=second.workspace_id, user_id=tenant.owner_id, role="member")
        )
    anonymous.headers["Authorization"] = f"Bearer {session_token(tenant.owner_id)}"
    answer = await ask(anonymous, "{ workspaces { id traceStats { count } } }")
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"not_found"}
    assert "X-Workspace-Id" in answer["errors"][0]["message"]
