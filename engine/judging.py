"""What a judge model's reply amounts to: read strictly, put together, named by its content."""

import hashlib
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.canonical import canonical_json
from engine.json_replies import UNSTORABLE, ReplyError, read_json_object, shown
from engine.judge_prompts import Preference, Question, Scale

REASON_MAX_CHARACTERS = 2_000
"""Kept of a reason; the rest is cut off."""

_PREFERENCES: Mapping[object, Preference] = {"first": "first", "second": "second", "tie": "tie"}
_LEADING_LETTERS = re.compile(r"[a-z]+")


class VerdictError(ValueError):
    """A reply that is no verdict; the text says why."""


@dataclass(frozen=True, slots=True)
class ScoreVerdict:
    """What a judge said of one answer.

    Attributes:
        score: On the scale that it was asked for.
        reason: Why, in at most `REASON_MAX_CHARACTERS`.
    """

    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class PreferenceVerdict:
    """What a judge said of two answers.

    Attributes:
        preferred: By position in the prompt.
        reason: Why, in at most `REASON_MAX_CHARACTERS`.
    """

    preferred: Preference
    reason: str


def read_score(text: str, scale: Scale) -> ScoreVerdict:
    """Read the reply to `score_messages`.

    The whole reply must be one JSON object of `reason` and `score`; white space and one code
    fence may surround it. So a reply that repeats a verdict which an answer made up, beside the
    judge's own, is refused rather than taken for either.

    Args:
        text: The reply.
        scale: The scale that was asked for.

    Returns:
        The verdict.

    Raises:
        VerdictError: The reply is anything else, or its score is not a number on the scale.
    """
    verdict = _read_verdict(text, "score")
    score = verdict["score"]
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise VerdictError(f"score must be a number, not {shown(score)}")
    if not scale.low <= score <= scale.high:
        raise VerdictError(f"score {shown(score)} is not from {scale.low} to {scale.high}")
    return ScoreVerdict(float(score), _read_reason(verdict))


def read_preference(text: str) -> PreferenceVerdict:
    """Read the reply to `pairwise_messages`, as strictly as `read_score` does.

    Args:
        text: The reply.

    Returns:
        The verdict.

    Raises:
        VerdictError: The reply is not one JSON object of `reason` and `preferred`, or prefers
            something other than `first`, `second` or `tie`.
    """
    verdict = _read_verdict(text, "preferred")
    preferred = verdict["preferred"]
    if not isinstance(preferred, str) or preferred not in _PREFERENCES:
        raise VerdictError(f"preferred must be first, second or tie, not {shown(preferred)}")
    return PreferenceVerdict(_PREFERENCES[preferred], _read_reason(verdict))


def combine_orders(forward: Preference, backward: Preference) -> Preference:
    """Put together what a judge said of the same two answers, shown in both orders.

    Args:
        forward: The reply when answer A was shown first and B second.
        backward: The reply when B was shown first and A second, as it was given: its `first`
            is B.

    Returns:
        `first` when A was preferred both times, `second` when B was, and otherwise `tie`.

    Source: L. Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS
    (2023), section 3.4: a win needs both orders, and whatever is inconsistent is a tie.
    """
    match forward, backward:
        case "first", "second":
            return "first"
        case "second", "first":
            return "second"
        case _:
            return "tie"


def combine_votes(scores: Sequence[float]) -> float:
    """Put together several scores that a judge gave the same answer: their mean.

    A median or a majority throws away how far apart the votes are, and what a judge can't
    decide between 3 and 4 is best told as 3.5. A single wild vote is limited by the scale.

    Args:
        scores: At least one score, in any order.

    Returns:
        The mean, the same for every order of the scores.

    Raises:
        ValueError: There are no scores, or one is not finite.

    Source: V. Wang, M. J. Q. Zhang and E. Choi, "Improving LLM-as-a-Judge Inference with the
    Judgment Distribution", Findings of EMNLP (2025), arXiv:2503.03064; and Y. Liu et al.,
    "G-Eval", EMNLP (2023), arXiv:2303.16634, whose score is the mean of sampled scores.
    """
    if not scores:
        raise ValueError("there must be at least one score")
    if not all(map(math.isfinite, scores)):
        raise ValueError("every score must be finite")
    return float(statistics.mean(scores))  # sums exactly, so the order of votes can't matter


