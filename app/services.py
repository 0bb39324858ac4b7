"""Builds what a process shares among its requests, from the settings."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from app.meters import PrometheusMeters
from app.settings import Settings
from db.changes import ChangeFeed
from db.listening import Listener
from db.session import Database, open_database
from db.writing import StatementWriter
from jobs.queue import PgJobQueue
from providers.chat import HttpChatProvider
from providers.http import HttpClient
from providers.huggingface import HuggingFaceHub
from providers.object_store import open_object_store
from providers.openrouter import OpenRouterCatalogue
from providers.vault import Vault
from resolvers.admission import Admission
from resolvers.auth import SYSTEM_PRINCIPAL
from resolvers.budget_leases import BudgetLeases
from resolvers.call_gate import CallGate
from resolvers.call_storage import EndedCall, store_calls
from resolvers.context import Context, Limits, Services
from resolvers.credentials import Authenticator, SessionVerifier
from resolvers.group_commit import GroupCommit
from resolvers.label_lifecycle import JOB_CHANNEL
from resolvers.label_storage import store_replies
from resolvers.loaders.base import NO_WORKSPACE
from resolvers.meters import Refusal
from resolvers.provider_health import ProviderHealth
from resolvers.push import Push
from resolvers.push_storage import store_pushes
from resolvers.redactors import Redactors
from resolvers.reservations import Reservation, store_reservations
from resolvers.run_lifecycle import RUN_CHANNEL
from resolvers.run_storage import store_call_results
from resolvers.runs_under_way import RunsUnderWay
from resolvers.serving import ServingBoards
from resolvers.shadow_calls import ShadowCalls
from resolvers.single_flight import SingleFlight
from resolvers.snapshot_work import SnapshotWork
from resolvers.span_intake import SpanRoom
from resolvers.trace_intake import TraceBatch, store_batches
from resolvers.trace_storage import TraceStore

if TYPE_CHECKING:
    from app.tracing import Tracing

log = logging.getLogger("gero")

# Results of runs, or labels, that are paid for and not yet stored; then no further call begins.
MAX_UNSTORED_RESULTS = 200

# Pushes that wait to be stored; the next ones wait to wait.
MAX_UNSTORED_PUSHES = 200
# Of pushes that share a transaction: a crowd of large ones would run out of time together.
MAX_PUSHED_BYTES = 1024 * 1024

# Calls of challengers under way, beside those of production.
MAX_SHADOW_CALLS = 100
# The same of traces that clients report.
MAX_UNSTORED_BATCHES = 200
MAX_BATCHED_BYTES = 1024 * 1024

# Ranking a long run reads all of its results in one statement.
BACKGROUND_ANSWER_SECONDS = 300.0
# A process that ends waits so long for its calls to be stored.
CLOSING_SECONDS = 5.0


class Process:
    """The services of one process, and how to end them.

    Attributes:
        database: For requests, which give up on a server that does not answer.
        background_database: For jobs and upkeep, which have more patience.
        services: What every request borrows.
        changes: Tells of changes that calls depend on, once it is started.
        writers: Store what is taken, and what is given back.
        tracing: Makes spans, if somebody collects them.
        meters: Count what is done.
        commits: The transactions that callers share, by what is stored.
        authenticator: Turns credentials into principals.
    """

    def __init__(self, settings: Settings) -> None:
        self._trusted = HttpClient(
            max_connections=settings.max_provider_connections, public_only=False
        )
        self._guarded = HttpClient(
            max_connections=settings.max_provider_connections,
            public_only=not settings.allow_private_endpoints,
        )
        self.database: Database = open_database(
            settings.database_url,
            pool_size=settings.database_pool_size,
            answer_timeout_seconds=settings.database_timeout_seconds,
        )
        self.background_database: Database = open_database(
            settings.database_url,
            pool_size=settings.database_pool_size,
            answer_timeout_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self.changes = ChangeFeed(settings.dsn)
        # One for what is taken, one for what is given back, one for what clients report and one for
        # what leases have spent, which don't wait for each other.
        self.writers = [
            StatementWriter(
                settings.database_url, answer_timeout_seconds=settings.database_timeout_seconds
            )
            for _ in range(4)
        ]
        self.tracing = _open_tracing(settings)
        self.meters = PrometheusMeters(self.tracing)
        self.services = self._services(settings)
        # A call of production has its place until it is stored.
        self.services.calls.watchers.append(lambda count, _: self.services.admission.leave(count))
        self.commits: dict[str, GroupCommit[Any]] = {
            "run_results": self.services.run_results,
            "label_replies": self.services.label_replies,
            "pushes": self.services.pushes,
            "reservations": self.services.reservations,
            "calls": self.services.calls,
        }
        for store, commits in self.commits.items():
            self.meters.watch_commits(store, commits)
        for database in (self.database, self.background_database):
            self.meters.watch_database(database)
        self.authenticator = Authenticator(self.database, _open_sessions(settings), self.changes)

    def _services(self, settings: Settings) -> Services:
        queue = PgJobQueue()
        redactors = Redactors(self.database, self.changes)
        traces = TraceStore(self.database, redactors)
        reservations = self._reservations(settings)
        return Services(
            database=self.database,
            queue=queue,
            vault=Vault(settings.vault_key),
            chat=self._chat(settings),
            catalogue=OpenRouterCatalogue(
                self._trusted,
                openrouter_url=settings.openrouter_url,
                sandbox_url=settings.sandbox_url,
            ),
            hub=self._hub(settings),
            boards=ServingBoards(self.changes),
            admission=self._admission(settings),
            door=self._admission(settings),
            reservations=reservations,
            leases=BudgetLeases(reservations, self.writers[3]),
            calls=self._calls(settings, traces),
            shadow_calls=ShadowCalls(MAX_SHADOW_CALLS),
            gate=CallGate(
                self.background_database,
                settings.run_concurrency,
                lease_seconds=settings.worker_timeout_seconds,
            ),
            redactors=redactors,
            traces=traces,
            trace_batches=self._trace_batches(traces),
            span_room=SpanRoom(),
            health=ProviderHealth(self.background_database, redactors),
            runs_under_way=RunsUnderWay(),
            run_results=GroupCommit(
                partial(store_call_results, self.database, traces, redactors),
                max_waiting=MAX_UNSTORED_RESULTS,
            ),
            label_replies=GroupCommit(
                partial(store_replies, self.database), max_waiting=MAX_UNSTORED_RESULTS
            ),
            verdicts_under_way=SingleFlight(),
            pushes=self._pushes(queue),
            objects=open_object_store(settings.object_store, options=settings.object_store_options),
            snapshot_work=SnapshotWork(connections=settings.database_pool_size),
            run_changes=Listener(settings.dsn, RUN_CHANNEL),
            job_changes=Listener(settings.dsn, JOB_CHANNEL),
            meters=self.meters,
            limits=_limits(settings),
        )

    def _admission(self, settings: Settings) -> Admission:
        note = partial(self.meters.refused, Refusal.CONCURRENCY)
        return Admission(settings.max_inferences, note_refusal=note)

    def _chat(self, settings: Settings) -> HttpChatProvider:
        return HttpChatProvider(
            trusted=self._trusted,
            guarded=self._guarded,
            openrouter_url=settings.openrouter_url,
            sandbox_url=settings.sandbox_url,
            allow_private_endpoints=settings.allow_private_endpoints,
            max_response_bytes=settings.max_provider_response_bytes,
        )

    def _hub(self, settings: Settings) -> HuggingFaceHub:
        return HuggingFaceHub(
            trusted=self._trusted,
            guarded=self._guarded,
            hub_url=settings.huggingface_url,
            sandbox_url=settings.sandbox_url,
            allow_private_endpoints=settings.allow_private_endpoints,
        )

    def _reservations(self, settings: Settings) -> GroupCommit[Reservation]:
        return GroupCommit(
            partial(store_reservations, self.writers[0]), max_waiting=settings.max_inferences
        )

    def _calls(self, settings: Settings, traces: TraceStore) -> GroupCommit[EndedCall]:
        return GroupCommit(
            partial(store_calls, self.writers[1], traces),
            max_waiting=settings.max_inferences,
            keeps=True,
        )

    def _trace_batches(self, traces: TraceStore) -> GroupCommit[TraceBatch]:
        return GroupCommit(
            partial(store_batches, self.writers[2], traces),
            max_waiting=MAX_UNSTORED_BATCHES,
            size_of=attrgetter("size_bytes"),
            max_batch_bytes=MAX_BATCHED_BYTES,
        )

    def _pushes(self, queue: PgJobQueue) -> GroupCommit[Push]:
        return GroupCommit(
            partial(store_pushes, self.database, queue),
            max_waiting=MAX_UNSTORED_PUSHES,
            size_of=attrgetter("size_bytes"),
            max_batch_bytes=MAX_PUSHED_BYTES,
        )

    def system_context(self, workspace_id: UUID | None = None) -> Context:
        """Return a context for the process's own work, within a workspace if one is given."""
        principal = replace(SYSTEM_PRINCIPAL, workspace_id=workspace_id or NO_WORKSPACE)
        services = replace(self.services, database=self.background_database)
        return Context(services, principal, request_id=f"job-{uuid4()}")

    async def aclose(self) -> None:
        """Close every connection, once the calls that have ended are stored."""
        await self.changes.aclose()
        await self._calls_stored()
        await self.services.shadow_calls.aclose()
        await self.services.leases.aclose()
        await self.services.gate.aclose()
        for writer in self.writers:
            await writer.aclose()
        await self._trusted.aclose()
        await self._guarded.aclose()
        await self.database.dispose()
        await self.background_database.dispose()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    async def _calls_stored(self) -> None:
        """Wait for calls that are on their way to be stored: they are paid for."""
        calls = self.services.admission
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await calls.until_empty()
        if calls.count > 0:
            log.error("%d calls could not be stored before the process ended", calls.count)


