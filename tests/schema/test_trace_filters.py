"""Filters of traces: each one alone and together, page by page, and what is refused."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from app.services import Process
from db.base import first_id_at, new_id
from db.models import Candidate, Leaderboard
from db.records import Query, RecordReader, Row
from resolvers.trace_filter import TraceFilter
from resolvers.trace_upkeep import find_words
from resolvers.trace_words import READ_AS_THEY_ARE
from tests.conftest import ON_OLDEST_TOO, ask
from tests.factories import (
    make_leaderboard,
    make_tenant,
    store_traces,
    trace_of,
)

NOW = datetime.now(UTC)
# A run is older than its calls.
RUN, TOKEN = first_id_at(NOW - timedelta(hours=1)), new_id()
LIST = """
query($filter: TraceFilterInput, $first: Int, $after: String) {
  traces(filter: $filter, first: $first, after: $after) {
    totalCount nodes { id output } pageInfo { hasNextPage endCursor } } }
"""
LIST_OF_BOARD = """
query($id: ID!, $filter: TraceFilterInput) {
  leaderboard(id: $id) { traces(filter: $filter, first: 50) { totalCount nodes { output } } } }
"""
# By the output that tells them apart.
TRACES: dict[str, dict[str, Any]] = {
    "plain": {"days_ago": 0},
    "old": {"days_ago": 3, "model": "m-old"},
    "run": {"source": "run", "run_id": RUN, "score": 0.5, "expected": "x"},
    "scored": {"source": "run", "run_id": RUN, "score": 1.0},
    "failed": {"status": "error", "error": "timeout: no answer within 20 s", "latency_ms": 20_000},
    "cancelled": {"status": "cancelled", "days_ago": 1},
    "dear": {"cost_usd": Decimal("0.75"), "latency_ms": 900.5},
    "cheap": {"cost_usd": Decimal("0.000000000001"), "provider": "custom"},
    "token": {"token_id": TOKEN, "days_ago": 2},
    "number": {"trace_metadata": {"customer": 42, "is_new": True, "plan": None}},
    "text": {"trace_metadata": {"customer": "42", "nested": {"customer": 7}}},
    "words": {"input": "Where does the Quick brown fox jump?", "days_ago": 4},
    "phrase": {"input": "brown, quick: fox", "days_ago": 5},
    "unicode": {"input": "Größe 北京 naïve"},
    "mail": {"input": "write to jane.doe@example.com or 10.0.0.1"},
}
FOUND: list[tuple[dict[str, Any], set[str]]] = [
    ({"source": "RUN"}, {"run", "scored"}),
    ({"runId": str(RUN)}, {"run", "scored"}),
    ({"status": "ERROR"}, {"failed"}),
    ({"status": "CANCELLED"}, {"cancelled"}),
    ({"status": "ERROR", "hasError": False}, set()),
    ({"hasError": True}, {"failed"}),
    ({"provider": "custom"}, {"cheap"}),
    ({"model": "m-old"}, {"old"}),
    ({"model": "m-OLD"}, set()),
    ({"tokenId": str(TOKEN)}, {"token"}),
    ({"minLatencyMs": 900.5}, {"failed", "dear"}),
    ({"minLatencyMs": 900.5, "maxLatencyMs": 900.5}, {"dear"}),
    ({"minLatencyMs": 900.6}, {"failed"}),
    ({"minCostUsd": "0.75"}, {"dear"}),
    ({"minCostUsd": "0.750000000001"}, set()),
    ({"maxCostUsd": "0.000000000001"}, {"cheap"}),
    ({"minScore": 0.5}, {"run", "scored"}),
    ({"minScore": 0.6}, {"scored"}),
    ({"maxScore": 0.9}, {"run"}),
    ({"metadataKey": "customer"}, {"number", "text"}),
    ({"metadataKey": "customer", "metadataValue": "42"}, {"number", "text"}),
    ({"metadataKey": "customer", "metadataValue": "42.0"}, {"number"}),
    ({"metadataKey": "customer", "metadataValue": "7"}, set()),
    ({"metadataKey": "is_new", "metadataValue": "true"}, {"number"}),
    ({"metadataKey": "plan", "metadataValue": "null"}, {"number"}),
    ({"metadataKey": "plan"}, {"number"}),
    ({"metadataKey": "nested"}, {"text"}),
    ({"metadataKey": 'a"b', "metadataValue": '"}'}, set()),
    ({"search": "quick"}, {"words", "phrase"}),
    ({"search": "QUICK fox"}, {"words", "phrase"}),
    ({"search": '"quick brown fox"'}, {"words"}),
    ({"search": "quick -jump"}, {"phrase"}),
    ({"search": "jump OR größe"}, {"words", "unicode"}),
    ({"search": "北京"}, {"unicode"}),
    ({"search": "naive"}, set()),
    ({"search": "jane.doe@example.com"}, {"mail"}),
    ({"search": "jump", "minLatencyMs": 2}, set()),
    ({"search": "scored", "source": "RUN"}, {"scored"}),
    ({"search": "<b>"}, set()),
    ({"search": "-nothing", "source": "RUN"}, {"run", "scored"}),
    ({"since": (NOW - timedelta(days=4, hours=1)).isoformat(),
      "until": (NOW - timedelta(days=1, hours=1)).isoformat()}, {"old", "token", "words"}),
]  # fmt: skip


@pytest.fixture
async def stored(process: Process, board: Leaderboard, candidate: Candidate) -> None:
    other = await make_tenant(process)
    theirs = await make_leaderboard(process, other.workspace_id)
    async with process.database.write() as session:
        for owner in (board, theirs):
            await store_traces(
                session,
                [
                    trace_of(
                        owner,
                        candidate,
                        NOW - timedelta(days=given.get("days_ago", 0), seconds=number),
                        output=name,
                        **{"model": "m", **{k: v for k, v in given.items() if k != "days_ago"}},
                    )
                    for number, (name, given) in enumerate(TRACES.items())
                ],
            )


def outputs(nodes: list[dict[str, Any]]) -> list[str]:
    return [node["output"] for node in nodes]


@ON_OLDEST_TOO
@pytest.mark.parametrize("words", ["to be found", "found"])
async def test_every_filter_finds_what_it_says_in_graphql(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate,
    stored: None, words: str,
) -> None:  # fmt: skip
    if words == "found":
        assert await find_words(process.system_context()) == 2 * len(TRACES)
    for given, expected in [*FOUND, ({"candidateId": str(candidate.id)}, set(TRACES)),
                            ({"leaderboardId": str(board.id)}, set(TRACES)),
                            ({"candidateId": str(new_id())}, set())]:  # fmt: skip
        answer = await ask(client, LIST, filter=given, first=50)
        assert "errors" not in answer, (given, answer)
        found = answer["data"]["traces"]
        assert set(outputs(found["nodes"])) == expected, given
        assert found["totalCount"] == len(expected), given
        answer = await ask(client, LIST_OF_BOARD, id=str(board.id), filter=given)
        of_board = answer["data"]["leaderboard"]["traces"]
        assert of_board["totalCount"] == len(expected), given
        assert outputs(of_board["nodes"]) == outputs(found["nodes"])


def as_query(given: dict[str, Any]) -> dict[str, str]:
    """Return a GraphQL filter as REST's query parameters."""
    spell: Callable[[str], str] = lambda name: "".join(  # noqa: E731
        f"_{letter.lower()}" if letter.isupper() else letter for letter in name
    )
    lowered = {"source", "status"}
    return {
        spell(name): str(value).lower() if name in lowered or value in (True, False) else str(value)
        for name, value in given.items()
    }


