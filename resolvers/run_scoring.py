"""What an answer is worth, by a run's evaluation."""

from collections.abc import Mapping
from typing import Any

from engine.matching import MatchMode, PatternError, score_answer


def score_output(
    evaluation: Mapping[str, Any], output: str, expected: str | None
) -> tuple[float, str | None]:
    """Return an answer's score, 0 to 1, and the error of a row that can't be scored, if it can't.

    An error scores 0.
    """
    try:
        score = score_answer(
            output,
            expected or "",
            match=MatchMode(evaluation["match"]),
            extract=evaluation.get("extract"),
        )
    except PatternError as error:
        return 0.0, f"invalid_expected: {error}"
    return score, None
