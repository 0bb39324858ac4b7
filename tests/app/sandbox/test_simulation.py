"""The simulated models: repeatable, as good as they are said to be, and honestly billed."""

import re
from decimal import Decimal
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sandbox.models import BALANCED, MODELS, SimulatedModel, list_catalogue
from app.sandbox.simulation import Completion, complete, count_tokens
from app.sandbox.tasks import find_task, list_task_rows, normalise_answer

ROWS = list_task_rows()
EVERY_MODEL = pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)


def answer(model: SimulatedModel, question: str, max_tokens: int | None = None) -> Completion:
    return complete(model, question, prompt_tokens=10, max_tokens=max_tokens)


def final_answer(completion: Completion) -> str:
    return completion.text.rpartition("Answer: ")[2]


def share_right(model: SimulatedModel) -> float:
    right = [final_answer(answer(model, row["question"])) == row["answer"] for row in ROWS]
    return sum(right) / len(right)


@EVERY_MODEL
def test_a_model_is_right_about_as_often_as_declared(model: SimulatedModel) -> None:
    declared = sum(model.accuracy_on(row["kind"]) for row in ROWS) / len(ROWS)
    assert share_right(model) == pytest.approx(declared, abs=0.04)


def test_the_models_rank_in_the_order_they_are_listed() -> None:
    shares = [share_right(model) for model in MODELS.values()]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) == len(shares)


@EVERY_MODEL
def test_a_wrong_answer_is_one_of_the_plausible_mistakes(model: SimulatedModel) -> None:
    for row in ROWS:
        given_answer = final_answer(answer(model, row["question"]))
        task = find_task(row["question"])
        assert task is not None
        if given_answer != row["answer"]:
            assert given_answer in task.mistakes
            assert normalise_answer(given_answer) != normalise_answer(row["answer"])


@EVERY_MODEL
def test_nothing_before_the_answer_line_could_be_taken_for_an_answer(
    model: SimulatedModel,
) -> None:
    for row in ROWS:
        *workings, last_line = answer(model, row["question"]).text.split("\n")
        assert last_line.startswith("Answer: ")
        assert len(workings) == model.wordiness
        assert re.findall(r"\d|\b[A-Z]\b", " ".join(workings)) == []


@EVERY_MODEL
def test_latencies_scatter_around_the_declared_median(model: SimulatedModel) -> None:
    latencies_ms = [answer(model, row["question"]).latency_ms for row in ROWS]
    assert median(latencies_ms) == pytest.approx(model.latency_median_ms, rel=0.15)
    assert min(latencies_ms) > 0
    assert len(set(latencies_ms)) == len(ROWS)


@given(st.sampled_from(list(MODELS.values())), st.text())
def test_the_same_message_always_gets_the_same_answer(model: SimulatedModel, text: str) -> None:
    assert answer(model, text) == answer(model, text)


def test_the_answer_depends_on_the_question_and_not_on_the_prompt_around_it() -> None:
    question = ROWS[0]["question"]
    assert answer(BALANCED, question) == answer(BALANCED, f"Be brief.\n\n{question}\n\nGo on.")


def test_a_stranger_is_told_that_the_model_is_simulated() -> None:
    assert answer(BALANCED, "Who are\nyou?").text == (
        "sandbox/balanced-medium is a simulated model and knows only the sandbox's own tasks and"
        ' small sums. Your message begins: "Who are you?".\nAnswer: unknown'
    )


@given(st.sampled_from(list(MODELS.values())), st.sampled_from(ROWS), st.integers(1, 400))
def test_max_tokens_cuts_the_answer_and_says_so(
    model: SimulatedModel, row: dict[str, str], max_tokens: int
) -> None:
    whole, cut = answer(model, row["question"]), answer(model, row["question"], max_tokens)
    assert cut.text == whole.text[: 4 * max_tokens]
    assert cut.completion_tokens == min(max_tokens, whole.completion_tokens)
    assert cut.finish_reason == ("stop" if cut.text == whole.text else "length")


@given(st.text())
def test_a_token_is_four_characters(text: str) -> None:
    assert 4 * count_tokens(text) >= len(text) > 4 * (count_tokens(text) - 1)


def test_the_cost_is_tokens_times_price_exactly() -> None:
    completion = complete(BALANCED, "Hello", prompt_tokens=123, max_tokens=7)
    assert completion.cost_usd == 123 * Decimal("0.0000008") + 7 * Decimal("0.000004")


def test_every_model_says_that_it_is_a_simulation() -> None:
    for entry in list_catalogue():
        assert entry["id"].startswith("sandbox/")
        assert entry["name"].endswith("(simulated)")
        assert "simulation" in entry["description"]
