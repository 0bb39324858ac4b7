"""Instants at both ends of time, wherever callers give some."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from app.services import Process
from db.models import Candidate, Leaderboard
from resolvers.trace_upkeep import find_words
from tests.conftest import ask
from tests.factories import make_candidate, make_trace

SAID = "must be in the years 1970 to 9999 of UTC"
UNTOLD = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1969-12-31T23:59:59.999999Z",
    "1970-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59-12:00",
)
ENDS = (
    "1970-01-01T00:00:00Z",
    "1970-01-01T14:00:00+14:00",
    "9999-12-30T23:59:59Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T11:59:59-12:00",
)
PLACES: dict[str, dict[str, str]] = {
    "traces": {"format": "json"},
    "traces/export": {},
    "traces/stats": {"interval": "day"},
}
LIST = """query ($filter: TraceFilterInput, $last: Int) {
  traces(filter: $filter, last: $last) { totalCount nodes { id } } }"""
STATS = """query ($since: DateTime, $until: DateTime, $interval: StatsInterval!) {
  workspace { traceStats(since: $since, until: $until, interval: $interval) { count } } }"""
ADD = "mutation ($input: AddTraceInput!) { addTrace(input: $input) { isNew } }"
SHADOW = "mutation ($input: StartShadowInput!) { startShadow(input: $input) { shadow { id } } }"


@pytest.fixture
async def candidate(process: Process, board: Leaderboard) -> Candidate:
    made = await make_candidate(process, board)
    async with process.database.write() as session:
        await make_trace(session, board, made)
    await find_words(process.system_context())
    return made


def said_by(answer: Any, field: str) -> bool:
    (error,) = answer["errors"]
    named = error["message"].startswith(f"{field}: {SAID} (got '")
    return bool(named and error["extensions"]["code"] == "invalid_input")


@pytest.mark.parametrize("at", UNTOLD)
async def test_an_instant_that_can_t_be_told_is_400_and_named_before_anything_is_done(
    client: httpx2.AsyncClient, board: Leaderboard, candidate: Candidate, at: str
) -> None:
    path = f"/v1/leaderboard/{board.id}"
    for name in ("since", "until"):
        for place, query in PLACES.items():
            words = {} if place == "traces/stats" else {"search": "question"}
            for further in ({}, words):
                asked = urlencode({**query, **further, name: at})
                answer = await client.get(f"{path}/{place}?{asked}")
                assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
                assert answer.json()["error"] == f"{name}: {SAID} (got '{at}')"
            asked_for = {"filter": {name: at, **words}}
            assert said_by(await ask(client, LIST, **asked_for), name)
        assert said_by(await ask(client, STATS, interval="DAY", **{name: at}), name)
    added = await client.post(f"{path}/traces", json={"output": "x", "started_at": at})
    assert (added.status_code, added.json()["error"]) == (400, f"started_at: {SAID} (got '{at}')")
    assert said_by(await ask(client, ADD, input={"output": "x", "startedAt": at}), "started_at")
    shadow = {"leaderboardId": str(board.id), "challengerId": str(candidate.id), "budgetUsd": "1"}
    assert said_by(await ask(client, SHADOW, input={**shadow, "endsAt": at}), "ends_at")
    changed = await client.patch(
        f"/api/leaderboards/{board.id}", json={"dataset_type": "PUSH", "end_date": at}
    )
    assert (changed.status_code, changed.json()["error"]) == (
        400,
        f"end_date: {SAID} (got '{at}')",
    )


@pytest.mark.parametrize("at", ENDS)
async def test_both_ends_of_time_are_instants_as_others_are(
    client: httpx2.AsyncClient, board: Leaderboard, candidate: Candidate, at: str
) -> None:
    assert candidate.leaderboard_id == board.id
    is_first = at.startswith("1970")
    for name in ("since", "until"):
        count = 1 if (name == "since") == is_first else 0
        for search in ({}, {"search": "question"}):
            for place in ("traces?format=json", "traces/export?order=oldest_first"):
                path = f"/v1/leaderboard/{board.id}/{place}"
                answer = await client.get(f"{path}&{urlencode({name: at, **search})}")
                assert (answer.status_code, answer.text.count('"input":')) == (200, count)
            for last in (None, 5):
                told = await ask(client, LIST, filter={name: at, **search}, last=last)
                assert told["data"]["traces"]["totalCount"] == count
        for interval in ("DAY", "HOUR"):
            told = await ask(client, STATS, interval=interval, **{name: at})
            # Either there is nothing then, or it is too many hours.
            assert {error["extensions"]["code"] for error in told.get("errors", ())} <= {
                "invalid_input"
            }


async def test_a_trace_of_the_end_of_time_is_refused_by_its_own_rule(
    client: httpx2.AsyncClient, board: Leaderboard
) -> None:
    path = f"/v1/leaderboard/{board.id}/traces"
    for at in ENDS:
        answer = await client.post(path, json={"output": "x", "started_at": at})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("started_at: ")
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    taken = await client.post(
        path, json={"output": "x", "started_at": (day - timedelta(days=2)).isoformat()}
    )
    assert taken.status_code == 201


async def test_the_midnight_that_ends_the_year_9999_is_400(client: httpx2.AsyncClient) -> None:
    at = "9999-12-31T24:00:00Z"
    literal = f'{{ traces(filter: {{since: "{at}"}}) {{ totalCount }} }}'
    for answer in (await ask(client, LIST, filter={"since": at}), await ask(client, literal)):
        (error,) = answer["errors"]
        assert error["extensions"]["code"] == "invalid_input"
        assert f'Value cannot represent a DateTime: "{at}"' in error["message"]
