"""Several servers of one token: what they add when they share the calls of one."""

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.inference.figures import P50, P99, WAITING
from bench.inference.native import Burst, Load, Programs
from bench.inference.servers import Server


def share_calls(
    programs: Programs, servers: Sequence[Server], *, seconds: float, load: Load = WAITING
) -> list[Burst]:
    """Send a load to servers at once, to each as much as to any other.

    Raises:
        LoadError: An answer did not come.
    """
    part = Load(load.connections // len(servers), load.delay_ms)

    def send(server: Server) -> Burst:
        return programs.send(server.port, server.request(part), part, seconds=seconds)

    with ThreadPoolExecutor(len(servers)) as threads:
        return list(threads.map(send, servers))


def added_ms(bursts: Sequence[Burst], share: int) -> float:
    """Return what is added to the model's own latency, as the mean over the servers."""
    return statistics.fmean(burst.whole_ms[share] for burst in bursts) - WAITING.delay_ms


class ReplicaReport:
    """What one server adds, and what many do, round by round."""

    def __init__(self) -> None:
        self._rounds: list[tuple[list[Burst], list[Burst]]] = []

    def add(self, one: list[Burst], many: list[Burst]) -> None:
        """Add the next round's."""
        self._rounds.append((one, many))

    def lines(self) -> list[str]:
        """Return the figures: medians over the rounds."""
        shown = []
        for bursts in zip(*self._rounds, strict=True):
            p50, p99 = (
                statistics.median(added_ms(each, share) for each in bursts) for share in (P50, P99)
            )
            speed = statistics.median(sum(b.right / b.seconds for b in each) for each in bursts)
            name = f"{len(bursts[0])} server{'s' * (len(bursts[0]) > 1)}"
            shown.append(f"{name:10} added p50 / p99 ms {p50:.2f} / {p99:.2f}, {speed:,.0f} req/s")
        ratio = statistics.median(added_ms(m, P50) / added_ms(o, P50) for o, m in self._rounds)
        return [*shown, f"p50 is {ratio:.2f} times that of one server"]
