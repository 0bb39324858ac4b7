"""Where every chat request is served, whichever route it came by: parse, fault, wait, answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.sandbox.chat_requests import ChatRequest
from app.sandbox.faults import FAULTS, create_fault, has_once_fault
from app.sandbox.json_answers import write_json_answer
from app.sandbox.judges import complete_verdict, is_mumbled, read_prompt
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
from app.sandbox.simulation import Completion, complete, draw, finish
from app.sandbox.stream_faults import STREAM_FAULTS
from app.sandbox.streams import EventStreamResponse, stream_events

KNOWN = {**MODELS, **JUDGES, LABELLER.name: LABELLER}
"""Whom requests can name."""

FIRST_SHARE = 0.5
"""Of a streamed answer's latency, what passes before its first part."""

CLIENT_CLOSED_REQUEST = 499
"""Status of an answer that nobody reads, as nginx logs it."""


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

        A streamed answer waits for half of its latency here, and for the rest between its parts.

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
            streamed = STREAM_FAULTS.get(name) if chat.streams else None
            fault = (streamed or partial(create_fault, name))(self._latency_scale)
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
            share = FIRST_SHARE if chat.streams else 1.0
            await asyncio.sleep(self._seconds(completion) * share)
            if await request.is_disconnected():
                return Response(status_code=CLIENT_CLOSED_REQUEST)
        if not chat.streams:
            self.ledger.count_answer(called_as, chat.last_user_text)
        return completion

    def stream(
        self, events: Sequence[bytes], completion: Completion, chat: ChatRequest, *, called_as: str
    ) -> Response:
        """Answer with events; the answer is counted when its client stays to the end."""
        pause_seconds = self._seconds(completion) * (1 - FIRST_SHARE) / len(events)
        count = partial(self.ledger.count_answer, called_as, chat.last_user_text)
        return EventStreamResponse(stream_events(events, pause_seconds, count))

    def _seconds(self, completion: Completion) -> float:
        return completion.latency_ms * self._latency_scale / 1000

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
        return _complete_plainly(model, chat)

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


def _complete_plainly(model: SimulatedModel, chat: ChatRequest) -> Completion:
    """Answer what anybody may ask: with tool calls, with JSON, or with a text."""
    text = chat.last_user_text
    prompt_tokens, max_tokens = chat.prompt_tokens, chat.max_tokens
    if chat.tool_calls:
        # As many tokens as are written, and no fewer: half of a call is none.
        written = "".join(call.name + call.arguments for call in chat.tool_calls)
        pace = draw(model, text)[2]
        called = finish(model, written, pace, prompt_tokens=prompt_tokens, max_tokens=None)
        return replace(called, text="", finish_reason="tool_calls", tool_calls=chat.tool_calls)
    if chat.tool_text is not None:
        said = f"The tool answered: {chat.tool_text}"
        pace = draw(model, said)[2]
        return finish(model, said, pace, prompt_tokens=prompt_tokens, max_tokens=max_tokens)
    completion = complete(model, text, prompt_tokens=prompt_tokens, max_tokens=max_tokens)
    # Judging and labelling take a judge and a labeller: to fill in their forms would be to pretend.
    if chat.json_schema is None or read_prompt(text).blocks:
        return completion
    whole = complete(model, text, prompt_tokens=prompt_tokens, max_tokens=None)
    written = write_json_answer(whole.text, chat.json_schema)
    pace = draw(model, text)[2]
    return finish(model, written, pace, prompt_tokens=prompt_tokens, max_tokens=max_tokens)
