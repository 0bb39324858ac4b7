"""Task templates about text: multiple choice, extraction, strings, JSON and sorting."""

import json
import math
import string
from collections.abc import Callable, Sequence
from fractions import Fraction
from random import Random

from app.sandbox import task_words as words
from app.sandbox.task_drafts import Draft, draft_number, swap_neighbours

# Multiple choice.


def _choice(rng: Random, stem: str, right: str, wrong: Sequence[str]) -> Draft:
    options = [right, *wrong]
    rng.shuffle(options)
    letters = string.ascii_uppercase[: len(options)]
    lines = "\n".join(
        f"{letter}) {option}" for letter, option in zip(letters, options, strict=True)
    )
    answer = letters[options.index(right)]
    return Draft(
        f"{stem} Answer with the letter.\n{lines}",
        answer,
        tuple(letter for letter in letters if letter != answer),
    )


def _prime(rng: Random) -> Draft:
    odd = range(21, 200, 2)
    primes = [n for n in odd if all(n % factor for factor in range(3, math.isqrt(n) + 1, 2))]
    composites = sorted(set(odd) - set(primes))
    return _choice(
        rng,
        "Which of these numbers is prime?",
        str(rng.choice(primes)),
        [str(n) for n in rng.sample(composites, 3)],
    )


def _first_in_alphabet(rng: Random) -> Draft:
    first, *others = sorted(rng.sample(words.WORDS, 4))
    return _choice(rng, "Which of these words comes first in the alphabet?", first, others)


def _capital(rng: Random) -> Draft:
    (country, capital), *others = rng.sample(words.CAPITALS, 4)
    return _choice(
        rng, f"Which city is the capital of {country}?", capital, [city for _, city in others]
    )


def _largest_fraction(rng: Random) -> Draft:
    fractions = {Fraction(rng.randint(1, 8), rng.randint(9, 15)) for _ in range(20)}
    largest, *others = sorted(rng.sample(sorted(fractions), 4), reverse=True)
    return _choice(
        rng, "Which of these fractions is the largest?", str(largest), [str(f) for f in others]
    )


# Extraction from a short text.


def _order_number(rng: Random) -> Draft:
    name, city, thing = rng.choice(words.NAMES), rng.choice(words.CITIES), rng.choice(words.THINGS)
    order, phone, missing = rng.randint(10_000, 99_999), rng.randint(100, 999), rng.randint(2, 9)
    return draft_number(
        f'What is the order number in this message? "Hello, this is {name} from {city}. {missing}'
        f" {thing} were missing from order {order}; please call me back on extension"
        f' {phone}."',
        order,
        phone,
        missing,
        order + 9,
    )


def _meeting_time(rng: Random) -> Draft:
    old_hour, new_hour = rng.sample(range(9, 17), 2)
    old = f"{old_hour:02}:{rng.choice((0, 15, 30)):02}"
    new = f"{new_hour:02}:{rng.choice((15, 30, 45)):02}"
    room = rng.randint(101, 420)
    return Draft(
        "At what time does the meeting start, according to this note?"
        f' "The {rng.choice(words.MEETINGS)} meeting in room {room} moves from {old} to {new}.'
        f' Please bring the {rng.choice(words.PROPS)}."',
        new,
        (old, str(room)),
    )


def _who_brings(rng: Random) -> Draft:
    (host, driver, bringer), prop = rng.sample(words.NAMES, 3), rng.choice(words.PROPS)
    return Draft(
        f'Who brings the {prop}, according to this text? "{host} opens the'
        f" {rng.choice(words.MEETINGS)} meeting in {rng.choice(words.CITIES)}. {driver} drives"
        f' there, and {bringer} takes care of the {prop}."',
        bringer,
        (host, driver),
    )


def _invoice_total(rng: Random) -> Draft:
    count, price, delivery = rng.randint(3, 20), rng.randint(4, 30), rng.randint(5, 19)
    total = count * price + delivery
    return draft_number(
        f'Which total does this invoice state? "{count} {rng.choice(words.THINGS)} at {price} euros'
        f' each, delivery to {rng.choice(words.CITIES)} {delivery} euros, total {total} euros."',
        total,
        count * price,
        delivery,
        price,
    )


# String operations.