@ON_OLDEST_TOO
async def test_every_filter_finds_the_same_in_rest(
    client: httpx2.AsyncClient, board: Leaderboard, candidate: Candidate, stored: None
) -> None:
    path = f"/v1/leaderboard/{board.id}/traces"
    for given, expected in FOUND:
        answer = await client.get(path, params={**as_query(given), "format": "json"})
        assert answer.status_code == 200, (given, answer.text)
        assert set(outputs(answer.json()["rows"])) == expected, given
        exported = await client.get(f"{path}/export", params=as_query(given))
        assert set(outputs([json.loads(line) for line in exported.text.splitlines()])) == expected
    by_candidate = await client.get(
        path, params={"leaderboard_model_id": str(candidate.id), "format": "json"}
    )
    assert by_candidate.json()["count"] == len(TRACES)


@pytest.mark.parametrize(
    "given", [{"search": "question"}, {"model": "m"}, {"metadataKey": "x"}, {"minLatencyMs": 0}]
)
async def test_a_filter_is_paged_in_the_order_of_time(
    client: httpx2.AsyncClient,
    process: Process,
    board: Leaderboard,
    candidate: Candidate,
    given: dict[str, Any],
) -> None:
    async with process.database.write() as session:
        await store_traces(
            session,
            [
                trace_of(board, candidate, NOW - timedelta(hours=9 * number), output=str(number),
                         model="m" if number % 3 else "n", trace_metadata={"x": number},
                         input="a question" if number % 2 else None)
                for number in range(23)
            ],
        )  # fmt: skip
    matching = [
        str(number)
        for number in range(23)
        if not (given == {"model": "m"} and number % 3 == 0)
        and not ("search" in given and number % 2 == 0)
    ]
    found: list[str] = []
    after = None
    while True:
        answer = await ask(client, LIST, filter=given, first=4, after=after)
        page = answer["data"]["traces"]
        found += outputs(page["nodes"])
        assert page["totalCount"] == len(matching)
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert found == matching


