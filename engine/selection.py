"""Which rows of a snapshot a run uses, chosen so that the choice repeats for ever."""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RowSelection:
    """How many rows, and which.

    Attributes:
        algorithm: `ALL` in order; `LAST_N`, the newest in order; `RANDOM_SHUFFLE`, drawn
            without replacement.
        rows: At most so many rows; None means as many as there are. `ALL` ignores it.
        seed: Any integer; the same seed draws the same rows in the same order.

    Raises:
        ValueError: `rows` is negative.
    """

    algorithm: Literal["ALL", "LAST_N", "RANDOM_SHUFFLE"]
    rows: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 0:
            raise ValueError(f"rows must not be negative, not {self.rows}")


def select_positions(row_count: int, selection: RowSelection) -> list[int]:
    """Choose rows of a snapshot by position.

    A shuffle orders the positions by a hash of seed and position, so it depends on no
    random generator's version, and drawing fewer rows gives the beginning of drawing more.

    Args:
        row_count: Rows in the snapshot.
        selection: What to choose.

    Returns:
        Distinct 0-based positions, in the order in which they are to be used.
    """
    wanted = row_count if selection.rows is None else min(selection.rows, row_count)
    match selection.algorithm:
        case "ALL":
            return list(range(row_count))
        case "LAST_N":
            return list(range(row_count - wanted, row_count))
        case "RANDOM_SHUFFLE":
            return heapq.nsmallest(
                wanted, range(row_count), key=lambda position: _draw(selection.seed, position)
            )


def shuffle_positions(positions: Sequence[int], seed: int) -> list[int]:
    """Put positions into an order that only they and *seed* decide."""
    return sorted(positions, key=lambda position: _draw(seed, position))


def _draw(seed: int, position: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=16).digest()
