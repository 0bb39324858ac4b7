"""Task templates with computed answers: word problems, units, dates and sequences."""

import math
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from random import Random

from app.sandbox import task_words as words
from app.sandbox.task_drafts import Draft, draft_number

# Arithmetic word problems.


def _boxes(rng: Random) -> Draft:
    boxes, each, given = rng.randint(3, 9), rng.randint(6, 12), rng.randint(2, 11)
    name, thing = rng.choice(words.NAMES), rng.choice(words.THINGS)
    return draft_number(
        f"{name} buys {boxes} boxes of {thing} with {each} in each box and gives {given} of them"
        f" away. How many {thing} does {name} have left?",
        boxes * each - given,
        boxes * each,
        boxes * each + given,
        boxes * (each - 1) - given,
    )


def _bus(rng: Random) -> Draft:
    start, off = rng.randint(14, 40), rng.randint(2, 9)
    first_on, second_on = rng.randint(3, 12), rng.randint(2, 9)
    return draft_number(
        f"A bus leaves the depot with {start} passengers. At the first stop {off} get off and"
        f" {first_on} get on, and at the second stop {second_on} more get on. How many passengers"
        " are on the bus now?",
        start - off + first_on + second_on,
        start - off + first_on,
        start + off + first_on + second_on,
        start - off + first_on + second_on + 10,
    )


def _recipe(rng: Random) -> Draft:
    people, grams_each, guests = rng.randint(2, 6), 5 * rng.randint(7, 30), rng.randint(7, 15)
    return draft_number(
        f"A recipe for {people} people needs {people * grams_each} grams of flour. How many grams"
        f" of flour are needed for {guests} people?",
        guests * grams_each,
        guests * people * grams_each,
        (guests - people) * grams_each,
        (guests + 1) * grams_each,
    )


def _savings(rng: Random) -> Draft:
    weekly, name = rng.randint(12, 45), rng.choice(words.NAMES)
    target = weekly * rng.randint(4, 14) + rng.randint(1, weekly - 1)
    weeks = math.ceil(target / weekly)
    return draft_number(
        f"{name} saves {weekly} euros every week. After how many whole weeks does {name} have at"
        f" least {target} euros?",
        weeks,
        weeks - 1,
        weeks + 1,
    )


def _ride(rng: Random) -> Draft:
    name, fast, slow = rng.choice(words.NAMES), rng.randint(18, 28), rng.randint(11, 17)
    morning, afternoon = rng.randint(2, 4), rng.randint(2, 5)
    distance = fast * morning + slow * afternoon
    return draft_number(
        f"{name} cycles {morning} hours at {fast} kilometres per hour and then {afternoon} hours at"
        f" {slow} kilometres per hour. How many kilometres is that altogether?",
        distance,
        fast * (morning + afternoon),
        distance - 10,
        distance + slow,
    )


# Unit conversion.


def _to_small_unit(rng: Random) -> Draft:
    small, large, factor = rng.choice(words.UNITS)
    count = rng.randint(3, 48)
    return draft_number(
        f"How many {small} are there in {count} {large}?",
        count * factor,
        count * factor * 10,
        (count + 1) * factor,
        (count - 1) * factor,
    )


def _to_large_unit(rng: Random) -> Draft:
    small, large, factor = rng.choice(words.UNITS)
    count = rng.randint(3, 48)
    return draft_number(
        f"Convert {count * factor} {small} to {large}. Give the number only.",
        count,
        count * 10,
        count + 1,
        count - 1,
    )


def _mixed_units(rng: Random) -> Draft:
    small, large, factor = rng.choice(words.UNITS)
    count, rest = rng.randint(2, 19), rng.randint(2, factor - 1)
    total = count * factor + rest
    return draft_number(
        f"Express {count} {large} and {rest} {small} in {small}.",
        total,
        count * factor,
        total + factor,
        count * 10 + rest,
    )


# Date arithmetic.


def _long_date(day: date) -> str:
    return f"{day.day} {words.MONTHS[day.month - 1]} {day.year}"


def _any_date(rng: Random) -> date:
    first, last = date(2021, 1, 1), date(2029, 12, 31)
    return first + timedelta(days=rng.randint(0, (last - first).days))


def _days_after(rng: Random) -> Draft:
    start, days = _any_date(rng), rng.randint(9, 120)
    end = start + timedelta(days=days)
    slips = (end + timedelta(days=1), end - timedelta(days=1), end + timedelta(days=30))
    return Draft(
        f"Which date is {days} days after {_long_date(start)}? Write it as YYYY-MM-DD.",
        end.isoformat(),
        tuple(slip.isoformat() for slip in slips),
    )


def _weekday(rng: Random) -> Draft:
    day = _any_date(rng)
    return Draft(
        f"On which day of the week does {_long_date(day)} fall?",
        words.WEEKDAYS[day.weekday()],
        tuple(words.WEEKDAYS[(day.weekday() + slip) % 7] for slip in (1, 2, 6)),
    )


def _days_between(rng: Random) -> Draft:
    start, days = _any_date(rng), rng.randint(15, 200)
    return draft_number(
        f"How many days are there from {_long_date(start)} to"
        f" {_long_date(start + timedelta(days=days))}, not counting the first day?",
        days,
        days + 1,
        days - 1,
        days + 10,
    )


# Sequence completion.


def _sequence(terms: Sequence[int], *mistakes: int) -> Draft:
    *shown, following = terms
    return draft_number(
        f"Which number comes next in the sequence {', '.join(map(str, shown))}?",
        following,
        *mistakes,
    )


def _constant_step(rng: Random) -> Draft:
    start, step = rng.randint(2, 40), rng.randint(3, 19)
    terms = [start + step * place for place in range(6)]
    return _sequence(terms, terms[-1] + 1, terms[-1] + step, terms[-1] - 2)


def _constant_ratio(rng: Random) -> Draft:
    start, ratio = rng.randint(2, 9), rng.randint(2, 4)
    terms = [start * ratio**place for place in range(6)]
    return _sequence(terms, terms[-1] + terms[-2], terms[-2] * (ratio + 1), terms[-1] - ratio)


def _shifted_squares(rng: Random) -> Draft:
    first, shift = rng.randint(1, 9), rng.randint(1, 12)
    terms = [(first + place) ** 2 + shift for place in range(6)]
    return _sequence(terms, terms[-1] - shift, 2 * terms[-2] - terms[-3], terms[-1] + 2)


def _sum_of_two(rng: Random) -> Draft:
    terms = [rng.randint(1, 9), rng.randint(2, 12)]
    while len(terms) < 7:  # noqa: PLR2004 - six shown, the seventh is asked for
        terms.append(terms[-1] + terms[-2])
    return _sequence(terms, terms[-1] - 1, 2 * terms[-2], terms[-2] + terms[-4])


NUMBER_KINDS: dict[str, tuple[Callable[[Random], Draft], ...]] = {
    "arithmetic": (_boxes, _bus, _recipe, _savings, _ride),
    "units": (_to_small_unit, _to_large_unit, _mixed_units),
    "dates": (_days_after, _weekday, _days_between),
    "sequences": (_constant_step, _constant_ratio, _shifted_squares, _sum_of_two),
}
"""Each kind with the templates that take turns in making it."""
