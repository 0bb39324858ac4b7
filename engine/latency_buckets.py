"""Latencies in buckets that are 5% wide, so that percentiles can be told of sums."""

import math
from collections.abc import Mapping

GROWTH = 1.05
# Of what takes a millisecond or less, and a day or more.
LOWEST, HIGHEST = 0, 375
LOG_GROWTH = math.log(GROWTH)


def bucket_of(latency_ms: float) -> int:
    """Return the bucket of a latency in milliseconds: it holds what is above `1.05**(bucket-1)`.

    Source: C. Masson and others, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
    Relative-Error Guarantees", VLDB 2019.
    """
    if latency_ms <= 1:
        return LOWEST
    return min(math.ceil(math.log(latency_ms) / LOG_GROWTH), HIGHEST)


def quantile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """Return a quantile of the latencies in *counts*, in milliseconds; within 2.5% of the true one.

    Args:
        counts: How many are in each bucket.
        share: 0 to 1; 0.95 is the 95th percentile.

    Returns:
        None when there are none.
    """
    total = sum(counts.values())
    if total == 0:
        return None
    wanted = max(math.ceil(share * total), 1)
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            return _middle_ms(bucket)
    raise AssertionError("the counts add up to their total")


def _middle_ms(bucket: int) -> float:
    """Return what is as near to the bucket's lower end as to its upper, by ratio."""
    if bucket == LOWEST:
        return 1.0
    return 2 * GROWTH**bucket / (1 + GROWTH)
