"""Which model judges a run: the one that is named, or one that the run picks by itself."""

from collections.abc import Sequence
from typing import Any

from db.models import Candidate, Leaderboard
from engine.judging import choose_judge
from resolvers.catalogue import require_model
from resolvers.context import Context
from resolvers.errors import ConflictError


async def fix_judge(
    ctx: Context, board: Leaderboard, candidates: Sequence[Candidate]
) -> dict[str, Any] | None:
    """Return who judges a run that is asked for now, as the run keeps it; None for nobody.

    Raises:
        ConflictError: No judge is of another family than every candidate.
        InvalidInputError: OpenRouter has no such model.
        IntegrationMissingError: It needs a key, and none is saved.
        UpstreamError: The catalogue can't be read.
    """
    if board.eval_type != "judge":
        return None
    model_id = board.judge_model
    if model_id is None:
        preferences = ctx.services.limits.judge_models
        model_id = choose_judge(preferences, [candidate.model_id for candidate in candidates])
        if model_id is None:
            raise ConflictError(
                "judge_auto: each of the judges to pick from is of a candidate's family "
                f"({', '.join(preferences)}); name one in judge_model"
            )
    model = await require_model(ctx, model_id, field="judge_model")
    return {
        "provider": board.judge_provider or "openrouter",
        "model": model_id,
        "input_price_per_million_usd": _written(model.input_price_per_million_usd),
        "output_price_per_million_usd": _written(model.output_price_per_million_usd),
    }


def _written(price: object) -> str | None:
    return None if price is None else str(price)
