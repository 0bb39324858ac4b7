"""What operators are shown of a process, in Prometheus's text format."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import Depends, FastAPI, Response
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from app.services import Process
from app.settings import Settings
from app.version import VERSION
from app.vitals import Vitals
from compiled_graphql.cache import CACHED, COMPILED
from db.session import Database
from jobs.queue import QueueDepth, read_queue_depth
from rest_compat import problems
from rest_compat.deps import demand_operator
from schema.operations import Operations

TEXT_FORMAT: Final = "text/plain; version=0.0.4"
# Spans are made around FastAPI and GraphQL alike; FastAPI's own would hold query strings.
NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
# However often it is scraped, the database is asked no more often than this.
DEPTH_SECONDS: Final = 5.0
# A scraper gives up after ten seconds, and wants the rest of the metrics most of all when the
# database is away.
LONGEST_DEPTH_SECONDS: Final = 1.0


class MetricsResponse(Response):
    """Metrics, as Prometheus reads them."""

    media_type = TEXT_FORMAT


class KnownDepth:
    """How many jobs are unfinished, asked no more often than is of use.

    Attributes:
        depth: None when it is not known.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked_at = float("-inf")
        self.depth: QueueDepth | None = None

    async def refresh(self) -> None:
        """Ask again, unless it was asked just now; an outage makes it unknown."""
        now = time.monotonic()
        if now - self._asked_at < DEPTH_SECONDS:
            return
        self._asked_at = now
        try:
            async with asyncio.timeout(LONGEST_DEPTH_SECONDS):
                self.depth = await read_queue_depth(self._database)
        except (SQLAlchemyError, OSError):  # a TimeoutError is an OSError
            self.depth = None


class GraphQLCounts(Collector):
    """Shows how GraphQL operations were executed."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @override
    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        counts = self._operations.counts
        compiled = CounterMetricFamily(
            "gero_graphql_compiled",
            "GraphQL operations that the compiled executor was given, by plan.",
            labels=["plan"],
        )
        compiled.add_metric(["cached"], counts.get(CACHED, 0))
        compiled.add_metric(["new"], counts.get(COMPILED, 0))
        yield compiled
        fallbacks = CounterMetricFamily(
            "gero_graphql_fallbacks",
            "GraphQL operations that were left to graphql-core, by reason.",
            labels=["reason"],
        )
        for reason in sorted(set(counts) - {CACHED, COMPILED}):
            fallbacks.add_metric([reason], counts[reason])
        yield fallbacks


class PresentState(Collector):
    """Shows what is so at the moment of the scrape.

    Args:
        process: Whose state it is.
        known_depth: Of the queue of jobs.
    """

    def __init__(self, process: Process, known_depth: KnownDepth) -> None:
        self._process = process
        self._known_depth = known_depth

    @override
    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        process = self._process
        yield GaugeMetricFamily(
            "gero_http_requests_in_flight",
            "Requests that are being served.",
            process.meters.requests.in_flight,
        )
        yield GaugeMetricFamily(
            "gero_inferences_in_flight",
            "Calls of production that are under way or not yet stored.",
            process.services.admission.count,
        )
        yield from self._collect_pools()
        waiting = GaugeMetricFamily(
            "gero_commit_waiting", "Items that wait for a transaction to share.", labels=["store"]
        )
        for store, commits in process.commits.items():
            waiting.add_metric([store], commits.waiting_count)
        yield waiting
        yield GaugeMetricFamily(
            "gero_circuits_open",
            "Endpoints that are left alone, since they failed many times in a row.",
            process.services.health.open_count,
        )
        yield GaugeMetricFamily(
            "gero_change_feed_connected",
            "1 while every change is heard of, so that what is served may come from memory.",
            int(process.changes.is_live()),
        )
        jobs = GaugeMetricFamily(
            "gero_jobs_unfinished",
            "Jobs that wait (queued) or are worked on (running), of all workers together.",
            labels=["state"],
        )
        depth = self._known_depth.depth
        if depth is not None:
            jobs.add_metric(["queued"], depth.queued)
            jobs.add_metric(["running"], depth.running)
        yield jobs

    def _collect_pools(self) -> Iterable[Metric]:
        in_use = GaugeMetricFamily(
            "gero_database_connections_in_use", "Connections that somebody holds.", labels=["pool"]
        )
        waiting = GaugeMetricFamily(
            "gero_database_connections_waiting", "Callers that want one.", labels=["pool"]
        )
        requests, background = self._process.database, self._process.background_database
        for pool, use in (
            ("requests", requests.session_pool),
            ("requests_records", requests.record_pool),
            ("background", background.session_pool),
            ("background_records", background.record_pool),
        ):
            in_use.add_metric([pool], use.in_use)
            waiting.add_metric([pool], use.waiting)
        yield in_use
        yield waiting


class Metrics:
    """Everything that operators are shown of a process.

    Args:
        process: What is shown.
        operations: What executes GraphQL, where anything does.

    Attributes:
        vitals: Of the interpreter.
    """

    def __init__(self, process: Process, operations: Operations | None = None) -> None:
        self._counted = process.meters.registry
        self._looked_at = CollectorRegistry()
        self._known_depth = KnownDepth(process.background_database)
        self.vitals = Vitals(self._looked_at)
        ProcessCollector(registry=self._looked_at)
        self._looked_at.register(PresentState(process, self._known_depth))
        if operations is not None:
            self._looked_at.register(GraphQLCounts(operations))

    async def read(self) -> bytes:
        """Return the metrics as text.

        Source: https://prometheus.io/docs/instrumenting/exposition_formats/
        """
        await self._known_depth.refresh()
        return generate_latest(self._counted) + generate_latest(self._looked_at)


def serve_metrics(app: FastAPI, metrics: Metrics) -> None:
    """Register the route on *app*."""

    @app.get(
        "/metrics",
        name="metrics",
        operation_id="metrics",
        tags=["health"],
        response_class=MetricsResponse,
        dependencies=[Depends(demand_operator)],
        responses={200: {"content": {TEXT_FORMAT: {"schema": {"type": "string"}}}}},
    )
    async def show() -> MetricsResponse:
        """Return what this process has counted, in Prometheus's text format."""
        return MetricsResponse(await metrics.read())


def create_worker_app(settings: Settings, process: Process) -> FastAPI:
    """Build what a worker serves: nothing but its metrics."""
    metrics = Metrics(process)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with metrics.vitals.measuring():
            yield

    app = FastAPI(
        title="Gero worker",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=NO_TELEMETRY,
    )
    app.state.cron_secret = settings.operator_secret
    problems.install(app)
    serve_metrics(app, metrics)
    return app
