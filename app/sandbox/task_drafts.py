"""What every task template shares: the shape of a draft and the two ways to make one."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple


class Draft(NamedTuple):
    """A question before it has an id.

    `mistakes` are the wrong answers a model might plausibly give; one of them
    may happen to equal the answer, so whoever reads them has to compare.
    """

    question: str
    answer: str
    mistakes: tuple[str, ...]


def draft_number(question: str, answer: int, *mistakes: int) -> Draft:
    """Make a draft whose answer is a whole number."""
    return Draft(question, str(answer), tuple(str(mistake) for mistake in mistakes))


def swap_neighbours(parts: Sequence[str], rng: Random) -> list[str]:
    """Exchange two neighbouring parts, the commonest slip in ordering and spelling."""
    place = rng.randrange(len(parts) - 1)
    return [*parts[:place], parts[place + 1], parts[place], *parts[place + 2 :]]
