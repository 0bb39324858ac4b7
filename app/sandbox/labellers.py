"""The simulated labeller: what it says of a dataset's rows, of which it knows the sandbox's own.

It may be wrong, as a model of its accuracy is; of any other row it can tell nothing, and says so.
"""

import json
import re
from typing import Any

from app.sandbox.judges import Reading, read_prompt
from app.sandbox.models import SimulatedModel
from app.sandbox.simulation import Completion, draw, finish
from app.sandbox.tasks import Task, find_task, normalise_answer
from engine.label_prompts import OPENING

_WANTED = re.compile(r'^- "(\w+)": ', re.MULTILINE)
_GOOD, _UNLABELLED, _BAD, _SPREAD = 0.8, 0.7, 0.1, 0.1


def complete_labels(
    model: SimulatedModel,
    system_text: str,
    user_text: str,
    *,
    prompt_tokens: int,
    max_tokens: int | None,
) -> Completion | None:
    """Answer a labelling prompt; None for any other prompt.

    Args:
        model: The labeller.
        system_text: The system message, which tells what is wanted.
        user_text: The user message, with the marked blocks.
        prompt_tokens: What the whole request counts as.
        max_tokens: The caller's limit, which cuts the reply off; None for the model's own.
    """
    if not system_text.startswith(OPENING):
        return None
    reading = read_prompt(user_text)
    task = find_task(reading.block("input"))
    chance, slip, pace = draw(model, task.question if task else user_text)
    labels: dict[str, Any] = {}
    if task is not None:
        is_right = chance < model.accuracy_on(task.kind)
        answer = task.answer if is_right else task.mistakes[int(slip * len(task.mistakes))]
        labels = _label(task, answer, reading, slip)
    wanted = _WANTED.findall(system_text)
    reply = json.dumps({name: labels.get(name) for name in wanted}, ensure_ascii=False)
    return finish(model, reply, pace, prompt_tokens=prompt_tokens, max_tokens=max_tokens)


def _label(task: Task, answer: str, reading: Reading, luck: float) -> dict[str, Any]:
    """Return every label of a task, as somebody sees it who thinks that *answer* is right."""
    quality = _UNLABELLED
    expected = reading.blocks.get("expected")
    if expected is not None:
        agrees = normalise_answer(expected) == normalise_answer(answer)
        quality = _GOOD if agrees else _BAD
    return {
        "expected": answer,
        "tags": ["task", task.kind],
        "quality": round(quality + _SPREAD * luck, 2),
        "rubric": f"It must come to {answer!r}; how it is worded does not matter.",
    }