async def test_of_a_crowd_the_newest_are_found_at_once_and_all_of_them_later(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    count = READ_AS_THEY_ARE + 30
    async with process.database.write() as session:
        await store_traces(
            session,
            [
                trace_of(board, candidate, NOW - timedelta(seconds=number), input="a needle")
                for number in range(count)
            ],
        )
    for found in (READ_AS_THEY_ARE, count):
        answer = await ask(client, LIST, filter={"search": "needle"}, first=200)
        assert answer["data"]["traces"]["totalCount"] == found
        await find_words(process.system_context())


async def test_a_text_that_is_longer_than_what_is_indexed_is_stored(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    many = " ".join(f"w{number}" for number in range(300_000))
    async with process.database.write() as session:
        await store_traces(
            session,
            [trace_of(board, candidate, NOW, input=many, output="\U0001d4b3" * 300_000),
             trace_of(board, candidate, NOW, input=" ".join(map(chr, range(0x20000, 0x2A000))))],
        )  # fmt: skip
    for _ in range(2):
        for word, count in (("w5", 1), ("w250000", 0), (chr(0x20001), 1)):
            answer = await ask(client, LIST, filter={"search": word})
            assert answer["data"]["traces"]["totalCount"] == count
        await find_words(process.system_context())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"minLatencyMs": -1}, "min_latency_ms: Input should be greater than or equal to 0 (got -"),
        ({"minCostUsd": "-1"}, "min_cost_usd: Input should be greater than or equal to 0"),
        ({"minCostUsd": "0.1234567890123"}, "min_cost_usd: Decimal input should have no more than"),
        ({"search": "  "}, "search: must hold a word (got '  ')"),
        ({"search": ""}, "search: String should have at least 1 character (got '')"),
        ({"search": "x" * 1001}, "search: String should have at most 1000 characters (got 'xxx"),
        ({"search": "a\u0000b"}, "search: must not contain"),
        ({"metadataValue": "1"}, "metadata_value needs a metadata_key"),
        ({"minScore": 1, "maxScore": 0.5}, "min_score must not be above max_score (got 1.0 and"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
         "since must not be above until"),
        ({"since": "2026-01-02T00:00:00"}, "since: Input should have timezone info"),
        ({"tokenId": "x"}, "token_id: Input should be a valid UUID"),
    ],
)  # fmt: skip
async def test_a_wrong_value_is_400_and_named(
    client: httpx2.AsyncClient, board: Leaderboard, given: dict[str, Any], said: str
) -> None:
    answer = await ask(client, LIST, filter=given)
    (error,) = answer["errors"]
    assert said in error["message"]
    assert error["extensions"]["code"] == "invalid_input"
    for path in ("traces", "traces/export"):
        refused = await client.get(f"/v1/leaderboard/{board.id}/{path}", params=as_query(given))
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_input")
        assert said.split(" (got", maxsplit=1)[0] in refused.json()["error"]


def test_a_filter_without_values_has_the_shape_of_nothing() -> None:
    assert TraceFilter(model="a").shape() == TraceFilter(model="b").shape()
    assert TraceFilter(status="ok").shape() != TraceFilter(status="error").shape()


@pytest.mark.parametrize(
    ("given", "lists", "counts"),
    [
        ({}, "force_generic_plan", "auto"),
        ({"since": NOW.isoformat()}, "force_generic_plan", "auto"),
        ({"model": "m"}, "auto", "auto"),
        ({"minLatencyMs": 1}, "force_custom_plan", "force_custom_plan"),
        ({"maxCostUsd": "1", "model": "m"}, "force_custom_plan", "force_custom_plan"),
        ({"minScore": 1}, "force_custom_plan", "force_custom_plan"),
        ({"search": "word"}, "force_custom_plan", "force_custom_plan"),
        ({"metadataKey": "a"}, "auto", "auto"),
        ({"metadataKey": "a", "metadataValue": "b"}, "force_custom_plan", "force_custom_plan"),
    ],
)
async def test_what_may_be_rare_is_planned_for_its_value(
    client: httpx2.AsyncClient, board: Leaderboard, monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any], lists: str, counts: str,
) -> None:  # fmt: skip
    modes: list[tuple[bool, str]] = []
    fetch = RecordReader.fetch

    async def noting(reader: RecordReader, query: Query, values: Mapping[str, Any]) -> list[Row]:
        if "FROM trace" in query.sql:
            modes.append(("count(*)" in query.sql, query.plan_cache_mode))
        return await fetch(reader, query, values)

    monkeypatch.setattr(RecordReader, "fetch", noting)
    await ask(client, LIST, filter=given, first=50)
    await ask(client, LIST_OF_BOARD, id=str(board.id), filter=given)
    path = f"/v1/leaderboard/{board.id}/traces/export"
    await client.get(path, params=as_query(given))
    assert {mode for is_count, mode in modes if not is_count} == {lists}
    assert {mode for is_count, mode in modes if is_count} == {counts}
