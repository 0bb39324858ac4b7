"""Which models judge: whether one can, and which one a run picks by itself."""

from collections.abc import Sequence
from typing import Any

from db.models import Candidate, Leaderboard
from engine.judging import choose_judge
from providers.base import CatalogueModel, ProviderError
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidInputError, UpstreamError
from resolvers.integrations import get_integration_key


async def check_judge_model(ctx: Context, model_id: str) -> CatalogueModel:
    """Return a judge as the catalogue has it.

    Raises:
        InvalidInputError: OpenRouter has no such model.
        IntegrationMissingError: It needs a key, and none is saved.
        UpstreamError: The catalogue can't be read.
    """
    if not ctx.services.chat.is_offline(model_id):
        await get_integration_key(ctx, "openrouter")
    try:
        model = await ctx.services.catalogue.find_model(model_id)
    except ProviderError as error:
        raise UpstreamError(
            f"OpenRouter's model list can't be read: {error}", details={"provider": "openrouter"}
        ) from error
    if model is None:
        raise InvalidInputError(f"judge_model: OpenRouter has no model {model_id!r}")
    return model


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
    model = await check_judge_model(ctx, model_id)
    return {
        "provider": board.judge_provider or "openrouter",
        "model": model_id,
        "input_price_per_million_usd": _written(model.input_price_per_million_usd),
        "output_price_per_million_usd": _written(model.output_price_per_million_usd),
    }


def _written(price: object) -> str | None:
    return None if price is None else str(price)
