"""What the statistics of a leaderboard cost, and how often they are right.

    python -m bench.statistics [--rounds 5] [--leaderboards 2000]

The time is of everything for 20 candidates on 10,000 rows, in seconds and as a ratio to a plain
loop that resamples the means alone. The intervals are compared with the bootstrap's expanded
percentiles on the same simulated leaderboards.
"""

import argparse
import math
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from engine.comparisons import compare_all, pareto_front, rank_bands
from engine.intervals import (
    RESAMPLES,
    bonett_price_interval,
    bootstrap_means,
    mean_intervals,
    score_interval,
    student_quantile,
)

Floats = NDArray[np.float64]
Ends = tuple[float, float]


def make_scores(row_count: int, kind: str) -> Floats:
    """Make 20 candidates' scores: 0 or 1, graded, or graded with gaps."""
    rng = np.random.default_rng(1)
    means = np.linspace(0.4, 0.6, 20)
    scores = rng.beta(2 * means, 2 - 2 * means, size=(row_count, 20))
    if kind == "0/1":
        return (rng.random(scores.shape) < means).astype(np.float64)
    if kind == "with gaps":
        scores[rng.random(scores.shape) < 0.01] = math.nan
        scores[row_count // 2 :, :5] = math.nan
    return scores


def run_pipeline(scores: Floats) -> list[int]:
    """Compute all that a leaderboard shows."""
    mean_intervals(scores, seed=1)
    compared = compare_all(scores, seed=1)
    means = [float(np.nanmean(column)) for column in scores.T]
    pareto_front(means, list(range(20)))
    return rank_bands(np.argsort(means)[::-1].tolist(), compared.told_apart)


def run_plain_loop(scores: Floats) -> Floats:
    """Resample the means, one resample at a time."""
    rng = np.random.default_rng(1)
    rows = len(scores)
    return np.array([scores[rng.integers(rows, size=rows)].mean(axis=0) for _ in range(RESAMPLES)])


def seconds(work: Callable[[Floats], object], scores: Floats) -> float:
    began = time.perf_counter()
    work(scores)
    return time.perf_counter() - began


def report_time(rounds: int) -> None:
    print("20 candidates on 10,000 rows: seconds, and as a ratio to the plain loop")
    print(f"{'':10}{'plain loop':>11}{'everything':>12}{'ratio':>8}{'resampling':>13}{'ratio':>8}")
    for kind in ("0/1", "graded", "with gaps"):
        scores = make_scores(10_000, kind)
        works = (run_plain_loop, run_pipeline, lambda scores: bootstrap_means(scores, seed=1))
        taken = [[seconds(work, scores) for work in works] for _ in range(rounds)]
        loop, ours, resampling = (statistics.median(each) for each in zip(*taken, strict=True))
        print(
            f"{kind:10}{loop:11.2f}{ours:12.3f}{ours / loop:8.3f}{resampling:13.3f}"
            f"{resampling / loop:8.3f}"
        )


def peak_mb(work: Callable[[Floats], object], scores: Floats) -> float:
    tracemalloc.start()
    work(scores)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def report_memory() -> None:
    print("\npeak memory beside the scores, MB")
    print(f"{'rows':>12}{'scores':>12}{'everything':>12}{'bootstrap_means':>17}")
    for row_count in (1_000, 100_000):
        scores = make_scores(row_count, "with gaps")
        ours = peak_mb(run_pipeline, scores)
        resampling = peak_mb(lambda scores: bootstrap_means(scores, seed=1), scores)
        print(f"{row_count:12,}{scores.nbytes / 1e6:12.1f}{ours:12.1f}{resampling:17.1f}")


def expanded_percentiles(values: Floats, resampled: Floats, bounds: Ends) -> Ends:
    """Return the bootstrap's interval of 95 % after Hesterberg (2015)."""
    if np.ptp(values) == 0:
        return score_interval(values, confidence=0.95, bounds=bounds)
    rows = len(values)
    quantile = student_quantile(0.975, rows - 1) * math.sqrt(rows / (rows - 1))
    tail = NormalDist().cdf(-quantile)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def paired_interval(differences: Floats, kind: str) -> Ends:
    if kind == "graded":
        return score_interval(differences, confidence=0.95, bounds=(-1, 1))
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return bonett_price_interval(wins, losses, len(differences), confidence=0.95)


def draw_leaderboard(
    rng: np.random.Generator, fewest: int, most: int, kind: str
) -> Iterator[tuple[str, float, Floats, Ends]]:
    """Yield what an interval is asked for, its true value, the values and their bounds."""
    rows, means = rng.integers(fewest, most + 1), rng.uniform(0.05, 0.95, size=3)
    spread = rng.choice([0.5, 2, 10])
    scores = rng.beta(spread * means, spread * (1 - means), size=(rows, 3))
    if kind == "0/1":
        scores = (rng.random(scores.shape) < means).astype(np.float64)
    a, b, other = scores.T
    similar = np.where(rng.random(rows) < 0.9, a, other)
    yield "mean", means[0], a, (0, 1)
    yield "difference", means[0] - means[1], a - b, (-1, 1)
    yield "difference, 9 rows of 10 alike", 0.1 * (means[0] - means[2]), a - similar, (-1, 1)


def report_coverage(leaderboards: int, fewest: int, most: int) -> None:
    print(
        f"\n{leaderboards:,} leaderboards of {fewest} to {most} rows, true means 0.05 to 0.95: "
        f"how many intervals of 95 %\nhold the true value, within "
        f"{2 * math.sqrt(0.95 * 0.05 / leaderboards):.1%}, and how wide they are"
    )
    print(f"{'':40}{'ours':>8}{'width':>8}{'bootstrap':>12}{'width':>8}")
    rng = np.random.default_rng(1)
    for kind in ("0/1", "graded"):
        found: dict[str, list[tuple[bool, float, bool, float]]] = {}
        for seed in range(leaderboards):
            for name, truth, values, bounds in draw_leaderboard(rng, fewest, most, kind):
                if name == "mean":
                    lows, highs = mean_intervals(values[:, np.newaxis], seed=seed)
                    low, high = float(lows[0]), float(highs[0])
                else:
                    low, high = paired_interval(values, kind)
                resampled = bootstrap_means(values[:, np.newaxis], seed=seed)[:, 0]
                other_low, other_high = expanded_percentiles(values, resampled, bounds)
                found.setdefault(name, []).append((
                    low <= truth <= high, high - low,
                    other_low <= truth <= other_high, other_high - other_low,
                ))  # fmt: skip
        for name, lines in found.items():
            held, width, other_held, other_width = np.mean(lines, axis=0)
            print(f"{kind:8}{name:32}{held:8.1%}{width:8.3f}{other_held:12.1%}{other_width:8.3f}")


def report_false_positives(leaderboards: int) -> None:
    print(
        f"\n{leaderboards:,} leaderboards of 5 equal candidates on 100 rows: in how many any two "
        "are told apart; asked for: 5 % at most"
    )
    rng = np.random.default_rng(1)
    for kind in ("0/1", "graded"):
        wrong = 0
        for seed in range(leaderboards):
            scores = rng.beta(1, 1, size=(100, 5))
            scores = np.round(scores) if kind == "0/1" else scores
            wrong += bool(compare_all(scores, seed=seed).told_apart.any())
        print(f"{kind:8}{wrong / leaderboards:8.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--leaderboards", type=int, default=2_000)
    arguments = parser.parse_args()
    report_time(arguments.rounds)
    report_memory()
    report_coverage(arguments.leaderboards, 50, 400)
    report_coverage(arguments.leaderboards, 3, 20)
    report_false_positives(arguments.leaderboards)


if __name__ == "__main__":
    main()
