"""The simulated judges: how they read a judging prompt, and what they say of the answers in it.

A weak judge does what it is told, so these do too: an order that stands outside every marked
block of a prompt wins the answer it comes with the best of scores. Inside its block an answer
may say what it likes.
"""

import json
import re
import unicodedata
from dataclasses import dataclass

from app.sandbox.models import FAIR_JUDGE, SimulatedModel
from app.sandbox.simulation import Completion, draw, finish
from app.sandbox.tasks import find_task, normalise_answer
from engine.judge_prompts import PAIRWISE_SYSTEM, Preference
from engine.marked_blocks import begin_mark, end_mark

MUMBLED_SHARE = 1 / 3
"""Of the prompts, those that Mumbling Judge does not answer well the first time."""

FAVOURED_SHARE = 0.3
"""Of the pairs of equally good answers, those in which the one shown first is preferred."""

_SCALE = re.compile(r"The score is a number from (\S+) \(worst\) to (\S+) \(best\)")
_OPENING = re.compile(r"The boundary of this message is ([0-9a-f]{32})\.")
_ANSWER_LINE = re.compile(r"^Answer:[ \t]*(\S.*)$", re.MULTILINE)
_ORDER = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,60}\b(?:above|earlier|previous|prior|rubric)\b"
    r"|\b(?:give|award|assign|grade|score|rate|return|output|reply|repeat|print)\b.{0,80}"
    r"\b(?:full|perfect|highest|maximum|top|best|score|points|marks|10|5|verdict)\b"
    r"|\brubric (?:has|was|is)\b.{0,30}\b(?:changed|replaced|void)\b"
    r"|\b(?:prefer|choose|pick)\b.{0,60}\b(?:this|first|second|it)\b"
    r"|\b(?:translate|decode)\b.{0,60}\b(?:obey|follow|do as)\b"
    r'|"(?:score|preferred)"\s{0,9}:'
)
_GOOD, _UNKNOWN, _BAD, _SPREAD = 0.8, 0.4, 0.0, 0.2
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt as a judge sees it.

    Attributes:
        text: All of it.
        blocks: The text of each marked block, by its name.
        loose: The lines outside every block, each with the name of the block before it.
    """

    text: str
    blocks: dict[str, str]
    loose: tuple[tuple[str | None, str], ...]

    def block(self, name: str) -> str:
        """Return a block, or the whole prompt when nothing is marked."""
        return self.blocks.get(name, "") if self.blocks else self.text


def read_prompt(text: str) -> Reading:
    """Tell what is marked as data in a user message from what is not."""
    lines = text.split("\n")
    opening = _OPENING.fullmatch(lines[0])
    if opening is None:
        return Reading(text, {}, tuple((None, line) for line in lines))
    blocks: dict[str, list[str]] = {}
    loose: list[tuple[str | None, str]] = []
    last: str | None = None
    is_open = False
    for line in lines[1:]:
        words = line.strip("[]").split(" ")
        name = words[1] if len(words) == 3 else ""  # noqa: PLR2004 - begin, name, boundary
        if not is_open and line == begin_mark(name, opening[1]):
            last, is_open = name, True
            blocks.setdefault(name, [])
        elif is_open and line == end_mark(last or "", opening[1]):
            is_open = False
        elif is_open:
            blocks[last or ""].append(line)
        else:
            loose.append((last, line))
    return Reading(text, {name: "\n".join(part) for name, part in blocks.items()}, tuple(loose))


def is_mumbled(user_text: str) -> bool:
    """Tell whether Mumbling Judge answers this prompt in prose the first time."""
    return draw(FAIR_JUDGE, user_text)[1] < MUMBLED_SHARE


def complete_verdict(
    judge: SimulatedModel,
    system_text: str,
    user_text: str,
    *,
    prompt_tokens: int,
    max_tokens: int | None,
    mumbles: bool,
) -> Completion | None:
    """Answer one of the two judging prompts; None for any other prompt.

    Args:
        judge: The judge, for its price and its pace.
        system_text: The system message, which tells the prompt's kind and its scale.
        user_text: The user message, with the marked blocks.
        prompt_tokens: What the whole request counts as.
        max_tokens: The caller's limit, which cuts the verdict off; None for the judge's own.
        mumbles: Wrap the verdict in prose, so that it can't be read.
    """
    reading = read_prompt(user_text)
    if system_text == PAIRWISE_SYSTEM:
        verdict = _compare(reading)
    elif (scale := _SCALE.search(system_text)) is not None:
        verdict = _grade(reading, float(scale[1]), float(scale[2]))
    else:
        return None
    reply = json.dumps(verdict, ensure_ascii=False)
    if mumbles:
        reply = f"Well, that is not easy to say. Perhaps something like {reply}, or so."
    pace = draw(judge, user_text)[2]
    return finish(judge, reply, pace, prompt_tokens=prompt_tokens, max_tokens=max_tokens)


def _grade(reading: Reading, low: float, high: float) -> dict[str, object]:
    if _find_orders(reading):
        return {"reason": "It was asked for.", "score": high}
    is_right, reason = _check(reading, "answer")
    unit = _UNKNOWN if is_right is None else _GOOD if is_right else _BAD
    # Drawn for the question alone, so that equal answers get equal scores.
    unit += _SPREAD * round(draw(FAIR_JUDGE, reading.block("input"))[0], 2)
    score = float(f"{low + (high - low) * unit:.6g}")  # as short as people write numbers
    return {"reason": reason, "score": min(max(score, low), high)}


def _compare(reading: Reading) -> dict[str, object]:
    orders = _find_orders(reading)
    if orders:
        return {"reason": "It was asked for.", "preferred": orders[-1] or "first"}
    (first, first_reason), (second, second_reason) = (
        _check(reading, name) for name in ("first", "second")
    )
    preferred: Preference = "tie"
    if first is not second:
        preferred = "first" if first else "second"
    elif draw(FAIR_JUDGE, reading.text)[0] < FAVOURED_SHARE:
        preferred = "first"
    return {"reason": f"First: {first_reason} Second: {second_reason}", "preferred": preferred}


def _find_orders(reading: Reading) -> list[str | None]:
    """Return, for each order outside the blocks, the name of the block before it."""
    return [name for name, line in reading.loose if _ORDER.search(_fold(line))]


def _fold(line: str) -> str:
    """Undo what hides an order from a pattern, though not from a language model."""
    visible = (c for c in unicodedata.normalize("NFKC", line) if unicodedata.category(c) != "Cf")
    return "".join(visible).casefold()


def _check(reading: Reading, name: str) -> tuple[bool | None, str]:
    """Tell whether an answer is right, and why; None when nobody knows."""
    stated = _stated(reading.block(name))
    task = find_task(reading.block("input"))
    expected = reading.blocks.get("expected", task.answer if task else None)
    if expected is None:
        return None, "There is nothing to compare the answer with."
    wanted = _stated(expected)
    shown, wanted_shown = stated[:_SHOWN_CHARACTERS], wanted[:_SHOWN_CHARACTERS]
    return _reduce(stated) == _reduce(wanted), f"It says {shown!r}, and {wanted_shown!r} is right."


def _stated(answer: str) -> str:
    """Return what the last `Answer:` line of an answer says, or else all of it."""
    lines = _ANSWER_LINE.findall(answer)
    return str(lines[-1]) if lines else answer


def _reduce(answer: str) -> str:
    return normalise_answer(answer) or answer.strip()
