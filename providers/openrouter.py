"""OpenRouter's catalogue: which models there are, their prices, and whether a key is good."""

import asyncio
import time
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from providers.base import CatalogueModel, ProviderError, ProviderErrorCode
from providers.chat import SANDBOX_KEY, SANDBOX_PREFIX
from providers.http import HttpClient
from providers.http_failures import failure

CATALOGUE_MAX_BYTES = 32 * 1024 * 1024
CATALOGUE_TTL_SECONDS = 600.0
TIMEOUT_SECONDS = 20.0
MILLION = 1_000_000


class OpenRouterCatalogue:
    """Reads the model list, and keeps it for ten minutes.

    Args:
        client: Reaches the addresses that the operator configured.
        openrouter_url: Base URL, without a trailing slash.
        sandbox_url: Where models named `sandbox/...` are served, if anywhere.
    """

    def __init__(self, client: HttpClient, *, openrouter_url: str, sandbox_url: str | None) -> None:
        self._client = client
        self._openrouter_url = openrouter_url
        self._sandbox_url = sandbox_url
        self._kept: dict[str, tuple[float, dict[str, CatalogueModel]]] = {}
        self._lock = asyncio.Lock()

    async def find_model(self, model_id: str) -> CatalogueModel | None:
        """Return the model, or None when there is none by that id; see `ModelCatalogue`."""
        base = self._openrouter_url
        if self._sandbox_url is not None and model_id.startswith(SANDBOX_PREFIX):
            base = f"{self._sandbox_url}/api/v1"
        async with self._lock:
            read_at, models = self._kept.get(base, (float("-inf"), {}))
            if time.monotonic() - read_at > CATALOGUE_TTL_SECONDS:
                models = await self._read(base)
                self._kept[base] = (time.monotonic(), models)
        return models.get(model_id)

    async def _read(self, base: str) -> dict[str, CatalogueModel]:
        response, content = await self._client.fetch(
            "GET",
            f"{base}/models",
            headers={"Accept": "application/json"},
            timeout_seconds=TIMEOUT_SECONDS,
            max_bytes=CATALOGUE_MAX_BYTES,
        )
        if not response.is_success:
            raise failure(response.status, None, content, sent={})
        try:
            entries = orjson.loads(content)["data"]
            return {entry["id"]: _model(entry) for entry in entries}
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ProviderError(
                ProviderErrorCode.INVALID_RESPONSE, "the model list is not OpenRouter's format"
            ) from error

    async def find_key_problem(self, key: str) -> str | None:
        """Return why OpenRouter refuses *key*, or None; the sandbox is asked about its own."""
        base = self._openrouter_url
        if self._sandbox_url is not None and key.startswith(SANDBOX_KEY):
            base = f"{self._sandbox_url}/api/v1"
        headers = {"Authorization": f"Bearer {key}"}
        response, content = await self._client.fetch(
            "GET",
            f"{base}/key",
            headers=headers,
            timeout_seconds=TIMEOUT_SECONDS,
            max_bytes=CATALOGUE_MAX_BYTES,
        )
        if response.status in {401, 403}:
            return f"OpenRouter answered {response.status}: the key is not valid"
        if not response.is_success:
            raise failure(response.status, None, content, sent=headers)
        return None


def _model(entry: dict[str, Any]) -> CatalogueModel:
    pricing = entry.get("pricing") or {}
    return CatalogueModel(
        id=entry["id"],
        name=entry.get("name") or entry["id"],
        context_tokens=entry.get("context_length"),
        input_price_per_million_usd=_per_million(pricing.get("prompt")),
        output_price_per_million_usd=_per_million(pricing.get("completion")),
    )


def _per_million(per_token: object) -> Decimal | None:
    """Convert OpenRouter's price of one token; it marks routers' unknown prices with -1."""
    try:
        price = Decimal(str(per_token))
    except InvalidOperation:
        return None
    return price * MILLION if price.is_finite() and price >= 0 else None
