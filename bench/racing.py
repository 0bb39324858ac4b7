"""Racing: the calls it saves and the winners it gets wrong, against asking everybody everything.

    python -m bench.racing [--races 2000] [--rows 1000] [--look-every 50] [--seed 1]

Scores are 0 or 1. A row's difficulty is shared by all candidates, so their scores
correlate. Whoever isn't stopped is asked every row, the winner included.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from engine.racing import RacingRule, find_beaten

Scores = NDArray[np.float64]
Stopper = Callable[[Scores], NDArray[np.bool_]]

NORMAL = NormalDist()
DIFFICULTY_SPREAD = 1.5  # of a probit; 0 would make the candidates' scores independent
CLEAR_WINNER = (0.85, 0.75, 0.70, 0.65, 0.60, 0.55, 0.50, 0.45)
NEAR_EQUAL_LEADERS = (0.80, 0.79, 0.70, 0.65, 0.60, 0.55, 0.50, 0.45)
ALL_EQUAL = (0.7,) * 8


@dataclass(frozen=True, slots=True)
class Race:
    """What came of one race.

    Attributes:
        winner: The candidate with the highest mean of those that were never stopped.
        rows_asked: How many rows each candidate was asked.
    """

    winner: int
    rows_asked: NDArray[np.int_]


def draw_scores(rng: np.random.Generator, chances: tuple[float, ...], rows: int) -> Scores:
    """Draw right and wrong answers of candidates with these chances to be right."""
    difficulty = rng.normal(0, DIFFICULTY_SPREAD, (rows, 1))
    skills = [NORMAL.inv_cdf(chance) * math.hypot(1, DIFFICULTY_SPREAD) for chance in chances]
    return (rng.normal(skills, 1, (rows, len(chances))) > difficulty).astype(np.float64)


def draw_tie(rng: np.random.Generator, candidates: int, rows: int) -> Scores:
    """Draw answers of which everybody has exactly half right, which is what errs most easily."""
    half_right = np.tile(np.arange(rows) % 2, (candidates, 1)).T
    return rng.permuted(half_right, axis=0).astype(np.float64)


def simulate_race(scores: Scores, find: Stopper, look_every: int) -> Race:
    """Ask row after row, and at each look stop the candidates that `find` says are beaten."""
    rows, candidates = scores.shape
    rows_asked = np.full(candidates, rows)
    racing = np.arange(candidates)
    for seen in range(look_every, rows, look_every):
        beaten = find(scores[:seen, racing])
        rows_asked[racing[beaten]] = seen
        racing = racing[~beaten]
    winner = racing[scores[:, racing].sum(axis=0).argmax()]
    return Race(int(winner), rows_asked)


def find_beaten_by_fixed_intervals(
    scores: Scores, rule: RacingRule, *, entrants: int
) -> NDArray[np.bool_]:
    """Find who trails the leader by an ordinary interval, meant for one look."""
    seen, racing = scores.shape
    if seen < rule.min_rows or racing == 1:
        return np.zeros(racing, np.bool_)
    leads = scores[:, [int(scores.sum(axis=0).argmax())]] - scores
    quantile = -NORMAL.inv_cdf(rule.error / (entrants - 1))
    beaten: NDArray[np.bool_] = leads.mean(axis=0) > quantile * leads.std(axis=0) / math.sqrt(seen)
    return beaten


def report(
    name: str, draw: Callable[[], Scores], chances: NDArray[np.float64], races: int, look_every: int
) -> None:
    """Run races by the rule and by the ordinary intervals, and print how they went."""
    rule = RacingRule()
    entrants = len(chances)
    shares: dict[str, list[float]] = {}
    stopped_too_low: list[float] = []
    for _ in range(races):
        scores = draw()
        rows, means = len(scores), scores.mean(axis=0)
        exhaustive = int(means.argmax())
        by_rule = partial(find_beaten, rule=rule, entrants=entrants, row_count=rows)
        by_interval = partial(find_beaten_by_fixed_intervals, rule=rule, entrants=entrants)
        race = simulate_race(scores, by_rule, look_every)
        naive = simulate_race(scores, by_interval, look_every)
        for key, value in {
            "calls saved": 1 - race.rows_asked.mean() / rows,
            "the best on all rows was stopped": race.rows_asked[exhaustive] < rows,
            "  the same, by ordinary intervals": naive.rows_asked[exhaustive] < rows,
            "the winner isn't the best on all rows": means[race.winner] < means.max(),
            "the winner isn't the truly best": chances[race.winner] < chances.max(),
            "  the same, asking everybody everything": chances[exhaustive] < chances.max(),
        }.items():
            shares.setdefault(key, []).append(value)
        stopped_too_low += [
            means[i] - scores[:asked, i].mean()
            for i, asked in enumerate(race.rows_asked)
            if asked < rows
        ]
    print(f"{name}: {entrants} candidates, {races:,} races")
    for key, values in shares.items():
        print(f"  {key:<42} {np.mean(values):8.4f}")
    print(f"  {'how much too low a stopped mean is':<42} {np.mean(stopped_too_low or [0]):8.4f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--races", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--look-every", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    for name, chances in {
        "clear winner": CLEAR_WINNER,
        "near-equal leaders": NEAR_EQUAL_LEADERS,
        "all equal": ALL_EQUAL,
    }.items():
        draw = partial(draw_scores, rng, chances, options.rows)
        report(name, draw, np.array(chances), options.races, options.look_every)
    for candidates in (8, 2):
        draw = partial(draw_tie, rng, candidates, options.rows)
        report("exact tie", draw, np.full(candidates, 0.5), options.races, options.look_every)


if __name__ == "__main__":
    main()
