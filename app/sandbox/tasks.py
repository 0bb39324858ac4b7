"""The sandbox's task set: seeded rows, the lookup of a task in a message, and sized row files."""

import functools
import re
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from app.sandbox.number_tasks import NUMBER_KINDS
from app.sandbox.sums import find_sum
from app.sandbox.text_tasks import TEXT_KINDS

SEED = "gero-sandbox-1"
"""Changing it changes every row, every simulated answer and every recorded ETag."""

ROWS_PER_KIND = 32
SIZED_ROWS_MAX_COUNT = 1_000_000

_KINDS = NUMBER_KINDS | TEXT_KINDS
_OPENING_LENGTH = 20
"""Characters of a question that the lookup hashes; no question is shorter."""

_SIZED_QUESTION = re.compile(r"On line (\d{7}) of the ledger, how much is (\d{3}) plus (\d{3})\?")


class Task(NamedTuple):
    """One question with its checkable answer, and the answers a weak model gives instead."""

    id: str
    kind: str
    question: str
    answer: str
    mistakes: tuple[str, ...]

    def row(self) -> dict[str, str]:
        """Return the task as it is published: without its mistakes."""
        return {
            "id": self.id,
            "question": self.question,
            "answer": self.answer,
            "kind": self.kind,
        }


def normalise_answer(answer: str) -> str:
    """Reduce an answer to what the most forgiving comparison would look at."""
    return "".join(character for character in answer.casefold() if character.isalnum())


def list_task_rows() -> list[dict[str, str]]:
    """List the published task rows, the same ones in the same order every time.

    The kinds alternate, so that any run of neighbouring rows is a fair sample.

    Returns:
        Rows of `id`, `question`, `answer` and `kind`, every question different.
    """
    return [task.row() for task in _tasks()]


def find_task(text: str) -> Task | None:
    """Find the last task question that occurs anywhere in a text, else a sum.

    The last one, because examples stand before the question they prepare.
    The cost grows with the text, not with the task set: a place where some
    question could start is one dictionary lookup.
    """
    openings = _tasks_by_opening()
    starts = [match.start() for match in _first_letters().finditer(text)]
    for start in reversed(starts):
        for task in openings.get(text[start : start + _OPENING_LENGTH], ()):
            if text.startswith(task.question, start):
                return task
    return _find_sized_task(text) or _find_sum_task(text)


def sized_row_line(index: int) -> bytes:
    """Write row `index` (from 0) of the sized files as a JSON line.

    Every line has the same length, so that a file's Content-Length is known
    without making the file.
    """
    left, right = 500 + index * 7919 % 500, 500 + index * 104_729 % 500
    return (
        f'{{"id":"line-{index + 1:07}","question":"On line {index + 1:07} of the ledger, how much'
        f' is {left} plus {right}?","answer":"{left + right}","kind":"ledger"}}\n'
    ).encode()


def _find_sized_task(text: str) -> Task | None:
    matches = list(_SIZED_QUESTION.finditer(text))
    if not matches:
        return None
    found = matches[-1]
    total = int(found[2]) + int(found[3])
    mistakes = tuple(str(total + slip) for slip in (-10, 1, 10, 100))
    return Task(f"line-{found[1]}", "ledger", found[0], str(total), mistakes)


def _find_sum_task(text: str) -> Task | None:
    found = find_sum(text)
    return None if found is None else Task("sum", "sums", *found)


@functools.cache
def _tasks() -> tuple[Task, ...]:
    tasks_of_kinds = [list(_draw_tasks(kind)) for kind in _KINDS]
    alternating = [task for group in zip(*tasks_of_kinds, strict=True) for task in group]
    return tuple(
        task._replace(id=f"task-{number:04}") for number, task in enumerate(alternating, start=1)
    )


@functools.cache
def _tasks_by_opening() -> dict[str, tuple[Task, ...]]:
    groups: dict[str, tuple[Task, ...]] = {}
    for task in _tasks():
        opening = task.question[:_OPENING_LENGTH]
        groups[opening] = (*groups.get(opening, ()), task)
    return groups


@functools.cache
def _first_letters() -> re.Pattern[str]:
    letters = sorted({opening[0] for opening in _tasks_by_opening()})
    return re.compile(f"[{re.escape(''.join(letters))}]")


def _draw_tasks(kind: str) -> Iterator[Task]:
    rng = Random(f"{SEED}:{kind}")  # noqa: S311 - repeatable questions, not secrets
    templates, seen = _KINDS[kind], set[str]()
    while len(seen) < ROWS_PER_KIND:
        draft = templates[len(seen) % len(templates)](rng)
        right = normalise_answer(draft.answer)
        mistakes = tuple(slip for slip in draft.mistakes if normalise_answer(slip) != right)
        if draft.question not in seen and mistakes:
            seen.add(draft.question)
            yield Task("", kind, draft.question, draft.answer, mistakes)