def _open_sessions(settings: Settings) -> SessionVerifier | None:
    if settings.jwt_secret is None:
        return None
    return SessionVerifier(
        secret=settings.jwt_secret.get_secret_value(),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )


def _open_tracing(settings: Settings) -> "Tracing | None":
    if settings.otlp_endpoint is None:
        return None
    # OpenTelemetry's SDK takes a third of a second to load; most servers do without it.
    made: Tracing = import_module("app.tracing").Tracing(
        settings.otlp_endpoint, settings.service_name
    )
    return made


def _limits(settings: Settings) -> Limits:
    return Limits(
        dataset_max_bytes=settings.dataset_max_bytes,
        dataset_max_rows=settings.dataset_max_rows,
        hold_seconds=settings.budget_hold_seconds,
        budget_wait_seconds=settings.budget_wait_seconds,
        answer_first=settings.answer_first,
        default_max_tokens=settings.budget_default_max_tokens,
        idempotency_claim_seconds=settings.idempotency_claim_seconds,
        judge_models=settings.judge_models,
        push_max_row_bytes=settings.push_max_row_bytes,
        push_rows_before_models=settings.push_rows_before_models,
        trace_retention_days=settings.trace_retention_days,
        otlp_max_bytes=settings.otlp_max_bytes,
        otlp_max_spans=settings.otlp_max_spans,
    )
