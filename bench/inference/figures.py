"""What was measured, as a table, and what was to be reached."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.inference.native import Burst, Load

DIRECT, BARE, PRODUCT = "direct", "bare", "product"
ALONE = Load(1, 0)
WAITING = Load(32, 50)
BUSY = Load(64, 0)
STREAMING = Load(32, 50, stream=True)
LOADS = (ALONE, WAITING, BUSY, STREAMING)
LEAST_RATIO = 0.8
MOST_ADDED_P50_MS = 2.0
MOST_ADDED_P99_MS = 10.0
# What a server like bare takes where these limits were set.
LIMITS_CPU_MS = 0.17
# A leak keeps an object for each request, and none is smaller with the slot that holds it.
MOST_BYTES_A_REQUEST = 32.0
P50, P99 = 0, 2  # among a burst's percentiles


@dataclass(frozen=True, slots=True)
class Measured:
    """A burst, and the processor time of its server for each answer.

    Attributes:
        cpu_ms: Of the server alone: neither PostgreSQL's nor the model's.
    """

    burst: Burst
    cpu_ms: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.burst.right / self.burst.seconds

    def latency_ms(self, load: Load, share: int) -> float:
        """Return a percentile: of the first byte of a stream, of the whole of another answer."""
        return (self.burst.first_byte_ms if load.stream else self.burst.whole_ms)[share]


class Report:
    """All rounds, by load and by server."""

    def __init__(self) -> None:
        self._rounds: dict[Load, dict[str, list[Measured]]] = {load: {} for load in LOADS}

    def add(self, load: Load, server: str, measured: Measured) -> None:
        """Add the next round's."""
        self._rounds[load].setdefault(server, []).append(measured)

    def added_ms(self, load: Load, server: str, share: int) -> float | None:
        """Return what a server adds to the model's own latency, as the median over the rounds."""
        rounds = self._rounds[load]
        if server not in rounds:
            return None
        return statistics.median(
            ours.latency_ms(load, share) - model.latency_ms(load, share)
            for ours, model in zip(rounds[server], rounds[DIRECT], strict=True)
        )

    def own_ms(self, load: Load, server: str, share: int) -> float:
        """Return a server's latency, as the median over the rounds."""
        return statistics.median(
            each.latency_ms(load, share) for each in self._rounds[load][server]
        )

    def ratio(self, server: str, reference: str) -> float:
        """Return the median over the rounds of how many times the reference's throughput it has."""
        return statistics.median(
            ours.per_second / theirs.per_second
            for ours, theirs in zip(
                self._rounds[BUSY][server], self._rounds[BUSY][reference], strict=True
            )
        )

    def cpu_ms(self, server: str) -> float:
        """Return the processor time of an answer at full load, as the median over the rounds."""
        return statistics.median(each.cpu_ms for each in self._rounds[BUSY][server])

    def table(self) -> Iterator[str]:
        """Yield the lines that show each server's figures."""
        heads = ("1 connection", "32, model 50 ms", "stream: 1st byte", "req/s at 64", "CPU ms")
        yield f"{'':10}" + "".join(f"{head:>19}" for head in heads)
        yield f"{'':10}" + "".join(f"{'added p50 / p99':>19}" for _ in range(3))
        own = "".join(
            f"{self._shown(load, DIRECT, self.own_ms):>19}" for load in (ALONE, WAITING, STREAMING)
        )
        yield f"{DIRECT:10}{own}   (its own latency, not added)"
        for server in self._rounds[BUSY]:
            if server == DIRECT:
                continue
            added = "".join(
                f"{self._shown(load, server, self.added_ms):>19}"
                for load in (ALONE, WAITING, STREAMING)
            )
            rounds = self._rounds[BUSY][server]
            speed = statistics.median(each.per_second for each in rounds)
            shown = f"{speed:,.0f}"
            if server != BARE:
                shown += f" ({self.ratio(server, BARE):.2f})"
            yield f"{server:10}{added}{shown:>19}{self.cpu_ms(server):>19.3f}"
        yield "In milliseconds; req/s as a multiple of bare's in parentheses."

    @staticmethod
    def _shown(
        load: Load, server: str, latency_ms: Callable[[Load, str, int], float | None]
    ) -> str:
        p50, p99 = latency_ms(load, server, P50), latency_ms(load, server, P99)
        return "not served" if p50 is None or p99 is None else f"{p50:.2f} / {p99:.2f}"

    def verdicts(self) -> Iterator[str]:
        """Yield a line for each target, and what is added in proportion to this machine's speed.

        The proportion takes the waiting for others to grow no faster than the work itself, though
        it does.
        """
        ratio = self.ratio(PRODUCT, BARE)
        slowness = self.cpu_ms(BARE) / LIMITS_CPU_MS
        yield (
            f"bare takes {slowness:.2f} times the {LIMITS_CPU_MS} ms of processor"
            " that it takes where the limits were set"
        )
        yield _verdict("throughput to bare", ratio, f"at least {LEAST_RATIO}", ratio >= LEAST_RATIO)
        for share, most, name in ((P50, MOST_ADDED_P50_MS, "p50"), (P99, MOST_ADDED_P99_MS, "p99")):
            added = self.added_ms(WAITING, PRODUCT, share)
            assert added is not None
            yield _verdict(f"added {name}, ms", added, f"at most {most:g}", added <= most)
            yield f"{'':8} {added / slowness:.2f} at the speed of the machine that the limit is for"


def memory_verdict(answers: Sequence[int], resident_bytes: Sequence[int]) -> str:
    """Return the verdict on memory, from the last three quarters of what was answered."""
    settled = [n for n, count in enumerate(answers) if count >= answers[-1] / 4]
    if len(settled) < 2:
        return "too few answers for a verdict on memory"
    slope, _ = statistics.linear_regression(
        [answers[n] for n in settled], [resident_bytes[n] for n in settled]
    )
    wanted = f"at most {MOST_BYTES_A_REQUEST:g}"
    return _verdict("memory, bytes a request", slope, wanted, slope <= MOST_BYTES_A_REQUEST)


def _verdict(what: str, found: float, wanted: str, is_reached: bool) -> str:  # noqa: FBT001
    return f"{'reached' if is_reached else 'MISSED':8} {what}: {found:.2f}, wanted {wanted}"


def shown_wrong(wrong: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each server that does not stream, with what it answers."""
    for server, answer in wrong.items():
        yield f"{server} does not stream: {' '.join(answer.split())[:160]}"
