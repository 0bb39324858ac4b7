"""What the answers of candidates say of the rows that they answered, and what to do about it."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from engine.edits import EditField
from engine.matching import MatchMode, comparable_form, extract_answer

RIGHT: Final = 0.9
"""From this score on an answer counts as right; exact scores are 0 or 1."""
WRONG: Final = 0.5
"""Below this score an answer counts as wrong."""
FILL_SCORE: Final = 0.8
"""A judge must score an answer as high as this for it to become what a row expects."""
AGREEING: Final = 2
"""So many candidates at least, and more than half of those that answered, have to agree."""
EASY_WEIGHT: Final = 0.25
"""Of a row that every candidate gets right: it tells nobody apart, and is seldom drawn."""
LARGEST_WEIGHT: Final = 3.0
"""Of a row that half of the candidates get right and half wrong."""
DISPUTED_TAG: Final = "disputed"
_SHOWN_CHARACTERS: Final = 2_000


class ChangeKind(StrEnum):
    """Why a row is to be changed."""

    FILL = "fill"
    FLAG = "flag"
    EASY = "easy"
    SEPARATES = "separates"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one candidate answered to a row.

    Attributes:
        mean_score: The candidate's over the whole run, by which the best of equals is told.
        output: None when the call failed.
        score: 0 to 1; None when nothing could score it.
    """

    candidate_id: str
    mean_score: float
    output: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """A row, and what is known of the answers to it.

    Attributes:
        was_easy: Whether every answer to it in the other recent runs was right; True when there
            are none.
    """

    expected: str | None
    tags: Sequence[str]
    weight: float
    answers: Sequence[Answer]
    was_easy: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """What one field of a row is proposed to be, and why.

    Attributes:
        evidence: JSON-ready.
    """

    kind: ChangeKind
    field: EditField
    old: Any
    new: Any
    evidence: Mapping[str, Any]


def propose_changes(
    row: AnsweredRow, *, is_judged: bool, match: MatchMode, extract: str | None
) -> list[Change]:
    """Return what a row's answers say is to be changed about it.

    - A row that expects nothing gets what it should expect: of answers that a judge scored, the
      best, if it is good enough; else what more than half of the candidates agree on.
    - A row where more than half of the candidates agree, and are wrong, is tagged as disputed:
      the expected output may be what is wrong. A person has to say.
    - A row that every candidate gets right, here and in recent runs, is weighted down; one that
      some get right and some wrong is weighted up, the more the nearer to half.

    Args:
        row: The row and its answers.
        is_judged: Whether a judge scored the answers; else they were compared with `expected`.
        match: How answers are compared.
        extract: What is taken out of an answer before; see `engine.matching.score_answer`.
    """
    agreed = _agreement(row.answers, match, extract)
    changes = []
    if row.expected is None:
        changes += _fill(row, agreed, is_judged=is_judged, extract=extract)
    elif agreed is not None and all((answer.score or 0) < WRONG for answer in agreed):
        changes += _flag(row, agreed)
    if row.expected is not None or is_judged:
        changes += _weigh(row)
    return changes


def _agreement(
    answers: Sequence[Answer], match: MatchMode, extract: str | None
) -> list[Answer] | None:
    """Return the answers that more than half agree on, the best candidate's first."""
    forms: dict[Hashable, list[Answer]] = defaultdict(list)
    answered = [answer for answer in answers if answer.output is not None]
    for answer in answered:
        form = comparable_form(answer.output or "", match=match, extract=extract)
        if form is not None:
            forms[form].append(answer)
    largest = max(forms.values(), key=len, default=[])
    if len(largest) < AGREEING or len(largest) * 2 <= len(answered):
        return None
    return sorted(largest, key=lambda answer: (-answer.mean_score, answer.candidate_id))


def _fill(
    row: AnsweredRow, agreed: Sequence[Answer] | None, *, is_judged: bool, extract: str | None
) -> list[Change]:
    if is_judged:
        scored = [answer for answer in row.answers if answer.score is not None and answer.output]
        best = max(
            scored,
            key=lambda answer: (answer.score or 0, answer.mean_score, answer.candidate_id),
            default=None,
        )
        if best is None or (best.score or 0) < FILL_SCORE:
            return []
        evidence = {"score": best.score, "candidate_id": best.candidate_id, "of": len(scored)}
        return [Change(ChangeKind.FILL, EditField.EXPECTED, None, best.output, evidence)]
    if agreed is None:
        return []
    value = extract_answer(agreed[0].output or "", extract)
    return [Change(ChangeKind.FILL, EditField.EXPECTED, None, value, _told(row.answers, agreed))]


def _flag(row: AnsweredRow, agreed: Sequence[Answer]) -> list[Change]:
    if DISPUTED_TAG in row.tags:
        return []
    evidence = {**_told(row.answers, agreed), "expected": _shown(row.expected)}
    tags = [*row.tags, DISPUTED_TAG]
    return [Change(ChangeKind.FLAG, EditField.TAGS, list(row.tags), tags, evidence)]


def _told(answers: Sequence[Answer], agreed: Sequence[Answer]) -> dict[str, Any]:
    return {
        "answer": _shown(agreed[0].output),
        "agreeing": len(agreed),
        "of": sum(answer.output is not None for answer in answers),
        "candidate_ids": [answer.candidate_id for answer in agreed],
    }


def _shown(text: str | None) -> str | None:
    return None if text is None else text[:_SHOWN_CHARACTERS]


def _weigh(row: AnsweredRow) -> list[Change]:
    scores = [answer.score for answer in row.answers if answer.score is not None]
    if not scores:
        return []
    share = sum(score >= RIGHT for score in scores) / len(scores)
    evidence = {"right": round(share, 4), "of": len(scores)}
    spread = 4 * share * (1 - share)  # of a share, its variance over the largest there is
    kind, weight = ChangeKind.NEUTRAL, 1.0
    if share == 1 and row.was_easy:
        kind, weight = ChangeKind.EASY, EASY_WEIGHT
    elif spread > 0:
        kind, weight = ChangeKind.SEPARATES, round(1 + (LARGEST_WEIGHT - 1) * spread, 2)
    if weight == row.weight:
        return []
    return [Change(kind, EditField.WEIGHT, row.weight, weight, evidence)]
