"""Custom endpoints: the simulated models behind plain URLs, in every answer shape in use."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from app.sandbox.chat_requests import parse_chat, read_json_object
from app.sandbox.desk import Desk
from app.sandbox.faults import FAULTS, NO_USAGE_FAULT, JsonResponse, error_response
from app.sandbox.models import BALANCED, MODELS
from app.sandbox.openrouter import (
    exact_usd,
    render_completion,
    render_events,
    render_head,
    render_usage,
)

REDIRECT_FAULT = "fault-redirect"

SHAPES: dict[str, Callable[[str], Response]] = {
    "shape-output": lambda text: JsonResponse({"output": text}),
    "shape-text": lambda text: JsonResponse({"text": text}),
    "shape-generated_text": lambda text: JsonResponse({"generated_text": text}),
    "shape-response": lambda text: JsonResponse({"response": text}),
    "shape-content": lambda text: JsonResponse({"content": text}),
    "shape-list": lambda text: JsonResponse([{"generated_text": text}]),
    "shape-string": JsonResponse,
    "shape-plain": PlainTextResponse,
}
"""The shapes an endpoint may answer in that are not a chat completion, by endpoint name."""

ENDPOINTS = (*MODELS, *SHAPES, *FAULTS, REDIRECT_FAULT)


class EndpointRoutes:
    """The route `/endpoints/{name}`, answered by a desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ordinals = count(1)

    def list_routes(self) -> list[Route]:
        """List the routes."""
        return [Route("/endpoints/{name}", self._call_endpoint, methods=["POST"])]

    async def _call_endpoint(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ENDPOINTS:
            return error_response(404, f"No endpoint {name!r}; there are {', '.join(ENDPOINTS)}.")
        if (refusal := _refuse_header(request)) is not None:
            return refusal
        if name == REDIRECT_FAULT:
            return RedirectResponse(f"/endpoints/{BALANCED.name}", status_code=302)
        chat = parse_chat(await read_json_object(request))
        if name in SHAPES:  # these don't know of streams
            chat = replace(chat, streams=False)
        called_as = f"endpoints/{name}"
        outcome = await self._desk.serve(request, chat, name=name, called_as=called_as)
        if isinstance(outcome, Response):
            return outcome
        if (shape := SHAPES.get(name)) is not None:
            return shape(outcome.text)
        head = render_head(name, next(self._ordinals))
        usage = {}
        if name != NO_USAGE_FAULT:
            usage = {"usage": render_usage(outcome), "cost_usd": exact_usd(outcome)}
        if not chat.streams:
            return JsonResponse(render_completion(head, outcome) | usage)
        events = render_events(head, outcome, usage if chat.includes_usage else {})
        return self._desk.stream(events, outcome, chat, called_as=called_as)


def _refuse_header(request: Request) -> Response | None:
    """Refuse a request without the header that its own `require=<name>:<value>` names."""
    required = request.query_params.get("require")
    if required is None:
        return None
    header, _, value = required.partition(":")
    if request.headers.getlist(header) == [value]:
        return None
    return error_response(401, f"This endpoint requires the header {header!r} with its one value.")
