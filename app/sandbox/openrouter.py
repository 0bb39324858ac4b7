"""OpenRouter's routes: the catalogue, the key check and chat completions."""

import time
from itertools import count
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.sandbox.chat_requests import parse_chat, read_json_object
from app.sandbox.desk import Desk
from app.sandbox.faults import FAULTS, NO_USAGE_FAULT, JsonResponse, error_response
from app.sandbox.models import JUDGES, LABELLER, MODELS, list_catalogue
from app.sandbox.simulation import Completion
from app.sandbox.streams import PROCESSING, list_chunks, render_tool_call, write_event

SANDBOX_KEY = "sk-sandbox"
"""The key that works; so does any key that starts with it."""

_BEARER = "Bearer "
_ID_PREFIX = "sandbox/"
_MODEL_IDS = frozenset(f"{_ID_PREFIX}{name}" for name in (*MODELS, *JUDGES, LABELLER.name, *FAULTS))


class OpenRouterRoutes:
    """The routes under `/api/v1`, answered by a desk.

    Source: https://openrouter.ai/docs/api/reference/overview (request and response shapes).
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._catalogue = orjson.dumps({"data": list_catalogue()})
        self._ordinals = count(1)

    def list_routes(self) -> list[Route]:
        """List the routes, the busiest first."""
        return [
            Route("/api/v1/chat/completions", self._complete_chat, methods=["POST"]),
            Route("/api/v1/models", self._list_models),
            Route("/api/v1/key", self._show_key),
        ]

    async def _complete_chat(self, request: Request) -> Response:
        if (refusal := _refuse_key(request)) is not None:
            return refusal
        body = await read_json_object(request)
        model_id = body.get("model")
        if not isinstance(model_id, str) or model_id not in _MODEL_IDS:
            return error_response(400, f"{model_id} is not a valid model ID")
        name = model_id.removeprefix(_ID_PREFIX)
        chat = parse_chat(body)
        outcome = await self._desk.serve(request, chat, name=name, called_as=model_id)
        if isinstance(outcome, Response):
            return outcome
        head = render_head(model_id, next(self._ordinals))
        usage = {}
        if name != NO_USAGE_FAULT:
            usage = {"usage": {**render_usage(outcome), "cost": exact_usd(outcome)}}
        if not chat.streams:
            return JsonResponse(render_completion(head, outcome) | usage)
        events = render_events(head, outcome, usage if chat.includes_usage else {})
        return self._desk.stream([PROCESSING, *events], outcome, chat, called_as=model_id)

    async def _list_models(self, _request: Request) -> Response:
        return Response(self._catalogue, media_type="application/json")

    async def _show_key(self, request: Request) -> Response:
        return _refuse_key(request) or JsonResponse(
            {
                "data": {
                    "label": "sandbox key (simulated)",
                    "usage": 0,
                    "limit": None,
                    "limit_remaining": None,
                    "is_free_tier": False,
                    "is_provisioning_key": False,
                    "rate_limit": {"requests": -1, "interval": "10s"},
                }
            }
        )


def render_head(model_id: str, ordinal: int) -> dict[str, Any]:
    """Write the fields that a completion shares with each of its chunks."""
    return {
        "id": f"gen-sandbox-{ordinal}",
        "provider": "Sandbox (simulated)",
        "model": model_id,
        "created": int(time.time()),
    }


def render_events(
    head: dict[str, Any], completion: Completion, usage: dict[str, Any]
) -> list[bytes]:
    """Write a completion as events, the last with its *usage* when that is wanted."""
    chunks = list_chunks(head, completion)
    if usage:
        chunks.append({**head, "object": "chat.completion.chunk", "choices": [], **usage})
    return [write_event(chunk) for chunk in chunks]


def render_completion(head: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """Write a completion as an OpenAI chat completion, without its usage."""
    message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None}
    if completion.tool_calls:
        calls = [render_tool_call(index, call) for index, call in enumerate(completion.tool_calls)]
        message |= {"content": None, "tool_calls": calls}
    return {
        **head,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "logprobs": None,
                "finish_reason": completion.finish_reason,
                "native_finish_reason": completion.finish_reason,
                "message": message,
            }
        ],
    }


def render_usage(completion: Completion) -> dict[str, Any]:
    """Write the token counts of a completion."""
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    }


def exact_usd(completion: Completion) -> orjson.Fragment:
    """Write the cost as a JSON number with exactly its decimal digits."""
    return orjson.Fragment(f"{completion.cost_usd:f}")


def _refuse_key(request: Request) -> Response | None:
    authorization = request.headers.get("authorization", "")
    if not authorization.startswith(_BEARER):
        return error_response(401, "No auth credentials found")
    if not authorization.removeprefix(_BEARER).startswith(SANDBOX_KEY):
        return error_response(401, "User not found.")
    return None
