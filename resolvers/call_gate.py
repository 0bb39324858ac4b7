"""The limit of calls under way, held by all processes together: each leases a part of it."""

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from db.base import new_id
from db.models import ProviderLease
from db.session import Database, WriteSession
from resolvers.failures import is_outage
from resolvers.waiting import wait_for_event

log = logging.getLogger("gero.calls")

RENEWAL_SECONDS = 1.0
# A lease is renewed at least so often before it expires.
RENEWALS = 4
# A process that wants more than it holds asks no more often than this.
SHORTEST_RENEWAL_SECONDS = 0.05
# A process that has called nobody for so long gives its slots back.
IDLE_SECONDS = 3.0
# Held while leases of one workspace and provider are handed out, so that they never pass the limit.
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7240126))")
# A lease that a crash of the database loses is one that nobody has.
NO_SYNC = text("SET LOCAL synchronous_commit = off")

Key = tuple[UUID, str]


@dataclass(slots=True)
class _Share:
    """A process's part of one limit.

    Attributes:
        slots: How many calls it may have under way.
        in_use: How many it has.
        waiting: Who wants to begin another, the first come first.
        valid_until: By the monotonic clock; without a renewal nobody begins after it.
        used_at: When the last call began or ended, by that clock.
    """

    slots: int = 0
    in_use: int = 0
    waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)
    valid_until: float = 0.0
    used_at: float = 0.0
    wants_more: asyncio.Event = field(default_factory=asyncio.Event)
    renewing: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> int:
        """How many calls it could have under way."""
        return self.in_use + len(self.waiting)

    @property
    def may_admit(self) -> bool:
        """Whether another call may begin."""
        return self.in_use < self.slots and time.monotonic() < self.valid_until

    def admit(self) -> None:
        """Let those begin for whom there is a slot."""
        while self.waiting and self.may_admit:
            next_one = self.waiting.popleft()
            if not next_one.done():
                self.in_use += 1
                next_one.set_result(None)


class _Place:
    """A place behind the gate, while it is held."""

    __slots__ = ("_gate", "_key", "_share")

    def __init__(self, gate: "CallGate", key: Key, share: _Share) -> None:
        self._gate, self._key, self._share = gate, key, share

    async def __aenter__(self) -> None:
        await self._gate.enter(self._key, self._share)

    async def __aexit__(self, *_: object) -> None:
        share = self._share
        share.in_use -= 1
        share.used_at = time.monotonic()
        share.admit()


class CallGate:
    """Bounds the calls under way for each workspace and provider, over all processes.

    Args:
        database: Where leases are.
        width: Calls at once.
        lease_seconds: A process that is silent for so long has lost its part; it renews it far
            more often.
    """

    def __init__(self, database: Database, width: int, *, lease_seconds: float = 10.0) -> None:
        self._database = database
        self._width = width
        self._lease_seconds = lease_seconds
        self._holder = new_id()
        self._shares: dict[Key, _Share] = {}

    def of(self, workspace_id: UUID, provider: str) -> "_Place":
        """Return one of the calls that a workspace may have under way at a provider, to hold."""
        key = (workspace_id, provider)
        return _Place(self, key, self._shares.setdefault(key, _Share()))

    async def aclose(self) -> None:
        """Give every lease back; nobody may begin a call any more."""
        renewing = [share.renewing for share in self._shares.values() if share.renewing]
        for task in renewing:
            task.cancel()
        await asyncio.gather(*renewing, return_exceptions=True)
        if renewing:
            with suppress(SQLAlchemyError, OSError, TimeoutError):  # they expire by themselves
                async with self._database.write() as session:
                    await session.execute(
                        delete(ProviderLease).where(ProviderLease.holder == self._holder)
                    )

    async def enter(self, key: Key, share: _Share) -> None:
        """Wait for a place."""
        share.used_at = time.monotonic()
        if share.renewing is None or share.renewing.done():
            # It outlives the request or job that begins it.
            share.renewing = asyncio.create_task(self._renew(key, share), context=Context())
        if not share.waiting and share.may_admit:
            share.in_use += 1
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        share.waiting.append(admitted)
        share.admit()
        if not admitted.done() and share.slots < self._width:
            share.wants_more.set()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                share.in_use -= 1
                share.admit()
            raise

    async def _renew(self, key: Key, share: _Share) -> None:
        """Renew a lease for as long as it is used, and then give it back."""
        while True:
            while share.wanted or time.monotonic() - share.used_at < IDLE_SECONDS:
                await self._renew_once(key, share)
            share.slots = 0
            with suppress(SQLAlchemyError, OSError, TimeoutError):  # it expires by itself
                async with self._database.write() as session:
                    await session.execute(delete(ProviderLease).where(*self._own(key)))
            if not share.wanted:  # nobody has come meanwhile
                self._shares.pop(key, None)
                return

    async def _renew_once(self, key: Key, share: _Share) -> None:
        share.wants_more.clear()
        began = time.monotonic()
        try:
            share.slots = await self._lease(key, share)
            share.valid_until = began + self._lease_seconds
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if not is_outage(error):
                log.exception("the lease of %s can't be renewed", key[1])
        share.admit()
        await asyncio.sleep(SHORTEST_RENEWAL_SECONDS)
        renewal_seconds = min(RENEWAL_SECONDS, self._lease_seconds / RENEWALS)
        await wait_for_event(share.wants_more, renewal_seconds)

    def _own(self, key: Key) -> tuple[ColumnElement[bool], ...]:
        return (
            ProviderLease.workspace_id == key[0],
            ProviderLease.provider == key[1],
            ProviderLease.holder == self._holder,
        )

    async def _lease(self, key: Key, share: _Share) -> int:
        """Lease as much as is wanted and free, and no more than a fair part if others want."""
        async with self._database.write() as session:
            await session.execute(NO_SYNC)
            await session.execute(LOCK, {"name": f"{key[0]} {key[1]}"})
            others = await self._others(session, key)
            wanted = min(share.wanted, self._width)
            target = wanted
            if any(other.wanted > other.slots for other in others):
                target = min(wanted, max(self._width // (len(others) + 1), 1))
            granted: int = min(target, self._width - sum(other.slots for other in others))
            # Nobody begins above a smaller share from this moment on, and what is under way counts
            # until it has ended.
            share.slots = min(share.slots, granted)
            values = {
                "workspace_id": key[0],
                "provider": key[1],
                "holder": self._holder,
                "slots": max(granted, share.in_use),
                "wanted": wanted,
                "expires_at": func.now() + timedelta(seconds=self._lease_seconds),
            }
            statement = insert(ProviderLease).values(values)
            await session.execute(
                statement.on_conflict_do_update(
                    index_elements=["workspace_id", "provider", "holder"],
                    set_={name: values[name] for name in ("slots", "wanted", "expires_at")},
                )
            )
        return granted

    async def _others(self, session: WriteSession, key: Key) -> list[ProviderLease]:
        """Return the leases of the other processes that are alive, and drop the dead ones'."""
        same = (ProviderLease.workspace_id == key[0], ProviderLease.provider == key[1])
        await session.execute(
            delete(ProviderLease).where(*same, ProviderLease.expires_at < func.now())
        )
        return list(
            await session.scalars(
                select(ProviderLease).where(*same, ProviderLease.holder != self._holder)
            )
        )
