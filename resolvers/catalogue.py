"""OpenRouter's models: looking one up, and the key that it is called with."""

from providers.base import CatalogueModel, ProviderError
from resolvers.context import Context
from resolvers.errors import InvalidInputError, UpstreamError
from resolvers.integrations import get_integration_key


async def require_model(ctx: Context, model_id: str, *, field: str) -> CatalogueModel:
    """Return a model as the catalogue has it.

    Args:
        ctx: Who asks.
        model_id: OpenRouter's name for it.
        field: The input that named it.

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
        raise InvalidInputError(f"{field}: OpenRouter has no model {model_id!r}")
    return model


async def model_headers(
    ctx: Context, model_id: str, *, provider: str = "openrouter"
) -> dict[str, str]:
    """Return the headers that a call of a provider's model needs.

    Raises:
        IntegrationMissingError: It needs a key, and none is saved.
    """
    if ctx.services.chat.is_offline(model_id):
        return {}
    return {"Authorization": f"Bearer {await get_integration_key(ctx, provider)}"}
