"""Where every chat request is served, whichever route it came by: parse, fault, wait, answer."""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.sandbox.faults import FAULTS, create_fault, has_once_fault
from app.sandbox.judges import complete_verdict, is_mumbled
from app.sandbox.labellers import complete_labels
from app.sandbox.ledger import CallLedger
from app.sandbox.models import (
    BALANCED,
    BROKEN_JUDGE,
    JUDGES,
    LABELLER,
    MODELS,
    MUMBLING_JUDGE,
    SimulatedModel,
)
from app.sandbox.simulation import Completion, complete, count_tokens

REQUEST_MAX_BYTES = 8 * 1024 * 1024
"""Larger than any prompt that fits the largest context."""

KNOWN = {**MODELS, **JUDGES, LABELLER.name: LABELLER}
"""Whom requests can name."""

CLIENT_CLOSED_REQUEST = 499
"""Status of an answer that nobody reads, as nginx logs it."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the simulation needs of a chat request."""

    system_text: str
    last_user_text: str
    prompt_tokens: int
    max_tokens: int | None


class Desk:
    """Serves chat requests and keeps the ledger of them.

    Args:
        ledger: Counts the calls and answers.
        latency_scale: Multiplies every simulated latency; 0 never sleeps.
    """

    def __init__(self, ledger: CallLedger, *, latency_scale: float) -> None:
        self.ledger = ledger
        self._latency_scale = latency_scale

    async def serve(
        self,
        request: Request,
        chat: ChatRequest,
        *,
        name: str,
        called_as: str,
    ) -> Completion | Response:
        """Complete a chat request after its latency, or give the fault that its name asks for.

        Args:
            request: The HTTP request, to notice that its client has gone.
            chat: What was asked.
            name: A model's, judge's, labeller's or fault's name, without `sandbox/`; any other is
                Balanced Medium.
            called_as: What the ledger counts the call under.

        Returns:
            The completion, for the route to write in its shape, or an answer that is ready.

        Raises:
            HTTPException: 400, the prompt does not fit the model's context.
        """
        self.ledger.count_call(called_as)
        if name in FAULTS and self._shows_fault(name, called_as, chat):
            fault = create_fault(name, latency_scale=self._latency_scale)
            if fault is not None:
                return fault
        model = KNOWN.get(name, BALANCED)
        if chat.prompt_tokens > model.context_tokens:
            raise HTTPException(
                400,
                f"This endpoint's maximum context length is {model.context_tokens} tokens."
                f" However, you requested about {chat.prompt_tokens} tokens.",
            )
        completion = self._complete(model, called_as, chat)
        if self._latency_scale:
            await asyncio.sleep(completion.latency_ms * self._latency_scale / 1000)
            if await request.is_disconnected():
                return Response(status_code=CLIENT_CLOSED_REQUEST)
        self.ledger.count_answer(called_as, chat.last_user_text)
        return completion

    def _complete(self, model: SimulatedModel, called_as: str, chat: ChatRequest) -> Completion:
        if model.name in JUDGES:
            completion = complete_verdict(
                model,
                chat.system_text,
                chat.last_user_text,
                prompt_tokens=chat.prompt_tokens,
                max_tokens=chat.max_tokens,
                mumbles=self._mumbles(model, called_as, chat),
            )
            if completion is not None:
                return completion
        if model is LABELLER:
            labels = complete_labels(
                model,
                chat.system_text,
                chat.last_user_text,
                prompt_tokens=chat.prompt_tokens,
                max_tokens=chat.max_tokens,
            )
            if labels is not None:
                return labels
        return complete(
            model,
            chat.last_user_text,
            prompt_tokens=chat.prompt_tokens,
            max_tokens=chat.max_tokens,
        )

    def _mumbles(self, judge: SimulatedModel, called_as: str, chat: ChatRequest) -> bool:
        if judge is not MUMBLING_JUDGE:
            return judge is BROKEN_JUDGE
        return is_mumbled(chat.last_user_text) and self.ledger.is_first_refusal(
            called_as, chat.last_user_text
        )

    def _shows_fault(self, name: str, called_as: str, chat: ChatRequest) -> bool:
        if not has_once_fault(name):
            return True
        return self.ledger.is_first_refusal(called_as, chat.last_user_text)


async def read_json_object(request: Request) -> dict[str, Any]:
    """Read a request's body as a JSON object.

    Raises:
        HTTPException: 400, not a JSON object; 413, over `REQUEST_MAX_BYTES`.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > REQUEST_MAX_BYTES:
            raise HTTPException(413, f"The body is over {REQUEST_MAX_BYTES} bytes.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"The body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise HTTPException(400, "The body is not a JSON object.")
    return value


def parse_chat(body: dict[str, Any]) -> ChatRequest:
    """Read `messages`, `max_tokens` and `temperature` from a chat request's body.

    Raises:
        HTTPException: 400, naming the field that is missing, wrong or unsupported.
    """
    if body.get("stream"):
        raise HTTPException(400, "stream: the sandbox answers whole completions only.")
    temperature = body.get("temperature")
    if temperature is not None and not _is_number(temperature):
        raise HTTPException(400, "temperature: expected a number.")
    max_tokens = body.get("max_tokens")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise HTTPException(400, "max_tokens: expected a whole number of at least 1.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise HTTPException(400, "messages: expected a list with at least one message.")
    system_text = last_user_text = ""
    prompt_tokens = 0
    for index, message in enumerate(messages):
        role, text = _parse_message(message, index)
        prompt_tokens += count_tokens(text)
        if role == "user":
            last_user_text = text
        elif role == "system":
            system_text = text
    return ChatRequest(system_text, last_user_text, prompt_tokens, max_tokens)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parse_message(message: object, index: int) -> tuple[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise HTTPException(400, f"messages[{index}]: expected an object with a role.")
    match message.get("content"):
        case str(text):
            return message["role"], text
        case None if message["role"] == "assistant":
            return message["role"], ""
        case [*parts] if all(
            isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts
        ):
            return message["role"], "".join(part["text"] for part in parts)
    raise HTTPException(400, f"messages[{index}].content: expected text or a list of text parts.")
