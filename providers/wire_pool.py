"""Connections that are used again: how many there are, who waits, and when they are left."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from providers.base import ProviderError, ProviderErrorCode
from providers.deadlines import Alarm, CallDeadline
from providers.http_requests import Origin
from providers.wire import Wire
from providers.wire_dial import Dialer

# New connections that are closed before anything was sent over them.
ATTEMPTS_TO_SEND = 3


class Usage(NamedTuple):
    """How much of a pool is used.

    Attributes:
        calls: That hold a place.
        waiting: Calls that wait for one.
        open: Connections, whether they are used or not.
        idle: Connections that are kept for the next call.
    """

    calls: int
    waiting: int
    open: int
    idle: int


class WirePool:
    """Keeps connections, and limits how many there are.

    A place is one call's right to a connection. Places are given in the order in which they were
    asked for, and no connection is kept unused that would be more than there are places.

    Args:
        dialer: Opens connections.
        max_connections: Places.
    """

    def __init__(self, dialer: Dialer, max_connections: int) -> None:
        self._dialer = dialer
        self._max_connections = max_connections
        self._taken = 0
        self._line: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        self._open: set[Wire] = set()
        self._all_lost = asyncio.Event()
        # With until when each is kept, by the monotonic clock. The last that was used is used next,
        # so that those too many grow old.
        self._idle: dict[Origin, dict[Wire, float]] = {}
        # From the one that has been idle for longest.
        self._idle_order: OrderedDict[Wire, Origin] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def usage(self) -> Usage:
        """How much of it is used just now."""
        return Usage(self._taken, len(self._line), len(self._open), len(self._idle_order))

    async def send(
        self, origin: Origin, send: Callable[[Wire], bool], deadline: CallDeadline
    ) -> Wire:
        """Return the connection over which *send* has sent; it is to be given back.

        Args:
            origin: Whom to send to.
            send: Sends over a connection, or tells that it could not, and then nothing was sent.
            deadline: Limits the waits.

        Raises:
            ProviderError: There is no connection, or none in time.
        """
        if self._taken < self._max_connections:
            self._taken += 1
        else:
            await self._wait_for_place(deadline)
        try:
            while (wire := self._find_idle(origin)) is not None:
                if send(wire):
                    return wire
                wire.abort()
            for _ in range(ATTEMPTS_TO_SEND):
                self._make_room()
                wire = await deadline.limit(self._dialer.dial(origin, self._forget))
                if not wire.is_lost:
                    self._open.add(wire)
                if send(wire):
                    return wire
                wire.abort()
        except BaseException:
            self._leave_place()
            raise
        self._leave_place()
        raise ProviderError(
            ProviderErrorCode.CONNECTION_FAILED,
            f"{origin.host} closes its connections before a request is sent",
            is_retryable=True,
        )

    def give_back(self, origin: Origin, wire: Wire) -> None:
        """Keep *wire* for another call, or hang up when its answer is not complete."""
        if wire.retire() and wire.idle_seconds:
            self._idle.setdefault(origin, {})[wire] = time.monotonic() + wire.idle_seconds
            self._idle_order[wire] = origin
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(wire.idle_seconds, self._sweep)
        else:
            wire.abort()
        self._leave_place()

    async def aclose(self) -> None:
        """Hang up everywhere."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._all_lost.clear()
        for wire in list(self._open):
            wire.abort()
        if self._open:
            await self._all_lost.wait()

    async def _wait_for_place(self, deadline: CallDeadline) -> None:
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._line[place] = None
        alarm = Alarm()
        try:
            await deadline.wait(place, alarm)
        except BaseException:
            self._line.pop(place, None)
            if place.done() and not place.cancelled() and place.result():
                self._leave_place()  # it was given in the very moment
            raise
        finally:
            alarm.close()

    def _leave_place(self) -> None:
        """Give a place to whoever has waited for longest."""
        while self._line:
            place, _ = self._line.popitem(last=False)
            if not place.done():
                place.set_result(True)
                return
        self._taken -= 1

    def _find_idle(self, origin: Origin) -> Wire | None:
        while wires := self._idle.get(origin):
            wire = next(reversed(wires))
            if self._drop(wire) > time.monotonic():
                return wire
            wire.abort()
        return None

    def _make_room(self) -> None:
        while self._idle_order and self._taken + len(self._idle_order) > self._max_connections:
            oldest = next(iter(self._idle_order))
            self._drop(oldest)
            oldest.abort()

    def _drop(self, wire: Wire) -> float:
        """Take *wire* from those that are idle, and return until when it could have been kept."""
        origin = self._idle_order.pop(wire)
        wires = self._idle[origin]
        until = wires.pop(wire)
        if not wires:
            del self._idle[origin]
        return until

    def _sweep(self) -> None:
        """Leave the connections that have been idle for too long."""
        now = time.monotonic()
        kept = [(until, wire) for wires in self._idle.values() for wire, until in wires.items()]
        for until, wire in kept:
            if until <= now:
                self._drop(wire)
                wire.abort()
        self._timer = None
        if self._idle:
            next_at = min(until for wires in self._idle.values() for until in wires.values())
            self._timer = asyncio.get_running_loop().call_at(next_at, self._sweep)

    def _forget(self, wire: Wire) -> None:
        self._open.discard(wire)
        if not self._open:
            self._all_lost.set()
        if wire in self._idle_order:
            self._drop(wire)