def _reverse(rng: Random) -> Draft:
    word = rng.choice(words.WORDS)
    backwards = word[::-1]
    slips = ["".join(swap_neighbours(backwards, rng)) for _ in range(3)]
    return Draft(f'Write the word "{word}" backwards.', backwards, (*slips, backwards[1:]))


def _count_letter(rng: Random) -> Draft:
    phrase = " ".join(rng.sample(words.WORDS, 4))
    letter = rng.choice(sorted({c for c in phrase if phrase.count(c) > 1 and c != " "}))
    count = phrase.count(letter)
    return draft_number(
        f'How many times does the letter "{letter}" occur in "{phrase}"?',
        count,
        count - 1,
        count + 1,
    )


def _initials(rng: Random) -> Draft:
    chosen = rng.sample(words.WORDS, rng.randint(4, 6))
    initials = [word[0].upper() for word in chosen]
    return Draft(
        f"Write the first letters of these words as one word in capitals: {', '.join(chosen)}.",
        "".join(initials),
        ("".join(initials[:-1]), "".join(swap_neighbours(initials, rng)), "".join(initials[1:])),
    )


def _without_vowels(rng: Random) -> Draft:
    word = rng.choice(words.WORDS)
    rest = "".join(letter for letter in word if letter not in "aeiou")
    return Draft(
        f'Which letters remain of "{word}" when a, e, i, o and u are removed?',
        rest,
        (rest[:-1], word[0] + rest, "".join(swap_neighbours(rest, rng))),
    )


# Writing JSON.


def _json(question: str, value: dict[str, str | int], *mistakes: dict[str, str | int]) -> Draft:
    def compact(item: dict[str, str | int]) -> str:
        return json.dumps(item, separators=(",", ":"))

    return Draft(question, compact(value), tuple(map(compact, mistakes)))


def _person_json(rng: Random) -> Draft:
    name, age, city = rng.choice(words.NAMES), rng.randint(18, 80), rng.choice(words.CITIES)
    return _json(
        'Write this as a JSON object with the keys "name", "age" and "city", in that order and'
        f" without spaces: {name} is {age} years old and lives in {city}.",
        {"name": name, "age": age, "city": city},
        {"name": name, "age": age + 1, "city": city},
        {"name": name, "years": age, "city": city},
        {"name": name, "age": age},
    )


def _stock_json(rng: Random) -> Draft:
    thing, count = rng.choice(words.THINGS), rng.randint(11, 99)
    sold = rng.randint(2, 9)
    return _json(
        'Write the stock as a JSON object with the keys "item" and "count", in that order and'
        f" without spaces: of {count} {thing} in the shop, {sold} were sold.",
        {"item": thing, "count": count - sold},
        {"item": thing, "count": count},
        {"item": thing, "count": count + sold},
        {"item": thing, "stock": count - sold},
    )


# Sorting.


def _sort_words(rng: Random) -> Draft:
    chosen = rng.sample(words.WORDS, 5)
    ordered = sorted(chosen)
    slips = (swap_neighbours(ordered, rng), swap_neighbours(ordered, rng), ordered[:-1])
    return Draft(
        f"Put these words in alphabetical order, separated by commas: {', '.join(chosen)}.",
        ", ".join(ordered),
        tuple(", ".join(slip) for slip in slips),
    )


def _sort_numbers(rng: Random) -> Draft:
    chosen = rng.sample(range(100, 1000), 5)
    ordered = [str(number) for number in sorted(chosen)]
    slips = (swap_neighbours(ordered, rng), swap_neighbours(ordered, rng), ordered[::-1])
    return Draft(
        "Put these numbers in ascending order, separated by commas:"
        f" {', '.join(map(str, chosen))}.",
        ", ".join(ordered),
        tuple(", ".join(slip) for slip in slips),
    )


TEXT_KINDS: dict[str, tuple[Callable[[Random], Draft], ...]] = {
    "choice": (_prime, _first_in_alphabet, _capital, _largest_fraction),
    "extraction": (_order_number, _meeting_time, _who_brings, _invoice_total),
    "strings": (_reverse, _count_letter, _initials, _without_vowels),
    "json": (_person_json, _stock_json),
    "sorting": (_sort_words, _sort_numbers),
}
"""Each kind with the templates that take turns in making it."""
