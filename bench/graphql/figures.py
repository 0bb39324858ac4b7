"""What was measured, its medians and ratios, and how they are printed."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.graphql.agreement import Extent

# (slower one, reference): how many times the first takes what the second takes.
RATIOS = (
    ("product", "rows"),
    ("product-off", "rows"),
    ("usual", "product"),
    ("product-off", "product"),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One server's figures for one query.

    Attributes:
        p50_ms: Median latency at one connection.
        p95_ms: 95th percentile of that latency.
        per_second: Requests answered a second at several connections.
        cpu_ms: The server's processor time a request, then, without PostgreSQL's; None where it
            is unknown.
    """

    p50_ms: float
    p95_ms: float
    per_second: float
    cpu_ms: float | None


@dataclass(frozen=True, slots=True)
class QueryReport:
    """All rounds of one query.

    Attributes:
        extent: What the answer holds.
        length: The product's answer, in bytes.
        rounds: By server, its figures in each round.
    """

    extent: Extent
    length: int
    rounds: Mapping[str, Sequence[Figures]]

    def medians(self) -> dict[str, Figures]:
        """Return each server's medians over the rounds."""
        return {name: _median(figures) for name, figures in self.rounds.items()}

    def ratios(self) -> dict[str, Figures]:
        """Return the medians of each round's ratios: above 1, the first is the slower one."""
        return {
            f"{first} / {second}": _median(
                [
                    _ratio(ours, theirs)
                    for ours, theirs in zip(self.rounds[first], self.rounds[second], strict=True)
                ]
            )
            for first, second in RATIOS
            if first in self.rounds and second in self.rounds
        }

    def as_json(self) -> dict[str, object]:
        """Return everything for a file."""
        return {
            **asdict(self.extent),
            "bytes": self.length,
            "servers": {name: asdict(each) for name, each in self.medians().items()},
            "ratios": {name: asdict(each) for name, each in self.ratios().items()},
            "rounds": {
                name: [asdict(each) for each in figures] for name, figures in self.rounds.items()
            },
        }


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the value that *fraction* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def _median(figures: Sequence[Figures]) -> Figures:
    known = [each.cpu_ms for each in figures if each.cpu_ms is not None]
    return Figures(
        p50_ms=statistics.median(each.p50_ms for each in figures),
        p95_ms=statistics.median(each.p95_ms for each in figures),
        per_second=statistics.median(each.per_second for each in figures),
        cpu_ms=statistics.median(known) if known else None,
    )


def _ratio(ours: Figures, theirs: Figures) -> Figures:
    return Figures(
        p50_ms=ours.p50_ms / theirs.p50_ms,
        p95_ms=ours.p95_ms / theirs.p95_ms,
        per_second=theirs.per_second / ours.per_second,
        cpu_ms=ours.cpu_ms / theirs.cpu_ms if ours.cpu_ms and theirs.cpu_ms else None,
    )


def table(name: str, report: QueryReport, connections: int) -> Iterator[str]:
    """Yield the lines that show a query's figures."""
    extent = report.extent
    yield (
        f"{name}: {extent.objects:,} objects, {extent.leaves:,} leaf fields, "
        f"{report.length:,} bytes"
    )
    heads = ("p50 ms", "p95 ms", f"req/s at {connections}", "CPU ms")
    yield f"  {'':22}" + "".join(f"{head:>14}" for head in heads)
    for server, each in report.medians().items():
        yield _line(server, each, ("{:.2f}", "{:.2f}", "{:,.0f}", "{:.2f}"))
    for pair, each in report.ratios().items():
        yield _line(pair, each, ("{:.2f}x",) * 4)


def _line(name: str, figures: Figures, formats: Sequence[str]) -> str:
    values = (figures.p50_ms, figures.p95_ms, figures.per_second, figures.cpu_ms)
    shown = ("-" if v is None else f.format(v) for f, v in zip(formats, values, strict=True))
    return f"  {name:22}" + "".join(f"{text:>14}" for text in shown)
