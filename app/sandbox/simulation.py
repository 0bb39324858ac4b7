"""What a simulated model says, and what that costs and takes: pure and repeatable."""

import math
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from itertools import cycle, islice
from statistics import NormalDist

from app.sandbox.models import SimulatedModel
from app.sandbox.tasks import SEED, Task, find_task
from app.sandbox.tools import ToolCall

CHARACTERS_PER_TOKEN = 4
"""The sandbox's whole tokenizer, so that anyone can recompute a token count."""

_STANDARD_NORMAL = NormalDist()

# No digit and no lone capital letter: an evaluation that looks for a number or
# an option letter must find the one on the answer line.
_WORKINGS = {
    "arithmetic": "Taking the quantities in the order of the story.",
    "units": "Going by the factor between the two units.",
    "dates": "Counting along the calendar, month by month.",
    "sequences": "Looking at how each term follows from the one before.",
    "choice": "Comparing the options one after the other.",
    "extraction": "Reading the text for the part that was asked about.",
    "strings": "Going through it letter by letter.",
    "json": "Putting the keys in the order that was asked for.",
    "sorting": "Comparing the items pair by pair.",
    "ledger": "Adding the two figures of that line.",
    "sums": "Working it out from left to right, products first.",
}
_MUSINGS = (
    "Let us see what is being asked here before rushing to any conclusion.",
    "There is more than one way to look at this, and each deserves some thought.",
    "One could start from the end as well, which sometimes helps.",
    "That seems reasonable, although it is worth checking once more.",
    "Having checked, there is nothing that speaks against it.",
)


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer with what a provider would bill and how long it would take."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    latency_ms: float
    tool_calls: tuple[ToolCall, ...] = ()


def count_tokens(text: str) -> int:
    """Count the tokens of a text, the last one possibly incomplete."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def complete(
    model: SimulatedModel, text: str, *, prompt_tokens: int, max_tokens: int | None
) -> Completion:
    """Answer a message as the model would: the same message always gets the same answer.

    Args:
        model: The simulated model that answers.
        text: The last user message.
        prompt_tokens: What the whole request counts as.
        max_tokens: The caller's limit, which cuts the answer off; None for the model's own.
    """
    task = find_task(text)
    chance, slip, pace = draw(model, task.question if task else text)
    answer = _answer_task(model, task, chance, slip) if task else _answer_stranger(model, text)
    return finish(model, answer, pace, prompt_tokens=prompt_tokens, max_tokens=max_tokens)


def finish(
    model: SimulatedModel, answer: str, pace: float, *, prompt_tokens: int, max_tokens: int | None
) -> Completion:
    """Cut an answer off at the limit, and work out what it costs and how long it takes.

    Args:
        model: The simulated model that answers.
        answer: All that it would say.
        pace: Where in its latencies this one lies, strictly between 0 and 1.
        prompt_tokens: What the whole request counts as.
        max_tokens: The caller's limit, which cuts the answer off; None for the model's own.
    """
    limit = min(max_tokens or model.max_completion_tokens, model.max_completion_tokens)
    kept = answer[: limit * CHARACTERS_PER_TOKEN]
    completion_tokens = count_tokens(kept)
    return Completion(
        text=kept,
        finish_reason="stop" if kept == answer else "length",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=(
            prompt_tokens * model.prompt_price_usd + completion_tokens * model.completion_price_usd
        ),
        latency_ms=model.latency_median_ms
        * math.exp(model.latency_spread * _STANDARD_NORMAL.inv_cdf(pace)),
    )


def draw(model: SimulatedModel, text: str) -> tuple[float, float, float]:
    """Draw three independent numbers strictly between 0 and 1 for this model and text."""
    digest = blake2b(f"{SEED}|{model.id}|{text}".encode(errors="replace"), digest_size=12).digest()
    first, second, third = (int.from_bytes(digest[at : at + 4]) for at in (0, 4, 8))
    scale = 1 / 2**32
    return (first + 0.5) * scale, (second + 0.5) * scale, (third + 0.5) * scale


def _answer_task(model: SimulatedModel, task: Task, chance: float, slip: float) -> str:
    if chance < model.accuracy_on(task.kind):
        answer = task.answer
    else:
        answer = task.mistakes[int(slip * len(task.mistakes))]
    sentences = islice(cycle((_WORKINGS[task.kind], *_MUSINGS)), model.wordiness)
    return "\n".join((*sentences, f"Answer: {answer}"))


def _answer_stranger(model: SimulatedModel, text: str) -> str:
    opening = " ".join(text[:400].split()[:12])
    return (
        f"{model.id} is a simulated model and knows only the sandbox's own tasks and small sums."
        f' Your message begins: "{opening}".\nAnswer: unknown'
    )
