"""What one request carries, and the process-wide services it borrows."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from db.base import first_id_at
from db.listening import Listener
from db.session import Database, WriteSession
from providers.base import ChatProvider, DatasetHub, ModelCatalogue
from providers.objects import ObjectStore
from providers.vault import Vault
from resolvers.admission import Admission
from resolvers.auth import SYSTEM, Principal, demand
from resolvers.call_gate import CallGate
from resolvers.errors import UnauthenticatedError
from resolvers.group_commit import GroupCommit
from resolvers.loaders.base import Loaders
from resolvers.meters import Meters
from resolvers.model_calls import CallResult
from resolvers.provider_health import ProviderHealth
from resolvers.redactors import Redactors
from resolvers.runs_under_way import RunsUnderWay
from resolvers.single_flight import SingleFlight
from resolvers.snapshot_work import SnapshotWork
from resolvers.trace_storage import TraceStore

if TYPE_CHECKING:
    from resolvers.budget_leases import BudgetLeases
    from resolvers.call_storage import EndedCall
    from resolvers.label_storage import RowReply
    from resolvers.push import Push
    from resolvers.reservations import Reservation
    from resolvers.serving import ServingBoards
    from resolvers.shadow_calls import ShadowCalls
    from resolvers.span_intake import SpanRoom
    from resolvers.trace_intake import TraceBatch


class JobQueue(Protocol):
    """Where a use case leaves work for later."""

    async def enqueue(
        self,
        session: WriteSession,
        kind: str,
        *,
        workspace_id: UUID,
        subject_id: UUID,
        arguments: Sequence[dict[str, Any]],
    ) -> None:
        """Queue a job for each of *arguments* in *session*'s own transaction.

        They exist if and only if that commits.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds a deployment sets; `app/settings.py` says what each is for."""

    dataset_max_bytes: int
    dataset_max_rows: int
    hold_seconds: int
    default_max_tokens: int
    budget_wait_seconds: float
    answer_first: bool
    idempotency_claim_seconds: int
    judge_models: Sequence[str]
    push_max_row_bytes: int
    push_rows_before_models: int
    trace_retention_days: int
    otlp_max_bytes: int
    otlp_max_spans: int


@dataclass(frozen=True, slots=True)
class Services:
    """Built once by the process, shared by its requests."""

    database: Database
    queue: JobQueue
    vault: Vault
    chat: ChatProvider
    catalogue: ModelCatalogue
    hub: DatasetHub
    boards: "ServingBoards"
    admission: Admission
    door: Admission
    reservations: GroupCommit["Reservation"]
    leases: "BudgetLeases"
    calls: GroupCommit["EndedCall"]
    shadow_calls: "ShadowCalls"
    gate: CallGate
    redactors: Redactors
    traces: TraceStore
    trace_batches: GroupCommit["TraceBatch"]
    span_room: "SpanRoom"
    health: ProviderHealth
    runs_under_way: RunsUnderWay
    run_results: GroupCommit[CallResult]
    run_changes: Listener
    job_changes: Listener
    label_replies: GroupCommit["RowReply"]
    pushes: GroupCommit["Push"]
    objects: ObjectStore
    snapshot_work: SnapshotWork
    verdicts_under_way: SingleFlight[tuple[UUID, bytes], Any]
    meters: Meters
    limits: Limits


@dataclass(slots=True)
class Context:
    """Per-request dependencies; built by the edge, never stored."""

    services: Services
    caller: Principal | None
    request_id: str
    _loaders: Loaders | None = field(init=False, default=None)

    @property
    def loaders(self) -> Loaders:
        """What reads rows for all who ask in this request at once."""
        if self._loaders is None:
            workspace_id = self.caller.workspace_id if self.caller else None
            self._loaders = Loaders(self.services.database, workspace_id, self.oldest_trace_id)
        return self._loaders

    def forget(self) -> None:
        """Forget what the loaders have read."""
        self._loaders = None

    def within(self, workspace_id: UUID) -> "Context":
        """Return the context of the system's own work within a workspace."""
        demand(self, SYSTEM)
        return replace(self, caller=replace(self.principal, workspace_id=workspace_id))

    @property
    def database(self) -> Database:
        """Where rows live."""
        return self.services.database

    @property
    def principal(self) -> Principal:
        """The caller of a guarded use case."""
        if self.caller is None:
            raise UnauthenticatedError("no credential")
        return self.caller

    @property
    def workspace_id(self) -> UUID:
        """The workspace every row of this request belongs to."""
        return self.principal.workspace_id

    @property
    def trace_retention_days(self) -> int:
        """How long the workspace's traces are kept."""
        own = self.caller.trace_retention_days if self.caller else None
        most = self.services.limits.trace_retention_days
        return most if own is None else min(own, most)

    @property
    def oldest_trace_id(self) -> UUID:
        """The lower bound of the ids of traces that are not older than they are kept."""
        return first_id_at(datetime.now(UTC) - timedelta(days=self.trace_retention_days))

    @property
    def trace_values(self) -> dict[str, Any]:
        """The parameters of `own_traces`."""
        return {"workspace_id": self.workspace_id, "oldest_trace_id": self.oldest_trace_id}
