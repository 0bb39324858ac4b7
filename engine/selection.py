"""Which rows of a snapshot a run uses, chosen so that the choice repeats for ever."""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class RowSelection:
    """How many rows, and which.

    Attributes:
        algorithm: `ALL` in order; `LAST_N`, the newest in order; `RANDOM_SHUFFLE`, drawn
            without replacement; `WEIGHTED_SHUFFLE`, drawn so with the rows' weights.
        rows: At most so many rows; None means as many as there are. `ALL` ignores it.
        seed: Any integer; the same seed draws the same rows in the same order.

    Raises:
        ValueError: `rows` is negative.
    """

    algorithm: Literal["ALL", "LAST_N", "RANDOM_SHUFFLE", "WEIGHTED_SHUFFLE"]
    rows: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 0:
            raise ValueError(f"rows must not be negative, not {self.rows}")


def select_positions(
    row_count: int,
    selection: RowSelection,
    *,
    weights: NDArray[np.float64] | None = None,
    newest: Positions | None = None,
    eligible: Positions | None = None,
) -> list[int]:
    """Choose rows of a snapshot by position.

    A shuffle orders the positions by a hash of seed and position, so it depends on no
    random generator's version, and drawing fewer rows gives the beginning of drawing more.

    Args:
        row_count: Rows in the snapshot.
        selection: What to choose.
        weights: Shape (row_count,), finite and not negative. `WEIGHTED_SHUFFLE` draws each
            next row, of those not drawn yet, with a chance in proportion to its weight. It never
            draws a row of weight 0, however few that leaves. Nothing else reads them.
        newest: Shape (row_count,): each row's number of arrival. `LAST_N` takes the rows that
            arrived last, in order of arrival, those of one number by position. Without it,
            positions are the order of arrival. Nothing else reads it.
        eligible: The only positions that may be chosen, in ascending order; None means all.

    Returns:
        Distinct 0-based positions, in the order in which they are to be used.

    Raises:
        ValueError: `WEIGHTED_SHUFFLE` has no weights, or `weights`, `newest` or `eligible` is
            not what it must be.
    """
    pool = range(row_count) if eligible is None else _checked_pool(eligible, row_count)
    wanted = len(pool) if selection.rows is None else min(selection.rows, len(pool))
    match selection.algorithm:
        case "ALL":
            return list(pool)
        case "LAST_N":
            arrived = pool if newest is None else _order_by_arrival(pool, newest, row_count)
            return list(arrived[len(pool) - wanted :])
        case "RANDOM_SHUFFLE":
            return heapq.nsmallest(
                wanted, pool, key=lambda position: _draw(selection.seed, position)
            )
        case "WEIGHTED_SHUFFLE":
            if weights is None:
                raise ValueError("WEIGHTED_SHUFFLE needs weights")
            _check_weights(weights, row_count)
            return _draw_by_weight(pool, weights, selection.seed)[:wanted]


def shuffle_positions(positions: Sequence[int], seed: int) -> list[int]:
    """Put positions into an order that only they and *seed* decide."""
    return sorted(positions, key=lambda position: _draw(seed, position))


def _checked_pool(eligible: Positions, row_count: int) -> list[int]:
    if eligible.ndim != 1 or (eligible[1:] <= eligible[:-1]).any():
        raise ValueError("eligible positions must be distinct and in ascending order")
    if len(eligible) and not (eligible[0] >= 0 and eligible[-1] < row_count):
        raise ValueError(f"eligible positions must be from 0 to below {row_count}")
    pool: list[int] = eligible.tolist()
    return pool


def _check_weights(weights: NDArray[np.float64], row_count: int) -> None:
    if weights.shape != (row_count,):
        raise ValueError(f"{row_count} rows need as many weights, not shape {weights.shape}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("weights must be finite and not negative")


def _order_by_arrival(pool: Sequence[int], newest: Positions, row_count: int) -> list[int]:
    if newest.shape != (row_count,):
        raise ValueError(f"{row_count} rows need as many arrivals, not shape {newest.shape}")
    positions = np.array(pool, np.int64)
    arrived: list[int] = positions[np.argsort(newest[positions], kind="stable")].tolist()
    return arrived


def _draw_by_weight(pool: Sequence[int], weights: NDArray[np.float64], seed: int) -> list[int]:
    """Put the positions with a weight in the order in which they are drawn.

    Each gets the key log(u) / weight, where u is 1 less its hash as a fraction, and the largest
    keys are drawn first: with equal weights, in the order of a plain shuffle. They are compared
    as -log(-key), which is in the same order, and which no weight is too small for.

    Source: P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a reservoir",
    Information Processing Letters 97 (2006), algorithm A.
    """
    positions = np.array(pool, np.int64)
    positions = positions[weights[positions] > 0]
    draws = (_draw(seed, position)[:8] for position in positions.tolist())
    hashes = np.fromiter((int.from_bytes(draw, "big") for draw in draws), np.uint64, len(positions))
    # So many bits as leave room for the half, which keeps the fraction off 0 and 1.
    fractions = ((hashes >> np.uint64(12)).astype(np.float64) + 0.5) / 2**52
    keys = np.log(weights[positions]) - np.log(-np.log1p(-fractions))
    drawn: list[int] = positions[np.argsort(-keys, kind="stable")].tolist()
    return drawn


def _draw(seed: int, position: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=16).digest()
