"""Leaving an endpoint alone: while it asks for that, and after it has failed many times in a row.

What one process learns the others heed within a second or so.

Source: M. Nygard, "Release It!", 2nd edition (2018), chapter 5, for the circuit breaker.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Executable, case, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from db.models import ProviderState
from db.session import Database
from providers.base import ChatTarget, ProviderError, ProviderErrorCode
from resolvers.failures import describe, is_outage
from resolvers.redactors import Redactors
from resolvers.waiting import wait_for_event

log = logging.getLogger("gero.calls")

READ_SECONDS = 1.0
# Who asks for a longer pause is not waited for: calls fail at once until it is over.
LONGEST_PAUSE_SECONDS = 60.0
# And a pause is over after a day, whatever was asked for.
LONGEST_CLOSED_SECONDS = 86_400.0
# What has not been heard of for so long is no news of an endpoint.
REMEMBERED = timedelta(minutes=10)
# Before the names of circuits of calls that serve.
SERVING = "serving"
# After these the endpoint itself is in trouble, not the request.
TROUBLE = {
    ProviderErrorCode.CONNECTION_FAILED,
    ProviderErrorCode.CONNECTION_LOST,
    ProviderErrorCode.TIMED_OUT,
    ProviderErrorCode.SERVER_ERROR,
}


@dataclass(frozen=True, slots=True)
class CircuitRule:
    """When an endpoint's circuit opens, and for how long.

    Attributes:
        failures: In a row, which open it.
        first_open_seconds: How long it is open the first time; then twice as long each time.
        longest_open_seconds: At most.
        patient_openings: After so many in a row it is not waited for any longer: calls fail at
            once until it is asked again.
    """

    failures: int = 10
    first_open_seconds: float = 5.0
    longest_open_seconds: float = 40.0
    patient_openings: int = 3


@dataclass(slots=True)
class _Endpoint:
    """What is known of one endpoint.

    Attributes:
        closed_until: By the monotonic clock; nobody calls it before.
        failures: In a row.
        openings: How often in a row its circuit has opened.
        probed_until: By that clock; somebody is finding out whether it works again.
        prober: Who that is.
    """

    closed_until: float = 0.0
    failures: int = 0
    openings: int = 0
    probed_until: float = 0.0
    prober: "asyncio.Task[Any] | None" = None
    reason: str = ""

    def probe(self, seconds: float) -> None:
        """Have the running task find out, within *seconds*, whether the endpoint works again."""
        self.probed_until = time.monotonic() + seconds
        self.prober = asyncio.current_task()


def endpoints_of(target: ChatTarget, *, serves: bool) -> tuple[str, str]:
    """Return whose pause a call heeds, and whose circuit.

    Accounts are limited as a whole, and the models behind an endpoint fail one by one. Calls that
    serve have circuits of their own: what runs, labels and judges do to a model is no reason to
    refuse somebody who waits for it.

    Args:
        target: Who is called.
        serves: Whether somebody waits for the answer.
    """
    account = target.url or target.provider
    circuit = account if target.model_id is None else f"{account} {target.model_id}"
    return account, f"{SERVING} {circuit}" if serves else circuit


def _shown(endpoint: str) -> str:
    """Return *endpoint* as the log shows it: what follows a path may be a credential."""
    return endpoint.partition("?")[0].partition("#")[0]


class EndpointHealth:
    """What is known of the endpoint that a call goes to."""

    def __init__(
        self,
        health: "ProviderHealth",
        workspace_id: UUID,
        target: ChatTarget,
        stopped: asyncio.Event | None,
        *,
        serves: bool,
    ) -> None:
        self._health = health
        self._workspace_id = workspace_id
        self._target = target
        self._stopped = stopped
        self._serves = serves

    def is_clear(self) -> bool:
        """Tell whether nothing is known that speaks against calling it."""
        return self._health.is_clear(self._workspace_id, self._target, serves=self._serves)

    async def wait(self) -> None:
        """Wait until it may be called; see `ProviderHealth.wait`, and `check` for who serves."""
        if self.is_clear():
            return
        if self._serves:
            await self._health.check(self._workspace_id, self._target)
        else:
            await self._health.wait(self._workspace_id, self._target, self._stopped)

    async def note(self, error: ProviderError | None) -> None:
        """Note how a call of it ended."""
        await self._health.note(self._workspace_id, self._target, error, serves=self._serves)

    async def note_begun(self) -> None:
        """Note that the answer of a call has begun, which an open circuit waits for."""
        if self._health.is_open(self._workspace_id, self._target, serves=self._serves):
            await self.note(None)

    def leave(self) -> None:
        """Let somebody else find out whether it works again: a call of it was given up."""
        self._health.leave(self._workspace_id, self._target, serves=self._serves)


class ProviderHealth:
    """Knows which endpoints are to be left alone, for a process and from the others.

    Args:
        database: Where processes tell each other.
        redactors: What takes out of what endpoints say, which quote what they are sent.
        rule: When a circuit opens.
    """

    def __init__(
        self, database: Database, redactors: Redactors, rule: CircuitRule | None = None
    ) -> None:
        self._database = database
        self._redactors = redactors
        self._rule = rule or CircuitRule()
        self._endpoints: dict[tuple[UUID, str], _Endpoint] = {}
        self._read_at: dict[UUID, float] = {}

    def of(
        self,
        workspace_id: UUID,
        target: ChatTarget,
        stopped: asyncio.Event | None = None,
        *,
        serves: bool = False,
    ) -> EndpointHealth:
        """Return what is known of *target*.

        Args:
            workspace_id: Whose calls.
            target: Who is called.
            stopped: Who waits for the endpoint waits no longer once this is set.
            serves: Somebody waits for the answer: calling one whose circuit is open fails at once,
                and what it asked others to leave it alone for is not heeded.
        """
        return EndpointHealth(self, workspace_id, target, stopped, serves=serves)

    def is_clear(self, workspace_id: UUID, target: ChatTarget, *, serves: bool) -> bool:
        """Tell whether *target* may be called, as far as is known without asking."""
        age = time.monotonic() - self._read_at.get(workspace_id, float("-inf"))
        known = self._endpoints
        if age >= READ_SECONDS or not known:
            return age < READ_SECONDS
        account, circuit = endpoints_of(target, serves=serves)
        is_paused = not serves and (workspace_id, account) in known
        return not is_paused and (workspace_id, circuit) not in known

    def is_open(self, workspace_id: UUID, target: ChatTarget, *, serves: bool) -> bool:
        """Tell whether the circuit of *target* is open, as far as is known without asking."""
        known = self._endpoints.get((workspace_id, endpoints_of(target, serves=serves)[1]))
        return known is not None and known.openings > 0

    def leave(self, workspace_id: UUID, target: ChatTarget, *, serves: bool) -> None:
        """Note that this task gives a call of *target* up before anything is known of its end."""
        known = self._endpoints.get((workspace_id, endpoints_of(target, serves=serves)[1]))
        if known is not None and known.prober is asyncio.current_task():
            known.probed_until, known.prober = 0.0, None

    @property
    def open_count(self) -> int:
        """How many circuits are open, as far as this process knows."""
        now = time.monotonic()
        known = self._endpoints.values()
        return sum(1 for each in known if each.openings and each.closed_until > now)

    def _endpoint(self, workspace_id: UUID, name: str) -> _Endpoint:
        return self._endpoints.setdefault((workspace_id, name), _Endpoint())

    async def wait(
        self, workspace_id: UUID, target: ChatTarget, stopped: asyncio.Event | None = None
    ) -> None:
        """Wait until *target* may be called, or *stopped* is set.

        Raises:
            ProviderError: There is no use in waiting: it asked for a long pause, or its circuit
                has been open for long.
        """
        pause, circuit = endpoints_of(target, serves=False)
        while stopped is None or not stopped.is_set():
            await self._read(workspace_id)
            closed = self._endpoints.get((workspace_id, circuit), _Endpoint())
            now = time.monotonic()
            if closed.openings >= self._rule.patient_openings and closed.closed_until > now:
                raise ProviderError(
                    ProviderErrorCode.CIRCUIT_OPEN,
                    f"it failed {closed.failures} times in a row ({closed.reason}), and is asked "
                    f"again in {closed.closed_until - now:.0f} s",
                )
            paused = self._endpoints.get((workspace_id, pause), _Endpoint())
            seconds = paused.closed_until - now
            if seconds > LONGEST_PAUSE_SECONDS:
                raise ProviderError(
                    ProviderErrorCode.RATE_LIMITED,
                    f"it asked to be left alone for another {seconds:.0f} s",
                )
            seconds = max(seconds, closed.closed_until - now)
            if seconds <= 0 and closed.probed_until < now:
                # Of those who wait for an open circuit, one goes first.
                if closed.openings:
                    closed.probe(target.timeout_seconds)
                return
            await wait_for_event(stopped, min(max(seconds, 0.05), READ_SECONDS))

    async def check(self, workspace_id: UUID, target: ChatTarget) -> None:
        """Check that *target* may be called at this moment, for somebody who waits.

        Raises:
            ProviderError: Its circuit is open; it says for how long.
        """
        _, circuit = endpoints_of(target, serves=True)
        await self._read(workspace_id)
        closed = self._endpoints.get((workspace_id, circuit))
        if closed is None or not closed.openings:
            return
        now = time.monotonic()
        seconds = closed.closed_until - now
        if seconds > 0 or closed.probed_until >= now:
            raise ProviderError(
                ProviderErrorCode.CIRCUIT_OPEN,
                f"it failed {closed.failures} times in a row ({closed.reason}), and is left alone",
                retry_after_seconds=max(seconds, READ_SECONDS),
            )
        closed.probe(target.timeout_seconds)  # one call finds out whether it works again

    async def note(
        self,
        workspace_id: UUID,
        target: ChatTarget,
        error: ProviderError | None,
        *,
        serves: bool = False,
    ) -> None:
        """Note how a call of *target* ended."""
        pause, circuit = endpoints_of(target, serves=serves)
        if error is None and (workspace_id, circuit) not in self._endpoints:
            return
        known = self._endpoint(workspace_id, circuit)
        known.probed_until, known.prober = 0.0, None
        if error is not None and error.retry_after_seconds:
            await self._pause(workspace_id, pause, error, error.retry_after_seconds)
        if error is None or error.code not in TROUBLE:
            if known.openings:
                log.warning("%s answers again", _shown(circuit))
                await self._reset(workspace_id, circuit)
            if known.closed_until < time.monotonic():
                self._endpoints.pop((workspace_id, circuit), None)
            known.failures = known.openings = 0
            return
        known.failures += 1
        known.reason = await self._said(workspace_id, error.summary)
        # Once open, it has to succeed to be trusted again.
        if known.openings or known.failures >= self._rule.failures:
            await self._open(workspace_id, circuit, known)

    async def _pause(
        self, workspace_id: UUID, name: str, error: ProviderError, seconds: float
    ) -> None:
        """Let no background call go to an account for a while; of many who are told, one tells."""
        seconds = min(seconds, LONGEST_CLOSED_SECONDS)
        known = self._endpoints.get((workspace_id, name))
        until = time.monotonic() + seconds
        if known is not None and known.closed_until > until - READ_SECONDS:
            return
        said = await self._said(workspace_id, str(error))
        await self._close(workspace_id, name, seconds, f"it asked for that: {said}")

    async def _said(self, workspace_id: UUID, text: str) -> str:
        """Return what an endpoint said as it may be stored."""
        try:
            return await self._redactors.redact_text(workspace_id, text) or ""
        except (SQLAlchemyError, asyncpg.PostgresError, OSError) as failure:
            if not is_outage(failure):
                raise
            return "what it said may not be told while the database is away"

    async def _open(self, workspace_id: UUID, name: str, known: _Endpoint) -> None:
        if known.closed_until > time.monotonic():
            return  # by one of the calls that were under way with this one
        rule = self._rule
        seconds = min(rule.first_open_seconds * 2**known.openings, rule.longest_open_seconds)
        known.openings += 1
        log.warning(
            "the circuit of %s is open for %.0f s: it failed %d times in a row, at last with %s",
            _shown(name), seconds, known.failures, known.reason.partition(":")[0],
        )  # fmt: skip
        await self._close(workspace_id, name, seconds, known.reason, known.failures, known.openings)

    async def _close(
        self,
        workspace_id: UUID,
        name: str,
        seconds: float,
        reason: str,
        failures: int = 0,
        openings: int = 0,
    ) -> None:
        """Let nobody call an endpoint for a while, in any process."""
        known = self._endpoint(workspace_id, name)
        known.closed_until = max(known.closed_until, time.monotonic() + seconds)
        values = {
            "workspace_id": workspace_id,
            "endpoint": name,
            "closed_until": datetime.now(UTC) + timedelta(seconds=seconds),
            "failures": failures,
            "openings": openings,
            "reason": reason,
            "updated_at": datetime.now(UTC),
        }
        statement = insert(ProviderState).values(values)
        await self._tell(
            statement.on_conflict_do_update(
                index_elements=["workspace_id", "endpoint"],
                set_={
                    **{name: values[name] for name in ("failures", "openings", "reason")},
                    "updated_at": values["updated_at"],
                    "closed_until": func.greatest(
                        ProviderState.closed_until, statement.excluded.closed_until
                    ),
                },
            )
        )

    async def _reset(self, workspace_id: UUID, name: str) -> None:
        await self._tell(
            delete(ProviderState).where(
                ProviderState.workspace_id == workspace_id, ProviderState.endpoint == name
            )
        )

    async def _tell(self, statement: Executable) -> None:
        try:
            async with self._database.write() as session:
                await session.execute(statement)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if not is_outage(error):
                raise
            log.warning("the other processes are not told of a provider: %s", describe(error))

    async def _read(self, workspace_id: UUID) -> None:
        """Learn what other processes know, not more often than is of use."""
        now = time.monotonic()
        if now - self._read_at.get(workspace_id, float("-inf")) < READ_SECONDS:
            return
        self._read_at[workspace_id] = now
        seconds_left = func.extract("epoch", ProviderState.closed_until - func.now())
        statement = select(ProviderState, case((seconds_left > 0, seconds_left), else_=0)).where(
            ProviderState.workspace_id == workspace_id,
            ProviderState.updated_at > func.now() - REMEMBERED,
        )
        try:
            async with self._database.read() as session:
                rows = (await session.execute(statement)).all()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if not is_outage(error):
                raise
            return
        for state, seconds in rows:
            known = self._endpoint(workspace_id, state.endpoint)
            known.closed_until = max(known.closed_until, now + float(seconds))
            known.openings = max(known.openings, state.openings)
            known.failures = max(known.failures, state.failures)
            known.reason = known.reason or state.reason
