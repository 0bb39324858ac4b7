"""One call of production under way: what is reserved for it, who is asked, and what it leaves."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

from db.base import new_id
from engine.prompts import text_of_messages
from engine.rollouts import Arm, Observation, observe_leaver
from providers.answer_json import first_choice
from providers.base import ChatAnswer, ProviderError, ProviderErrorCode
from providers.chat_answers import called_tools
from resolvers.budgets import ZERO, Budget
from resolvers.call_bounds import CallSize, bound_call, size_call
from resolvers.call_storage import EndedCall
from resolvers.context import Context
from resolvers.errors import (
    AppError,
    BudgetExceededError,
    PriceUnknownError,
    RateLimitedError,
    Standing,
)
from resolvers.failures import is_outage
from resolvers.inference_request import ModelRequest
from resolvers.meters import CallSource
from resolvers.model_calls import CallOutcome, call_model, trace_values
from resolvers.reservations import Reservation
from resolvers.serving import LONGEST_WAIT_SECONDS, RETRIES, ServingBoard, ServingModel
from resolvers.token_room import is_lasting, reserve

log = logging.getLogger("gero.calls")

# The request is wrong: it fails with any model.
NO_OTHER_WOULD_DO = {ProviderErrorCode.REJECTED}

# Of a trace's metadata: the names of the tools that the answer calls.
TOOL_CALLS: Final = "tool_calls"


@dataclass(slots=True)
class Served:
    """Who was asked last, and how that ended."""

    model: ServingModel
    outcome: CallOutcome


@dataclass(slots=True)
class ServingCall:
    """A call of production under way.

    As a block it has its place among those of the process, and whatever it leaves is stored.

    Attributes:
        id: Its trace's.
        reservations: What is reserved for it so far.
        arm: Of the leaderboard's rollout, who serves the request.
        models: Who serves it, and then who stands in for it, in this order.
        passed_over: Why the canary was not asked, which the token had no room for.
        failed: The models that failed before another was asked, with the reason.
        owed_usd: What those may have cost, in US dollars.
        held_usd: What is held for it, in US dollars.
        asked: Who was asked last.
        asked_at: When that was, by the performance counter.
        began_at: When that model was asked first, by `perf_counter`.
        answered_at: When it had answered whole, by `perf_counter`.
        attempts: How often that model was asked.
        is_asking: Whether that model is being asked: between two attempts it is not.
        is_unbounded: Whether that model may charge for more than tokens, as images and searches.
        is_repeatable: Whether a repeat of the request finds its answer by its id.
        is_ended: Whether what it leaves is on its way to be stored.
        is_read: Whether somebody reads its answer in parts, and ends it.
    """

    ctx: Context
    board: ServingBoard
    request: ModelRequest
    messages: Sequence[Mapping[str, Any]]
    id: UUID
    metadata: Mapping[str, Any]
    reservations: list[Reservation] = field(default_factory=list)
    arm: Arm | None = None
    models: Sequence[ServingModel] = ()
    passed_over: AppError | None = None
    failed: list[tuple[ServingModel, ProviderError]] = field(default_factory=list)
    owed_usd: Decimal = ZERO
    held_usd: Decimal = ZERO
    asked: ServingModel | None = None
    asked_at: float = 0.0
    began_at: float = 0.0
    answered_at: float | None = None
    attempts: int = 0
    is_asking: bool = False
    is_unbounded: bool = False
    is_repeatable: bool = False
    is_ended: bool = False
    is_read: bool = False
    _turns: int = 0

    def __post_init__(self) -> None:
        rollout = self.board.rollout
        if rollout is not None:
            self.arm = rollout.assign(self.id, self.request.user)
        self.models = self.board.models_of(self.arm)

    async def __aenter__(self) -> Self:
        """Take a place.

        Raises:
            UnavailableError: There is none.
        """
        self.ctx.services.admission.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Store what it leaves, should it have broken off, and give its place back."""
        try:
            is_left = isinstance(error, asyncio.CancelledError)
            is_broken_off = is_left or isinstance(error, Exception)
            has_begun = self.asked is not None or bool(self.reservations)
            if is_broken_off and has_begun and not self.is_ended:
                await self.end(self.broken_off() if is_left else self.given_up())
        finally:
            if not (self.is_ended or self.is_read):
                self.ctx.services.admission.leave()

    async def _make_room(self, model: ServingModel) -> Mapping[str, Any]:
        """Reserve what asking *model* may take, and return the parameters to ask it with.

        Raises:
            BudgetExceededError: The token's budget can't cover it.
            RateLimitedError: The token has had its requests or tokens of this minute.
            InvalidInputError: A parameter that bounds the call does not.
        """
        limits = self.ctx.principal.limits
        params: Mapping[str, Any] = self.request.params
        if limits.budget_interval is None and not limits.has_rates:
            return params
        default = self.ctx.services.limits.default_max_tokens
        size = size_call(model.target, self.messages, params, default_max_tokens=default)
        amount_usd = ZERO
        if limits.budget_interval is not None:
            params, amount_usd = self._most(model, params, size)
        further_usd = self.owed_usd + amount_usd - self.held_usd
        is_first = not self.reservations
        if is_first or further_usd > 0:
            tokens = size.likely_tokens if is_first and limits.tokens_per_minute else 0
            await reserve(
                self.ctx,
                max(further_usd, ZERO),
                tokens,
                into=self.reservations,
                seconds=self.board.longest_seconds + self.ctx.services.limits.hold_seconds,
                is_trial=self._is_canary(model),
            )
            self.held_usd += max(further_usd, ZERO)
        return params

    def _most(
        self, model: ServingModel, params: Mapping[str, Any], size: CallSize
    ) -> tuple[Mapping[str, Any], Decimal]:
        """Return what is sent, and the most that it can cost in US dollars."""
        settings = self.board.settings
        try:
            bounded = bound_call(model.target, self.messages, params, size, name=model.name)
        except PriceUnknownError:
            if settings.unknown_price == "refuse" or settings.hold_usd is None:
                raise
            self.is_unbounded = True
            return params, settings.hold_usd
        self.is_unbounded = False  # whoever was asked before
        return bounded.params, settings.hold_usd or bounded.most_usd

    async def ask(self) -> Served:
        """Ask the model in production, and if it fails those that may stand in for it.

        Raises:
            BudgetExceededError: The token's budget can't cover the first of them.
            RateLimitedError: The token has had its requests or tokens of this minute.
        """
        served: Served | None = None
        while (turn := await self.next_turn()) is not None:
            model, params = turn
            outcome = await call_model(
                self.ctx.services.chat,
                model.target,
                self.messages,
                params,
                retries=RETRIES,
                longest_wait_seconds=LONGEST_WAIT_SECONDS,
                endpoint=model.health,
                meter=self.ctx.services.meters.calls(CallSource.INFERENCE),
                progress=self,
            )
            served = Served(model, outcome)
            if not self.goes_on(served):
                break
        if served is None:
            raise RuntimeError("a board has a model in production")
        self.answered_at = perf_counter()
        return served

    async def next_turn(self) -> tuple[ServingModel, Mapping[str, Any]] | None:
        """Return who is asked next, and the parameters to ask it with, once there is room for it.

        Returns:
            None when nobody is left, or there is no room for another.

        Raises:
            BudgetExceededError: The token's budget can't cover the first of them.
            RateLimitedError: The token has had its requests or tokens of this minute.
        """
        if self._turns == len(self.models):
            return None
        model = self.models[self._turns]
        try:
            params = await self._make_room(model)
        except (BudgetExceededError, PriceUnknownError, RateLimitedError) as error:
            if self._turns:
                return None
            if not self._passes_canary_over(model, error):
                raise
            return await self.next_turn()
        self._turns += 1
        self.attempts = 0
        self.asked, self.asked_at = model, perf_counter()
        self.began_at = self.asked_at
        return model, params

    def _is_canary(self, model: ServingModel) -> bool:
        """Tell whether *model* is tried on the caller, for whom production does what it can't."""
        return self.arm is Arm.CANARY and model is self.board.canary

    def _passes_canary_over(self, model: ServingModel, refusal: AppError) -> bool:
        """Have production serve at once where the token has no room for the canary.

        What production has no room for either is refused in both arms, and counts in none. Nor
        does a request count that other calls kept from the canary: production's would have waited.
        """
        if not self._is_canary(model) or refusal.details.get("limit") == "requests":
            return False
        self.passed_over = refusal
        self.models = self.models[1:]
        return True

    def goes_on(self, served: Served) -> bool:
        """Tell whether another model is to be asked, and note what this one may have cost."""
        error = served.outcome.error
        is_last = len(self.failed) + 1 == len(self.models)
        if error is None or is_last:
            return False
        if error.code in NO_OTHER_WOULD_DO and not self._is_canary(served.model):
            return False
        self.failed.append((served.model, error))
        cost_usd = served.outcome.cost_usd
        # One that may have answered somebody is owed all that is held.
        self.owed_usd = self.held_usd if cost_usd is None else self.owed_usd + cost_usd
        return True

    def budget(self) -> Budget | None:
        """Return the token's budget as it was when the call began; None when it has none."""
        return self.reservations[0].budget() if self.reservations else None

    def standing(self, ended: EndedCall) -> Standing:
        """Return where the call leaves its caller, once it has ended."""
        limits = self.reservations[0].state if self.reservations else None
        return Standing(self.id, ended.budget or self.budget(), limits)

    def broken_off(self, answer: ChatAnswer | None = None) -> Served:
        """Return how the call ends when its caller goes away.

        Args:
            answer: What had come of it.
        """
        is_between = answer is None and not self.is_asking
        error = ProviderError(
            ProviderErrorCode.CANCELLED, "the caller went away", is_retryable=is_between
        )
        if self.is_repeatable:
            self.id = new_id()  # a repeat shall not find that nobody waited, but ask anew
        return self._interrupted(answer, error, attempts=self.attempts)

    def given_up(self) -> Served:
        """Return how the call ends when a fault that is not the model's keeps it from going on."""
        if self.failed:
            return self._interrupted(None, self.failed[-1][1], attempts=1)
        fault = ProviderError(ProviderErrorCode.INVALID_RESPONSE, "the call could not go on")
        return self._interrupted(None, fault, attempts=1)

    def _interrupted(
        self, answer: ChatAnswer | None, error: ProviderError, *, attempts: int
    ) -> Served:
        if self.asked is None:
            return Served(self.models[0], CallOutcome(None, error, 0.0, 0))
        latency_ms = (perf_counter() - self.asked_at) * 1000
        return Served(self.asked, CallOutcome(answer, error, latency_ms, attempts))

    async def end(self, served: Served) -> EndedCall:
        """Have what the call leaves stored; returns once it is, unless answers go first.

        A caller that is cancelled meanwhile leaves it to be stored.
        """
        ended = self.ended(served)
        stored = await self.ctx.services.calls.offer(ended)
        self.is_ended = True  # and whoever stores it gives its place back
        board = self.board
        if board.shadow is not None and board.challenger is not None and self.asked is not None:
            self.ctx.services.shadow_calls.begin(self, board.shadow, board.challenger)
        if self.ctx.services.limits.answer_first:
            stored.add_done_callback(_log_lost)
        else:
            await stored
        return ended

    def ended(self, served: Served) -> EndedCall:
        """Return what the call leaves."""
        model, outcome = served.model, served.outcome
        answer = outcome.answer
        trace = trace_values(
            self.id,
            model.subject,
            model.target,
            outcome,
            input=self.input,
            messages=self.messages,
            metadata=self._metadata(answer),
        )
        trace["token_id"] = self.ctx.principal.token_id
        cost_usd = outcome.cost_usd
        sent, generated = (
            (answer.prompt_tokens, answer.completion_tokens) if answer else (None, None)
        )
        used_tokens = (sent or 0) + (generated or 0)
        if (sent is None or generated is None) and cost_usd != ZERO:
            used_tokens = sum(each.token_count for each in self.reservations)
        return EndedCall(
            trace,
            self.owed_usd + (self.rest_usd if cost_usd is None else cost_usd),
            self.reservations,
            used_tokens,
            self._observation(outcome),
        )

    @property
    def rest_usd(self) -> Decimal:
        """What is held for the model that is asked now, in US dollars: 0 without a budget."""
        return self.held_usd - self.owed_usd

    @property
    def input(self) -> str:
        """What is asked, as text."""
        text = self.request.text
        if text is None or self.request.messages is not None:  # which are what is sent
            return text_of_messages(self.messages)
        return text

    def _observation(self, outcome: CallOutcome) -> Observation | None:
        """Return what counts of it in the leaderboard's rollout."""
        rollout, error = self.board.rollout, outcome.error
        if rollout is None or self.arm is None or self.asked is None:
            return None
        if self.passed_over is not None and not is_lasting(self.passed_over):
            return None
        is_failed = bool(self.failed) or self.passed_over is not None
        is_error: bool | None = is_failed or error is not None
        # With the attempts before, which the caller has waited for too.
        waited_ms = ((self.answered_at or perf_counter()) - self.began_at) * 1000
        if error is not None and error.code is ProviderErrorCode.CANCELLED and not is_failed:
            is_error = observe_leaver(
                waited_ms=waited_ms,
                has_begun=outcome.answer is not None and _says_something(outcome.answer),
            )
        if is_error is None:
            return None
        return rollout.observe(
            self.arm,
            is_error=is_error,
            latency_ms=waited_ms,
            # Of a failure it is known in one arm and not in the other, which has stand-ins.
            cost_usd=None if is_error else outcome.cost_usd,
        )

    def failures(self) -> list[dict[str, str]]:
        """Return the models that failed before another was asked, as they are told."""
        return [{"model": model.name, "error": error.summary} for model, error in self.failed]

    def _metadata(self, answer: ChatAnswer | None) -> dict[str, Any]:
        noted = dict(self.metadata)
        if answer is not None and (names := called_tools(answer.completion or {})):
            noted[TOOL_CALLS] = names
        if self.request.user is not None:
            noted["user"] = self.request.user
        if self.board.rollout is not None and self.arm is not None:
            noted |= self.board.rollout.note(self.arm)
        failed = self.failures()
        if self.passed_over is not None and self.board.canary is not None:
            why = f"{self.passed_over.code}: {self.passed_over}"
            failed.insert(0, {"model": self.board.canary.name, "error": why})
        if failed:
            noted["failed"] = failed
        return noted


def _says_something(answer: ChatAnswer) -> bool:
    """Tell whether more has come than who is speaking."""
    message = first_choice(answer.completion or {}).get("message")
    fields = message if isinstance(message, dict) else {}
    return bool(answer.output) or any(fields[name] for name in fields if name != "role")


def _log_lost(stored: "asyncio.Future[None]") -> None:
    if stored.cancelled() or (error := stored.exception()) is None:
        return
    if not is_outage(error):  # after one it is stored
        log.error("a call that was answered could not be stored", exc_info=error)
