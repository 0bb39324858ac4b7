"""Sums that a newcomer types: found in a message, worked out, and written in one form."""

import re
from collections.abc import Callable
from fractions import Fraction
from operator import add, mul, sub, truediv
from typing import NamedTuple

_OPERATORS: dict[str, tuple[str, Callable[[Fraction, Fraction], Fraction]]] = {
    "+": ("+", add),
    "plus": ("+", add),
    "-": ("-", sub),
    "\N{MINUS SIGN}": ("-", sub),
    "minus": ("-", sub),
    "*": ("*", mul),
    "x": ("*", mul),
    "\N{MULTIPLICATION SIGN}": ("*", mul),
    "times": ("*", mul),
    "/": ("/", truediv),
    "\N{DIVISION SIGN}": ("/", truediv),
    "divided by": ("/", truediv),
}
_SIGNS = "|".join(re.escape(written) for written in _OPERATORS)
# A sign stands between spaces, but for those that mean nothing else: 2024-01-02 is no sum.
_BETWEEN = rf"(?: ?[+*\xd7\xf7] ?| (?:{_SIGNS}) )"
_NUMBER = r"[0-9]{1,6}"
_SUM = re.compile(
    rf"(?<![\w.,:/+*-]){_NUMBER}(?:{_BETWEEN}{_NUMBER}){{1,4}}(?![\w/+*-]|[.,:][0-9]| ?[(^%])",
    re.IGNORECASE,
)
_PART = re.compile(rf"{_NUMBER}|{_SIGNS}", re.IGNORECASE)
_SLIPS = (-10, 1, 10, -1)


class Sum(NamedTuple):
    """A sum in its one form, its result, and the results of those who slip."""

    question: str
    answer: str
    mistakes: tuple[str, ...]


def find_sum(text: str) -> Sum | None:
    """Find the last sum in a text that has a result.

    The question is the same however the sum is written, so that the answer is too.
    """
    for match in reversed(list(_SUM.finditer(text))):
        parts = _PART.findall(match[0].casefold())
        numbers = [Fraction(part) for part in parts[::2]]
        signs = [_OPERATORS[part] for part in parts[1::2]]
        result = _work_out(numbers, [operate for _, operate in signs])
        if result is not None:
            written = [sign for sign, _ in signs]
            asked = "".join(f" {sign} {n}" for sign, n in zip(written, numbers[1:], strict=True))
            mistakes = tuple(_write(result + slip) for slip in _SLIPS)
            return Sum(f"What is {numbers[0]}{asked}?", _write(result), mistakes)
    return None


def _work_out(
    numbers: list[Fraction], operators: list[Callable[[Fraction, Fraction], Fraction]]
) -> Fraction | None:
    """Return the result, products before sums; None for a division by zero."""
    terms = [numbers[0]]
    between: list[Callable[[Fraction, Fraction], Fraction]] = []
    for operate, number in zip(operators, numbers[1:], strict=True):
        if operate in (add, sub):
            between.append(operate)
            terms.append(number)
        elif operate is truediv and number == 0:
            return None
        else:
            terms[-1] = operate(terms[-1], number)
    total = terms[0]
    for operate, term in zip(between, terms[1:], strict=True):
        total = operate(total, term)
    return total


def _write(result: Fraction) -> str:
    """Write a whole number as it is, and any other with two decimals."""
    return str(result) if result.denominator == 1 else f"{float(result):.2f}"
