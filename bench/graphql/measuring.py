"""Measures the servers in turn: every round asks each of them, in another order."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import orjson

from bench.graphql.agreement import check_agreement, extent_of
from bench.graphql.figures import Figures, QueryReport, percentile
from bench.graphql.load import (
    Connection,
    Window,
    ask_at_once,
    ask_in_turn,
    connect,
    request_of,
)
from bench.graphql.queries import request_body
from bench.graphql.scene import Scene
from bench.graphql.servers import Served

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        queries: Their names.
        rounds: How often each server is asked each query.
        connections: Used at once for throughput.
        seconds: How long each of a round's two windows is.
    """

    queries: Sequence[str]
    rounds: int
    connections: int
    seconds: float


@asynccontextmanager
async def connected(url: str, count: int) -> AsyncIterator[list[Connection]]:
    """Hold *count* connections to the server at *url* while the block runs."""
    opened = await asyncio.gather(*(connect(url) for _ in range(count)))
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()


async def answers_to(query: str, scene: Scene, urls: Mapping[str, str]) -> dict[str, bytes]:
    """Return every server's answer to a query.

    Raises:
        DisagreementError: They do not answer alike.
    """
    request = request_of(scene, request_body(query, scene))
    found: dict[str, bytes] = {}
    for name, url in urls.items():
        async with connected(url, 1) as (connection,):
            found[name] = await connection.ask(request)
    check_agreement(query, {name: orjson.loads(body) for name, body in found.items()})
    return found


def rotated(names: Sequence[T], by: int) -> Iterator[T]:
    """Yield *names* in their order, beginning at another one for each *by*."""
    start = by % len(names)
    yield from names[start:]
    yield from names[:start]


async def measure(
    scene: Scene, servers: Mapping[str, Served], plan: Plan
) -> dict[str, QueryReport]:
    """Check that all servers answer alike, warm them up, and measure them."""
    urls = {name: served.url for name, served in servers.items()}
    answers = {query: await answers_to(query, scene, urls) for query in plan.queries}
    warm_up = Plan(plan.queries, 1, plan.connections, plan.seconds / 2)
    await _rounds(scene, servers, answers, warm_up)
    rounds = await _rounds(scene, servers, answers, plan)
    return {
        query: QueryReport(
            extent=extent_of(orjson.loads(answers[query]["product"])["data"]),
            length=len(answers[query]["product"]),
            rounds=rounds[query],
        )
        for query in plan.queries
    }


async def _rounds(
    scene: Scene,
    servers: Mapping[str, Served],
    answers: Mapping[str, Mapping[str, bytes]],
    plan: Plan,
) -> dict[str, dict[str, list[Figures]]]:
    measured: dict[str, dict[str, list[Figures]]] = {
        query: {name: [] for name in servers} for query in plan.queries
    }
    for number in range(plan.rounds):
        for query in plan.queries:
            request = request_of(scene, request_body(query, scene))
            for name in rotated(list(servers), number):
                length = len(answers[query][name])
                figures = await _measure_one(servers[name], request, length, plan)
                measured[query][name].append(figures)
    return measured


async def _measure_one(served: Served, request: bytes, length: int, plan: Plan) -> Figures:
    window = Window(plan.seconds)
    async with connected(served.url, plan.connections) as connections:
        latencies = await ask_in_turn(connections[0], request, length, window)
        before = served.cpu_seconds()
        burst = await ask_at_once(connections, request, length, window)
        after = served.cpu_seconds()
    spent = None if before is None or after is None else after - before
    return Figures(
        p50_ms=percentile(latencies, 0.50) * 1000,
        p95_ms=percentile(latencies, 0.95) * 1000,
        per_second=burst.answers / burst.seconds,
        cpu_ms=None if spent is None else spent / burst.answers * 1000,
    )
