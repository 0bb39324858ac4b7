"""How the interpreter itself fares: the lag of its event loop, the pauses of its collector."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from prometheus_client import CollectorRegistry, Histogram

LAG_EVERY_SECONDS: Final = 1.0
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
PAUSE_BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
GENERATIONS: Final = 3


class Vitals:
    """Measures the process that it is in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lag = Histogram(
            "gero_event_loop_lag_seconds",
            "How late a timer of the event loop was, looked at each second.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        pauses = Histogram(
            "gero_gc_pause_seconds",
            "How long a collection of garbage stopped everything else.",
            ["generation"],
            buckets=PAUSE_BUCKETS,
            registry=registry,
        )
        self._pauses = [pauses.labels(str(each)) for each in range(GENERATIONS)]
        self._collection_began = 0.0
        # Generations and seconds that are not counted yet. A collection can begin anywhere, also
        # while a metric's lock is held; so it must not wait for one.
        self._fresh_pauses: list[tuple[int, float]] = []

    @asynccontextmanager
    async def measuring(self) -> AsyncIterator[None]:
        """Measure while the block runs."""
        gc.callbacks.append(self._note_collection)
        measuring = asyncio.create_task(self._measure())
        try:
            yield
        finally:
            measuring.cancel()
            gc.callbacks.remove(self._note_collection)

    async def _measure(self) -> None:
        while True:
            due = time.perf_counter() + LAG_EVERY_SECONDS
            await asyncio.sleep(LAG_EVERY_SECONDS)
            self._lag.observe(max(0.0, time.perf_counter() - due))
            fresh, self._fresh_pauses = self._fresh_pauses, []
            for generation, seconds in fresh:
                self._pauses[generation].observe(seconds)

    def _note_collection(self, phase: str, about: dict[str, Any]) -> None:
        if phase == "start":
            self._collection_began = time.perf_counter()
        else:
            seconds = time.perf_counter() - self._collection_began
            self._fresh_pauses.append((about["generation"], seconds))