def verdict_key(
    *,
    judge: str,
    prompt_version: str,
    params: Mapping[str, Any] | None,
    question: Question,
    answers: Sequence[str],
    scale: Scale | None,
    vote: int,
) -> bytes:
    """Name a verdict by everything that it depends on, so that nothing is judged twice.

    Args:
        judge: The judge model's id.
        prompt_version: `SCORE_PROMPT_VERSION` or `PAIRWISE_PROMPT_VERSION`.
        params: What is sent beside the messages, such as the temperature; None for nothing.
        question: What was asked.
        answers: The one answer, or the two in the order in which they were shown.
        scale: The scale; None for a comparison.
        vote: Which of several votes it is, from 0.

    Returns:
        32 bytes.

    Raises:
        ValueError: JSON can't say it: a text with an unpaired surrogate, a parameter that is
            not a JSON value.
    """
    content = {
        "judge": judge,
        "prompt_version": prompt_version,
        "params": dict(params or {}),
        "question": question.blocks(),
        "answers": list(answers),
        "scale": None if scale is None else [float(scale.low), float(scale.high)],
        "vote": vote,
    }
    return hashlib.blake2b(canonical_json(content), digest_size=32).digest()


def choose_judge(preferences: Sequence[str], candidate_models: Sequence[str | None]) -> str | None:
    """Choose a judge that is no relative of any candidate.

    Args:
        preferences: Ids of strong models, the best first.
        candidate_models: The candidates' model ids; None for an endpoint whose model nobody
            named, which rules nobody out.

    Returns:
        The first preferred model of a family that has no candidate, or None.

    Source: judges favour what they or their family wrote: L. Zheng et al. (2023), section 3.3;
    D. Li et al., "Preference Leakage", ICLR (2026), arXiv:2502.01534.
    """
    families = {model_family(model) for model in candidate_models if model is not None}
    return next((judge for judge in preferences if model_family(judge) not in families), None)


def model_family(model_id: str) -> str:
    """Return whose model it is, as its id says.

    It is what stands before the slash (`openai/gpt-5.2`: `openai`), and without a slash the
    leading letters (`gpt-5.2`: `gpt`), in lower case. So a model that somebody made from
    another's (`nousresearch/hermes-3-llama-3.1-70b`) counts as that somebody's, a router
    (`openrouter/auto`) as a family of its own, and `gpt-5.2` as no relative of `openai/gpt-5.2`.

    Args:
        model_id: A model's id.

    Returns:
        The family; the whole id in lower case when it has neither slash nor leading letters.
    """
    folded = model_id.strip().lower()
    vendor, slash, _ = folded.partition("/")
    if slash:
        return vendor
    letters = _LEADING_LETTERS.match(folded)
    return letters.group() if letters else folded


def _read_verdict(text: str, name: str) -> dict[str, object]:
    """Read a reply as one JSON object of exactly `reason` and *name*."""
    try:
        value = read_json_object(text)
    except ReplyError as error:
        raise VerdictError(str(error)) from error
    # No other key: a `final_score` beside a `score` would leave open which of them is meant.
    if value.keys() != {"reason", name}:
        raise VerdictError(f"the keys must be reason and {name}, not {shown(', '.join(value))}")
    return value


def _read_reason(verdict: Mapping[str, object]) -> str:
    reason = verdict["reason"]
    if not isinstance(reason, str):
        raise VerdictError(f"reason must be a string, not {shown(reason)}")
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", reason[:REASON_MAX_CHARACTERS])
