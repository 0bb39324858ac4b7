"""The GraphQL benchmark compares like with like: its servers agree, and its client counts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import orjson
import pytest

from app.serving import listen, serving, url_of
from bench.graphql import limit, product, rows, usual
from bench.graphql.agreement import DisagreementError, Extent, check_agreement, extent_of
from bench.graphql.figures import Figures, QueryReport, table
from bench.graphql.load import LoadError, Window, ask_at_once, ask_in_turn, request_of
from bench.graphql.measuring import answers_to, connected, rotated
from bench.graphql.queries import QUERIES, request_body
from bench.graphql.scene import Scene
from bench.graphql.seeding import Size, fill

# Three leaderboards of 8 candidates, of whose runs the last three have 8 results each.
EXTENTS = {
    "Q1": Extent(objects=3, leaves=3 * 8),
    "Q2": Extent(objects=3 + 24 + 9 + 72, leaves=3 * 4 + 24 * 6 + 9 * 5 + 72 * 6),
    "Q3": Extent(objects=100, leaves=100 * 12),
    "Q4": Extent(objects=1 + 8 + 1 + 8, leaves=4 + 8 * 6 + 5 + 8 * 8),
}


@dataclass(frozen=True)
class Bench:
    scene: Scene
    urls: dict[str, str]


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    scene = await fill(database_url, Size(boards=3, traces=1_000))
    servers = {"product": product, "rows": rows, "limit": limit, "usual": usual}
    urls = {}
    async with AsyncExitStack() as stack:
        for name, server in servers.items():
            listener = listen("127.0.0.1", 0)
            await stack.enter_async_context(serving(server.create_app(scene), listener))
            urls[name] = url_of(listener)
        yield Bench(scene, urls)


async def test_every_server_answers_every_query_alike(bench: Bench) -> None:
    found = {
        query: extent_of(orjson.loads(answers["product"])["data"])
        for query in QUERIES
        for answers in [await answers_to(query, bench.scene, bench.urls)]
    }
    assert found == EXTENTS


async def test_the_client_counts_what_was_answered_and_refuses_what_was_not_expected(
    bench: Bench,
) -> None:
    request = request_of(bench.scene, request_body("Q1", bench.scene))
    window = Window(seconds=0, least=7)
    async with connected(bench.urls["rows"], 3) as connections:
        length = len(await connections[0].ask(request))
        burst = await ask_at_once(connections, request, length, window)
        latencies = await ask_in_turn(connections[0], request, length, window)
        with pytest.raises(LoadError, match=f"answered {length} bytes, not 1"):
            await ask_in_turn(connections[0], request, 1, window)
    assert 7 <= burst.answers <= 9
    assert len(latencies) == 7


async def test_the_client_refuses_a_failure(bench: Bench) -> None:
    request = request_of(bench.scene, b"not JSON")
    async with connected(bench.urls["product"], 1) as (connection,):
        with pytest.raises(LoadError, match="answered 400"):
            await connection.ask(request)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"at": "2026-01-01T00:00:00.500000+00:00"}, {"at": "2026-01-01T00:00:00.5+00:00"}),
        ({"score": 1.0}, {"score": 1}),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    ],
)
def test_the_same_answer_in_another_writing_agrees(left: object, right: object) -> None:
    check_agreement("Q", {"one": {"data": left}, "other": {"data": right}})


@pytest.mark.parametrize(
    ("left", "right", "where"),
    [
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, r"\$\.data\.a\[0\]\.b is 1 and 2"),
        ({"a": 1}, {}, r"\$\.data\.a is missing in the second"),
        ([1, 2], [1], r"\$\.data has 2 items and 1"),
        ({"cost": "0.10"}, {"cost": "0.1"}, r"'0\.10' and '0\.1'"),
        ({"a": None}, {"a": 0}, "is None and 0"),
    ],
)
def test_another_answer_is_told_with_its_place(left: object, right: object, where: str) -> None:
    with pytest.raises(DisagreementError, match=where):
        check_agreement("Q", {"one": {"data": left}, "other": {"data": right}})


def test_an_answer_with_errors_is_none() -> None:
    failed = {"data": None, "errors": [{"message": "no"}]}
    with pytest.raises(DisagreementError, match="one answers errors"):
        check_agreement("Q", {"one": failed, "other": failed})


def test_ratios_are_of_the_same_round_and_their_median_is_shown() -> None:
    report = QueryReport(
        Extent(1, 2),
        10,
        {
            "product": [Figures(2, 4, 50, 3), Figures(30, 4, 50, 3), Figures(9, 4, 50, 3)],
            "rows": [Figures(1, 2, 100, 1), Figures(10, 2, 100, 1), Figures(9, 2, 100, None)],
        },
    )
    assert report.ratios() == {"product / rows": Figures(2, 2, 2, 3)}
    assert "2.00x" in list(table("Q1", report, 8))[-1]


def test_each_round_begins_with_another_server() -> None:
    assert [list(rotated("abc", by)) for by in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
