"""Answers of production that come in parts, and what they leave when they end or break off."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from time import perf_counter
from typing import Any, Self

import orjson

from providers.base import ChatAnswer, ProviderError, ProviderErrorCode
from providers.chat_answers import price_tokens
from providers.chat_tally import ChatTally
from resolvers.call_bounds import BYTES_A_TOKEN
from resolvers.call_storage import EndedCall
from resolvers.meters import CallSource
from resolvers.model_calls import CallOutcome, wait_seconds
from resolvers.serving import LONGEST_WAIT_SECONDS, RETRIES, ServingModel
from resolvers.serving_calls import Served, ServingCall

# Parameters that models read, beside the messages.
IN_PROMPTS = ("tools", "functions", "response_format")


class AnswerStream:
    """An answer in parts, of which the first has come; it is read in a block.

    Args:
        call: For which it is.

    Attributes:
        model: Who answers.
        ended: What it leaves, once all of it has come and that is stored.
        usage: What the endpoint says that it used.
    """

    def __init__(self, call: ServingCall) -> None:
        self.call = call
        self.model: ServingModel = call.models[0]
        self.ended: EndedCall | None = None
        self.usage: dict[str, Any] | None = None
        self._stack = AsyncExitStack()
        self._chunks: AsyncIterator[dict[str, Any]] | None = None
        self._first: dict[str, Any] = {}
        self._first_byte_ms: float | None = None
        self._tally = ChatTally(self.model.target)
        self._chunk_count = 0
        self._meter = call.ctx.services.meters.calls(CallSource.INFERENCE)
        self._is_noted = False

    async def open(self) -> Served | None:
        """Ask for the answer, and wait for the first of it.

        Returns:
            None when it has come; how it failed when nobody answers.
        """
        served: Served | None = None
        while (turn := await self.call.next_turn()) is not None:
            model, params = turn
            try:
                error = await self._open(model, params)
            except BaseException:
                await self._stack.aclose()
                raise
            self.model, self._tally = model, ChatTally(model.target)
            if error is None:
                return None
            served = Served(model, self._outcome(None, error))
            if not self.call.goes_on(served):
                break
        return served

    async def _open(self, model: ServingModel, params: Mapping[str, Any]) -> ProviderError | None:
        """Ask a model, again after a failure in which nothing was generated."""
        health = model.health
        while True:
            began: float | None = None
            try:
                await health.wait()
                self.call.attempts += 1
                self.call.asked_at = began = perf_counter()
                self.call.is_asking = True
                await self._receive_first(model, params)
            except asyncio.CancelledError:
                if began is not None:
                    health.leave()
                    unwanted = ProviderError(ProviderErrorCode.CANCELLED, "nobody waits for it")
                    self._meter.note(model.target, None, unwanted, perf_counter() - began)
                raise
            except ProviderError as error:
                self.call.is_asking = False
                seconds = None if began is None else perf_counter() - began
                self._meter.note(model.target, None, error, seconds)
                await self._stack.aclose()
                if began is not None:  # it was asked, and not refused by us
                    await health.note(error)
                wait = wait_seconds(error, self.call.attempts)
                is_over = self.call.attempts > RETRIES or wait > LONGEST_WAIT_SECONDS
                if is_over or not error.is_retryable or not self.call.attempts:
                    return error
                await asyncio.sleep(wait)
            else:
                await health.note_begun()
                return None

    async def _receive_first(self, model: ServingModel, params: Mapping[str, Any]) -> None:
        stream = await self._stack.enter_async_context(
            self.call.ctx.services.chat.open_stream(
                model.target, self.call.messages, {**params, **self.call.request.stream_params}
            )
        )
        self._chunks = aiter(stream)
        self._first = await anext(self._chunks, {})
        self._first_byte_ms = (perf_counter() - self.call.asked_at) * 1000

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the parts as the endpoint sent them; the answer is stored before this ends.

        Raises:
            ProviderError: The answer breaks off; what had come of it is stored.
        """
        if self._chunks is None:
            raise RuntimeError("a stream is opened before it is read")
        try:
            self._count(self._first)
            yield self._first
            async for chunk in self._chunks:
                self._count(chunk)
                yield chunk
        except ProviderError as error:
            await self._stack.aclose()
            await self._end(self._outcome(self._counted(), error))
            await self.model.health.note(error)
            raise
        await self._stack.aclose()
        answer = self._tally.answer()
        if answer.completion_tokens is None:
            answer = self._counted()
        self.ended = await self._end(self._outcome(answer, None))
        if not self.model.health.is_clear():
            await self.model.health.note(None)

    async def __aenter__(self) -> Self:
        """Begin to read."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up on the model, unless it has ended, and store what had come of its answer."""
        try:
            await self._stack.aclose()
        finally:
            if not self.call.is_ended:
                await self._end(self.call.broken_off(self._counted()).outcome)

    def _count(self, chunk: Mapping[str, Any]) -> None:
        self._tally.add(chunk)
        self._chunk_count += 1
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = usage

    def _outcome(self, answer: ChatAnswer | None, error: ProviderError | None) -> CallOutcome:
        latency_ms = (perf_counter() - self.call.asked_at) * 1000
        return CallOutcome(answer, error, latency_ms, self.call.attempts, self._first_byte_ms)

    async def _end(self, outcome: CallOutcome) -> EndedCall:
        """Count the answer, once, and have what it leaves stored."""
        if not self._is_noted:
            self._is_noted = True
            first_byte_ms = self._first_byte_ms
            self._meter.note(
                self.model.target,
                outcome.answer,
                outcome.error,
                outcome.latency_ms / 1000,
                None if first_byte_ms is None else first_byte_ms / 1000,
            )
        return await self.call.end(Served(self.model, outcome))

    def _counted(self) -> ChatAnswer:
        """Return what had come of the answer, its tokens counted where it does not tell them.

        An endpoint sends a token or a few in each part, and about four bytes make one. Only what
        the endpoint says itself may cost more than was held.
        """
        answer = self._tally.answer()
        if answer.cost_usd is not None:
            return answer
        sent = self.model.target.merge(self.call.request.params)
        prompt = [list(self.call.messages), *(sent[name] for name in IN_PROMPTS if sent.get(name))]
        sent_bytes = sum(len(orjson.dumps(part)) for part in prompt)
        prompt_tokens = answer.prompt_tokens or -(-sent_bytes // BYTES_A_TOKEN)
        generated = -(-self._tally.generated_bytes // BYTES_A_TOKEN)
        completion_tokens = max(self._chunk_count, generated)
        cost_usd = None
        if not self.call.is_unbounded:
            cost_usd = price_tokens(self.model.target, prompt_tokens, completion_tokens)
        if cost_usd is not None and answer.completion_tokens is None and self.call.held_usd:
            cost_usd = min(cost_usd, self.call.rest_usd)
        return replace(
            answer,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=cost_usd,
            cost_source="unknown" if cost_usd is None else "computed",
        )
