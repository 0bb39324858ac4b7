"""Counters and histograms that cost next to nothing to add to.

prometheus_client's own take a lock for each addition, and several calls; a call of production makes
nine. All of a process's work is noted in its one event loop, which needs neither.
"""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

T = TypeVar("T")


class Tally:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add to it."""
        self.value += amount


class Distribution:
    """How many values there were up to each of some bounds.

    Args:
        bounds: Ascending.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Family(Collector, Generic[T]):
    """A metric with labels, of which each set of values has a child.

    Args:
        name: Without the suffix that its kind has.
        text: What it is.
        labels: Their names.
        registry: Where it is shown.
    """

    def __init__(
        self, name: str, text: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._children: dict[tuple[str, ...], T] = {}
        registry.register(self)

    def labels(self, *values: str) -> T:
        """Return the child with these values of the labels, in order."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._make()
        return child

    @abstractmethod
    def _make(self) -> T:
        """Return a new child, which has counted nothing."""


class Counters(Family[Tally]):
    """A counter with labels."""

    @override
    def _make(self) -> Tally:
        return Tally()

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield what there is to show."""
        metric = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, tally in self._children.items():
            metric.add_metric(values, tally.value)
        yield metric


class Histograms(Family[Distribution]):
    """A histogram with labels.

    Args:
        name: As of `Family`.
        text: As of `Family`.
        labels: As of `Family`.
        buckets: The bounds, ascending.
        registry: As of `Family`.
    """

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._bounds = [float(bound) for bound in buckets]
        super().__init__(name, text, labels, registry=registry)

    @override
    def _make(self) -> Distribution:
        return Distribution(self._bounds)

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield what there is to show."""
        metric = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = [*map(str, self._bounds), "+Inf"]
        for values, found in self._children.items():
            buckets = list(zip(bounds, accumulate(found.counts), strict=True))
            metric.add_metric(values, buckets, found.total)
        yield metric
