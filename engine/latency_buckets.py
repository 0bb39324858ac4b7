"""Latencies in buckets that are 5% wide, so that percentiles can be told of sums."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

GROWTH = 1.05
# Of what takes a microsecond or less, as what is not told does, and a day or more.
LOWEST, HIGHEST = -142, 375
LEAST_MS = 0.001
LOG_GROWTH = math.log(GROWTH)


def bucket_of(latency_ms: float) -> int:
    """Return the bucket of a latency in milliseconds: it holds what is above `1.05**(bucket-1)`.

    Source: C. Masson and others, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
    Relative-Error Guarantees", VLDB 2019.
    """
    if latency_ms <= LEAST_MS:
        return LOWEST
    return min(math.ceil(math.log(latency_ms) / LOG_GROWTH), HIGHEST)


def quantiles_ms(
    buckets: Sequence[int], counts: Sequence[int], shares: Sequence[float]
) -> list[float]:
    """Return quantiles of latencies in milliseconds, each within 2.5% of the true one.

    Args:
        buckets: Ascending; one at least, and a latency in one of them.
        counts: How many are in each.
        shares: Of the quantiles, 0 to 1.
    """
    seen = list(accumulate(counts))
    places = (bisect_left(seen, max(math.ceil(share * seen[-1]), 1)) for share in shares)
    return [_middle_ms(buckets[place]) for place in places]


def _middle_ms(bucket: int) -> float:
    """Return what is as near to the bucket's lower end as to its upper, by ratio."""
    if bucket == LOWEST:
        return 0.0
    return 2 * GROWTH**bucket / (1 + GROWTH)
