"""What a process counts as it works, as Prometheus's metrics and, where it is wanted, as spans.

Every label's values come from a closed set: a path, a model or a name is never one.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, get_args

from prometheus_client import CollectorRegistry, disable_created_metrics
from typing_extensions import override

from app.logs import current_request_id
from app.tallies import Counters, Distribution, Histograms, Tally
from db.session import Database
from providers.base import ChatAnswer, ChatTarget, ProviderError
from resolvers.group_commit import GroupCommit
from resolvers.inputs.candidate import NewCandidate
from resolvers.meters import CallMeter, CallSource, JobAttempt, Meters, Refusal

if TYPE_CHECKING:
    from app.tracing import Tracing

OTHER: Final = "other"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PROVIDERS: Final = frozenset(get_args(NewCandidate.model_fields["provider"].annotation))
VERBS: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "SET", "COPY"})
VERB: Final = re.compile(r"\s*([A-Za-z]+)")
# Statements whose operation is remembered: most are run again and again.
LOOKED_THROUGH: Final = 256
# What a statement that begins with WITH does beside reading.
WRITE_WITHIN: Final = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM|MERGE INTO)\b", re.IGNORECASE)

# When each series began is told of every one of them; Prometheus needs it of none.
disable_created_metrics()  # type: ignore[no-untyped-call]

REQUEST_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
)  # fmt: skip
CALL_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600)
STATEMENT_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10)
BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200)
JOB_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800)


def operation_of(sql: str) -> str:
    """Return what a statement does: one of `VERBS`, or "OTHER"."""
    return "SELECT" if sql.startswith("SELECT") else _find_operation(sql)


@lru_cache(maxsize=LOOKED_THROUGH)
def _find_operation(sql: str) -> str:
    found = VERB.match(sql)
    verb = found[1].upper() if found else ""
    if verb == "WITH":
        within = WRITE_WITHIN.search(sql)
        verb = within[1].partition(" ")[0].upper() if within else "SELECT"
    return verb if verb in VERBS else "OTHER"


class RequestMeter:
    """Counts requests, and those that are being served.

    Attributes:
        in_flight: How many are.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.in_flight = 0
        self._requests = Counters(
            "gero_http_requests",
            "Requests that were answered, or whose client left.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histograms(
            "gero_http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ["route", "method"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        # Finding a label's child each time would cost more than counting.
        self._children: dict[tuple[str, str, int], tuple[Tally, Distribution]] = {}

    def ended(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note that a request was answered.

        Args:
            route: The template of its route; never its path.
            method: As it was sent.
            status: Of the answer.
            seconds: How long it took.
        """
        key = (route, method if method in METHODS else OTHER, status)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = (
                self._requests.labels(route, key[1], f"{status // 100}xx"),
                self._seconds.labels(route, key[1]),
            )
        children[0].inc()
        children[1].observe(seconds)


class ModelMetrics:
    """The metrics of model calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["source", "provider"]
        self.calls = Counters(
            "gero_model_calls",
            "Times that a model was asked; outcome is ok, or why it failed.",
            [*labels, "outcome"],
            registry=registry,
        )
        self.seconds = Histograms(
            "gero_model_call_duration_seconds",
            "From a model's request to the end of its answer, or to its failure.",
            labels,
            buckets=CALL_BUCKETS,
            registry=registry,
        )
        self.first_byte_seconds = Histograms(
            "gero_model_first_byte_seconds",
            "From a model's request to the first byte of its answer.",
            labels,
            buckets=CALL_BUCKETS,
            registry=registry,
        )
        self.tokens = Counters(
            "gero_model_tokens",
            "Tokens that models said they read (input) and wrote (output).",
            [*labels, "direction"],
            registry=registry,
        )
        self.cost_usd = Counters(
            "gero_model_cost_usd",
            "US dollars that answers cost, where that is known; traces have the exact amounts.",
            labels,
            registry=registry,
        )


class SourceMeter(CallMeter):
    """Counts the calls that one source makes."""

    def __init__(
        self, source: CallSource, metrics: ModelMetrics, tracing: "Tracing | None"
    ) -> None:
        self._source = source
        self._metrics = metrics
        self._tracing = tracing
        self._outcomes: dict[tuple[str, str], Tally] = {}
        self._answers: dict[str, _AnswerChildren] = {}

    @override
    def note(
        self,
        target: ChatTarget,
        answer: ChatAnswer | None,
        error: ProviderError | None,
        seconds: float | None,
        first_byte_seconds: float | None = None,
    ) -> None:
        """Note that *target* was asked; see `CallMeter`."""
        provider = target.provider if target.provider in PROVIDERS else OTHER
        key = (provider, "ok" if error is None else error.code)
        counter = self._outcomes.get(key)
        if counter is None:
            counter = self._metrics.calls.labels(self._source, *key)
            self._outcomes[key] = counter
        counter.inc()
        if seconds is None:
            return
        children = self._answers.get(provider)
        if children is None:
            children = _AnswerChildren(self._metrics, self._source, provider)
            self._answers[provider] = children
        children.note(answer, seconds, first_byte_seconds)
        if self._tracing is not None:
            self._tracing.note_call(target, answer, error, seconds)


class _AnswerChildren:
    """The metrics of one source's calls of one provider."""

    def __init__(self, metrics: ModelMetrics, source: CallSource, provider: str) -> None:
        self._seconds = metrics.seconds.labels(source, provider)
        self._first_byte_seconds = metrics.first_byte_seconds.labels(source, provider)
        self._input_tokens = metrics.tokens.labels(source, provider, "input")
        self._output_tokens = metrics.tokens.labels(source, provider, "output")
        self._cost_usd = metrics.cost_usd.labels(source, provider)

    def note(
        self, answer: ChatAnswer | None, seconds: float, first_byte_seconds: float | None
    ) -> None:
        self._seconds.observe(seconds)
        if first_byte_seconds is not None:
            self._first_byte_seconds.observe(first_byte_seconds)
        if answer is None:
            return
        if answer.prompt_tokens is not None:
            self._input_tokens.inc(answer.prompt_tokens)
        if answer.completion_tokens is not None:
            self._output_tokens.inc(answer.completion_tokens)
        if answer.cost_usd:
            self._cost_usd.inc(float(answer.cost_usd))


class PrometheusMeters(Meters):
    """Counts what a process does.

    Args:
        tracing: Where a span of it goes; None makes none.

    Attributes:
        registry: What operators are shown.
        requests: Counts HTTP requests.
        tracing: As given.
    """

    def __init__(self, tracing: "Tracing | None" = None) -> None:
        self.registry = CollectorRegistry()
        self.tracing = tracing
        self.requests = RequestMeter(self.registry)
        models = ModelMetrics(self.registry)
        self._calls = {source: SourceMeter(source, models, tracing) for source in CallSource}
        refusals = Counters(
            "gero_refusals",
            "Calls that were refused by a budget, a run's ceiling or a rate limit.",
            ["reason"],
            registry=self.registry,
        )
        self._refusals = {reason: refusals.labels(reason) for reason in Refusal}
        statements = Histograms(
            "gero_database_statement_duration_seconds",
            "From a statement to its result.",
            ["kind"],
            buckets=STATEMENT_BUCKETS,
            registry=self.registry,
        )
        self._reads, self._writes = statements.labels("read"), statements.labels("write")
        self._commit_items = Histograms(
            "gero_commit_items",
            "Items that shared a transaction.",
            ["store"],
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._commit_seconds = Histograms(
            "gero_commit_duration_seconds",
            "How long such a transaction took.",
            ["store"],
            buckets=STATEMENT_BUCKETS,
            registry=self.registry,
        )
        self._jobs = Counters(
            "gero_jobs",
            "Attempts at jobs; one that is retried is made again.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self._job_seconds = Histograms(
            "gero_job_duration_seconds",
            "How long an attempt at a job took.",
            ["kind"],
            buckets=JOB_BUCKETS,
            registry=self.registry,
        )

    @override
    def calls(self, source: CallSource) -> CallMeter:
        """Return what counts the calls that *source* makes."""
        return self._calls[source]

    @override
    def refused(self, reason: Refusal) -> None:
        """Note that a call was refused."""
        self._refusals[reason].inc()

    @override
    @contextmanager
    def job(self, kind: str, request_id: str) -> Iterator[JobAttempt]:
        """Time an attempt at a job while the block runs; see `Meters`."""
        attempt = JobAttempt()
        span = nullcontext() if self.tracing is None else self.tracing.job(kind, attempt)
        before = current_request_id.set(request_id)
        began = time.perf_counter()
        try:
            with span:
                yield attempt
        finally:
            self._jobs.labels(kind, attempt.outcome).inc()
            self._job_seconds.labels(kind).observe(time.perf_counter() - began)
            current_request_id.reset(before)

    def watch_database(self, database: Database) -> None:
        """Count the statements of *database*."""
        database.watchers.append(self._note_statement)

    def _note_statement(self, sql: str, seconds: float) -> None:
        operation = operation_of(sql)
        (self._reads if operation == "SELECT" else self._writes).observe(seconds)
        if self.tracing is not None:
            self.tracing.note_statement(operation, seconds)

    def watch_commits(self, store: str, commits: GroupCommit[Any]) -> None:
        """Count the batches of *commits*.

        Args:
            store: What they store; one of a few names, written in the code.
            commits: Watched from now on.
        """
        items = self._commit_items.labels(store)
        durations = self._commit_seconds.labels(store)

        def note(count: int, seconds: float) -> None:
            items.observe(count)
            durations.observe(seconds)

        commits.watchers.append(note)
