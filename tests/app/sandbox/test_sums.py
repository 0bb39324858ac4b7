"""Little sums are answered, by a fixed rule and with the models' usual slips."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sandbox.models import BALANCED, MODELS, SimulatedModel
from app.sandbox.simulation import complete
from app.sandbox.sums import find_sum
from app.sandbox.tasks import find_task, list_task_rows

EVERY_MODEL = pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)


def final_answer(model: SimulatedModel, text: str) -> str:
    completion = complete(model, text, prompt_tokens=10, max_tokens=None)
    return completion.text.rpartition("Answer: ")[2]


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("What is 17 + 25?", "What is 17 + 25?", "42"),
        ("How much is 17 plus 25, please?", "What is 17 + 25?", "42"),
        ("17+25=", "What is 17 + 25?", "42"),
        ("Solve the task.\n\n12 − 30", "What is 12 - 30?", "-18"),  # noqa: RUF001 - a minus
        ("6 x 7", "What is 6 * 7?", "42"),
        ("6\N{MULTIPLICATION SIGN}7", "What is 6 * 7?", "42"),
        ("84 \N{DIVISION SIGN} 2", "What is 84 / 2?", "42"),
        ("2 + 3 * 4 - 1", "What is 2 + 3 * 4 - 1?", "13"),
        ("84 divided by 2", "What is 84 / 2?", "42"),
        ("10 / 4", "What is 10 / 4?", "2.50"),
        ("First 1 + 1. Then 2 TIMES 3.", "What is 2 * 3?", "6"),
        ("1 + 1, or 1 / 0?", "What is 1 + 1?", "2"),
    ],
)
def test_a_sum_is_found_and_worked_out(text: str, question: str, answer: str) -> None:
    found = find_sum(text)
    assert found is not None
    assert found[:2] == (question, answer)
    assert answer not in found.mistakes


@pytest.mark.parametrize(
    "text",
    ["on 2026-01-02", "1.5 + 2.5", "pages 10-20", "5 / 0", "C++ 17", "a1 + 2", "2 + 2x", "17", "+"],
)
def test_what_is_no_small_sum_is_left_alone(text: str) -> None:
    assert find_sum(text) is None


def test_the_first_call_that_gero_up_prints_is_answered_right_by_the_demos_winner() -> None:
    assert final_answer(MODELS["careful-large"], "Solve:\n\nWhat is 17 + 25?") == "42"


@EVERY_MODEL
def test_a_model_slips_in_sums_as_often_as_declared(model: SimulatedModel) -> None:
    sums = [(a, b) for a in range(30) for b in range(30)]
    right = [final_answer(model, f"What is {a} + {b}?") == str(a + b) for a, b in sums]
    assert sum(right) / len(right) == pytest.approx(model.accuracy, abs=0.04)


def test_a_sum_is_answered_alike_however_it_is_written() -> None:
    said = {final_answer(BALANCED, text) for text in ("8 + 9", "8 plus 9", "What is 8+9?")}
    assert len(said) == 1


@given(st.integers(0, 999_999), st.integers(0, 999_999))
def test_any_two_numbers_are_added(left: int, right: int) -> None:
    found = find_sum(f"{left} + {right}")
    assert found is not None
    assert found.answer == str(left + right)


def test_no_question_of_the_task_set_is_taken_for_a_sum() -> None:
    kinds = {task.kind for row in list_task_rows() if (task := find_task(row["question"]))}
    assert "sums" not in kinds
