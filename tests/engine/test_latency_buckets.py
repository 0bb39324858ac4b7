"""Percentiles of latencies in buckets, beside those of the latencies themselves."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.latency_buckets import LEAST_MS, bucket_of, quantiles_ms

A_DAY_MS = 86_400_000.0
SHARES = (0.5, 0.95, 0.99, 1.0)


@given(st.lists(st.floats(LEAST_MS, A_DAY_MS, exclude_min=True), min_size=1))
def test_percentiles_are_within_what_is_promised(latencies: list[float]) -> None:
    counts = Counter(map(bucket_of, latencies))
    buckets = sorted(counts)
    told = quantiles_ms(buckets, [counts[bucket] for bucket in buckets], SHARES)
    ascending = sorted(latencies)
    true = [ascending[math.ceil(share * len(ascending)) - 1] for share in SHARES]
    assert told == pytest.approx(true, rel=0.025)


@given(st.floats(0, LEAST_MS))
def test_what_took_no_time_is_told_as_that(latency_ms: float) -> None:
    assert quantiles_ms([bucket_of(latency_ms)], [1], SHARES) == [0.0] * len(SHARES)
