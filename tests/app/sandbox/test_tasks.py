"""The task rows: complete, unique, right, and found again in a message."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sandbox.task_words import CAPITALS, UNITS, WEEKDAYS
from app.sandbox.tasks import (
    ROWS_PER_KIND,
    find_task,
    list_task_rows,
    normalise_answer,
    sized_row_line,
)

ROWS = list_task_rows()
QUESTIONS = [row["question"] for row in ROWS]


def integers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', text)


def dates(text: str) -> list[datetime]:
    found = re.findall(r"\d+ [A-Z][a-z]+ \d{4}", text)
    return [datetime.strptime(day, "%d %B %Y").replace(tzinfo=UTC) for day in found]


def solve_arithmetic(question: str) -> str:
    numbers = integers(question)
    if "boxes" in question:
        boxes, each, given_away = numbers
        return str(boxes * each - given_away)
    if "bus" in question:
        start, off, first_on, second_on = numbers
        return str(start - off + first_on + second_on)
    if "recipe" in question:
        people, grams, guests = numbers
        return str(Fraction(grams * guests, people))
    if "saves" in question:
        weekly, target = numbers
        return str(math.ceil(Fraction(target, weekly)))
    morning, fast, afternoon, slow = numbers
    return str(morning * fast + afternoon * slow)


def solve_units(question: str) -> str:
    factors = {(small, large): factor for small, large, factor in UNITS}
    names = {name for pair in factors for name in pair}
    unit_words = [word for word in re.findall(r"[a-z]+", question) if word in names]
    factor = next(
        factors[pair]
        for one, other in pairwise(unit_words)
        for pair in ((one, other), (other, one))
        if pair in factors
    )
    numbers = integers(question)
    if question.startswith("Convert"):
        return str(Fraction(numbers[0], factor))
    return str(numbers[0] * factor + sum(numbers[1:]))


def solve_dates(question: str) -> str:
    days = dates(question)
    if "weekday" in question or "day of the week" in question:
        return WEEKDAYS[days[0].weekday()]
    if "How many days" in question:
        return str((days[1] - days[0]).days)
    end = days[0].timestamp() + integers(question)[0] * 86_400
    return datetime.fromtimestamp(end, UTC).date().isoformat()


def solve_sequences(question: str) -> str:
    terms = integers(question)
    steps = [later - earlier for earlier, later in pairwise(terms)]
    if len(set(steps)) == 1:
        return str(terms[-1] + steps[-1])
    if len({Fraction(later, earlier) for earlier, later in pairwise(terms)}) == 1:
        return str(terms[-1] * terms[-1] // terms[-2])
    if {later - earlier for earlier, later in pairwise(steps)} == {2}:
        return str(terms[-1] + steps[-1] + 2)
    assert all(terms[at] == terms[at - 1] + terms[at - 2] for at in range(2, len(terms)))
    return str(terms[-1] + terms[-2])


def solve_choice(question: str) -> str:
    options = dict(re.findall(r"^([A-D])\) (.+)$", question, re.MULTILINE))
    if "prime" in question:
        best = [
            letter
            for letter, number in options.items()
            if all(int(number) % factor for factor in range(2, int(number)))
        ]
    elif "alphabet" in question:
        best = [letter for letter, word in options.items() if word == min(options.values())]
    elif "fractions" in question:
        largest = max(map(Fraction, options.values()))
        best = [letter for letter, number in options.items() if Fraction(number) == largest]
    else:
        country = re.findall(r"capital of (\w+)\?", question)[0]
        best = [letter for letter, city in options.items() if city == dict(CAPITALS)[country]]
    (letter,) = best
    return str(letter)


def solve_extraction(question: str) -> str:
    (text,) = quoted(question)
    patterns = {
        "What is the order number": r"order (\d+);",
        "At what time does the me": r"to (\d\d:\d\d)\.",
        "Which total does this in": r"total (\d+) euros",
    }
    match = re.search(patterns.get(question[:24], r"and (\w+) takes care"), text)
    assert match is not None
    return match[1]


def solve_strings(question: str) -> str:
    if "backwards" in question:
        return quoted(question)[0][::-1]
    if "How many times" in question:
        letter, phrase = quoted(question)
        return str(phrase.count(letter))
    if "first letters" in question:
        return "".join(word[0] for word in question.split(": ")[1].split(", ")).upper()
    return re.sub("[aeiou]", "", quoted(question)[0])


def solve_json(question: str) -> str:
    subject = question.split(": ")[1]
    if "stock" in question:
        count, sold = integers(subject)
        item = subject.split()[2]
        return json.dumps({"item": item, "count": count - sold}, separators=(",", ":"))
    name, city = subject.split()[0], subject.rstrip(".").split()[-1]
    person = {"name": name, "age": integers(subject)[0], "city": city}
    return json.dumps(person, separators=(",", ":"))


def solve_sorting(question: str) -> str:
    items = question.rstrip(".").split(": ")[1].split(", ")
    return ", ".join(
        sorted(items, key=lambda item: (int(item), "") if item.isdigit() else (0, item))
    )


SOLVERS: dict[str, Callable[[str], str]] = {
    "arithmetic": solve_arithmetic,
    "units": solve_units,
    "dates": solve_dates,
    "sequences": solve_sequences,
    "choice": solve_choice,
    "extraction": solve_extraction,
    "strings": solve_strings,
    "json": solve_json,
    "sorting": solve_sorting,
}


def test_there_are_at_least_240_rows_spread_evenly_over_nine_kinds() -> None:
    assert Counter(row["kind"] for row in ROWS) == dict.fromkeys(SOLVERS, ROWS_PER_KIND)
    assert len(ROWS) == 288


def test_every_row_has_exactly_the_published_fields_and_a_numbered_id() -> None:
    assert {tuple(row) for row in ROWS} == {("id", "question", "answer", "kind")}
    assert [row["id"] for row in ROWS] == [f"task-{n:04}" for n in range(1, 289)]


def test_no_question_repeats_or_contains_another() -> None:
    assert len(set(QUESTIONS)) == len(QUESTIONS)
    assert [a for a in QUESTIONS for b in QUESTIONS if a != b and b in a] == []


def test_the_rows_are_the_same_every_time() -> None:
    assert list_task_rows() == ROWS


@pytest.mark.parametrize("kind", SOLVERS)
def test_every_answer_is_what_its_question_asks_for(kind: str) -> None:
    rows = [row for row in ROWS if row["kind"] == kind]
    solved = {row["id"]: SOLVERS[kind](row["question"]) for row in rows}
    assert solved == {row["id"]: row["answer"] for row in rows}


def test_no_mistake_equals_the_answer_in_any_forgiving_comparison() -> None:
    for row in ROWS:
        task = find_task(row["question"])
        assert task is not None
        assert task.mistakes
        assert normalise_answer(task.answer) not in map(normalise_answer, task.mistakes)
        if row["answer"].isdigit():
            assert int(row["answer"]) not in map(int, task.mistakes)


@given(before=st.text(), row=st.sampled_from(ROWS), after=st.text())
def test_a_question_is_found_whatever_stands_around_it(
    before: str, row: dict[str, str], after: str
) -> None:
    task = find_task(before + row["question"] + after)
    assert task is not None
    assert task.row() == row


def test_the_last_of_several_questions_is_the_one_that_is_asked() -> None:
    task = find_task(f"{QUESTIONS[5]}\nAnswer: 4\n\n{QUESTIONS[9]}\nAnswer:")
    assert task is not None
    assert task.question == QUESTIONS[9]


@given(st.text())
def test_a_text_without_a_question_finds_nothing(text: str) -> None:
    assert find_task(text) is None


@given(st.integers(0, 999_999))
def test_a_sized_row_is_a_fixed_length_line_that_the_models_can_answer(index: int) -> None:
    line = sized_row_line(index)
    row = orjson.loads(line)
    task = find_task(f"Please answer. {row['question']} Thank you.")
    assert task is not None
    assert task.row() == row
    assert str(sum(integers(row["question"])[1:])) == row["answer"]
    assert len(line) == len(sized_row_line(0))
    assert line.endswith(b"}\n")
