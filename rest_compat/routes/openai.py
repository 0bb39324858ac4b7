"""/v1/chat/completions and /v1/models: production, as OpenAI's clients call it."""

import re
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.responses import Response
from typing_extensions import override

from providers.base import ProviderError
from resolvers import inference
from resolvers.answer_streams import AnswerStream
from resolvers.errors import (
    NotFoundError,
    UnsupportedOptionError,
)
from resolvers.inference_request import Messages, ModelRequest
from resolvers.serving import MODEL_PREFIX, read_reference
from rest_compat.completions import (
    answer_headers,
    completion_of,
    stream_headers,
    usage_of,
)
from rest_compat.deps import Ctx
from rest_compat.direct import DirectAnswer, DirectRoute, EventStream, Posted
from rest_compat.problems import CHAT_PATH, MODELS_PATH, openai_body
from rest_compat.shapes import InferenceShape

router = APIRouter(tags=["openai"])
direct = APIRouter(tags=["openai"], route_class=DirectRoute)
PATHS = re.escape(CHAT_PATH)
DONE = b"data: [DONE]\n\n"


class StreamOptions(BaseModel):
    """What a stream holds beside the answer."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = Field(default=False, description="Tell the usage in a last chunk.")


def _false_if_null(value: object) -> object:
    return False if value is None else value


class ChatRequest(ModelRequest):
    """A chat completion, as OpenAI's API has it; other fields are forwarded to the model."""

    model: str = Field(
        description="leaderboard/ and a leaderboard's id or slug: its model in production answers."
    )
    messages: Messages = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
        description="OpenAI chat messages, sent as they are."
    )
    stream: Annotated[
        bool,
        BeforeValidator(_false_if_null),
        WithJsonSchema({"type": ["boolean", "null"]}),
        Field(description="Answer in parts, as server-sent events."),
    ] = False
    stream_options: StreamOptions | None = None

    @property
    @override
    def stream_params(self) -> dict[str, Any]:
        """What is forwarded besides when the answer comes in parts."""
        options = self.stream_options
        return {} if options is None else {"stream_options": options.model_dump()}


class ModelShape(BaseModel):
    """A leaderboard, as a model that can be called."""

    id: str = Field(description="leaderboard/ and its slug.")
    object: str = "model"
    created: int = Field(description="When it was made, in seconds since 1970.")
    owned_by: str = Field(description="The workspace.")


class ModelListShape(BaseModel):
    """What can be called."""

    object: str = "list"
    data: list[ModelShape]


STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "string",
                    "description": "Events of chat.completion.chunk objects, and [DONE].",
                }
            }
        }
    }
}


@direct.post(
    CHAT_PATH,
    operation_id="createChatCompletion",
    name="chat",
    responses=STREAMED,
)
async def create_chat_completion(body: ChatRequest) -> InferenceShape:  # type: ignore[empty-body]
    """Answer with a leaderboard's model in production, whole or as a stream."""


@router.get(MODELS_PATH, operation_id="listServedModels")
async def list_served_models(ctx: Ctx) -> ModelListShape:
    """List the leaderboards whose production can be called."""
    boards = await inference.list_served(ctx)
    return ModelListShape(
        data=[
            ModelShape(
                id=f"{MODEL_PREFIX}{board.slug or board.id}",
                created=int(board.created_at.timestamp()),
                owned_by=str(ctx.workspace_id),
            )
            for board in boards
        ]
    )


@router.get(f"{MODELS_PATH}/{{model:path}}", operation_id="getServedModel")
async def get_served_model(ctx: Ctx, model: str) -> ModelShape:
    """Return one of them."""
    reference = read_reference(model)
    for board in await inference.list_served(ctx):
        if reference in {board.id, board.slug}:
            return ModelShape(
                id=model,
                created=int(board.created_at.timestamp()),
                owned_by=str(ctx.workspace_id),
            )
    raise NotFoundError(f"the model {model!r} does not exist", details={"field": "model"})


async def answer_chat(posted: Posted) -> Response:
    """Answer a chat completion."""
    try:
        return await _answer(posted)
    except NotFoundError as error:
        error.details["field"] = "model"  # which is what names a leaderboard here
        raise


async def _answer(posted: Posted) -> Response:
    request = ChatRequest.model_validate(posted.body)
    reference = read_reference(request.model)
    metadata: dict[str, Any] = {"request_id": posted.ctx.request_id}
    if request.stream and posted.claim is not None:
        raise UnsupportedOptionError(
            "Idempotency-Key: an answer that is streamed can't be given again",
            details={"field": "stream"},
        )
    if request.stream:
        stream = await inference.open_answer_stream(
            posted.ctx, reference, request, metadata=metadata
        )
        return EventStream(_events(stream, request), stream_headers(stream))
    answer = await inference.infer(
        posted.ctx,
        reference,
        request,
        claim=posted.claim,
        metadata=metadata,
    )
    return DirectAnswer(orjson.dumps(completion_of(answer)), answer_headers(answer))


async def _events(stream: AnswerStream, request: ChatRequest) -> AsyncGenerator[bytes]:
    """Yield an answer's parts as events; the last one is sent once the call is stored."""
    wants_usage = request.stream_options is not None and request.stream_options.include_usage
    head = {
        "id": f"chatcmpl-{stream.call.id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": stream.model.name,
    }
    # Many clients take it that each chunk has a choice: what comes without one goes with the next.
    kept: dict[str, Any] = {}
    try:
        async with stream:
            async for chunk in stream.chunks():
                head |= {name: chunk[name] for name in head if chunk.get(name)}
                if not chunk.get("choices"):
                    kept |= chunk
                    continue
                body = {**kept, **chunk, **head, "usage": None}
                kept = {}
                if not wants_usage:
                    del body["usage"]
                yield _event(body)
    except ProviderError as error:
        yield _event(openai_body(inference.explain_break(stream.call.id, error)))
        return
    if wants_usage and stream.ended is not None:
        trace = stream.ended.trace
        usage = stream.usage or usage_of(trace["prompt_tokens"], trace["completion_tokens"])
        yield _event({**kept, **head, "choices": [], "usage": usage})
    yield DONE


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
