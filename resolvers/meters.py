"""What use cases count, for operators; whoever runs the process says where it goes."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from providers.base import ChatAnswer, ChatTarget, ProviderError


class CallSource(StrEnum):
    """What a model is asked for."""

    RUN = "run"
    INFERENCE = "inference"
    JUDGE = "judge"
    LABEL = "label"
    SHADOW = "shadow"


class Refusal(StrEnum):
    """Why a call was not made, although it was well-formed and allowed."""

    BUDGET = "budget"
    CEILING = "ceiling"
    REQUEST_RATE = "request_rate"
    TOKEN_RATE = "token_rate"  # noqa: S105 - tokens of a model
    CONCURRENCY = "concurrency"


class JobOutcome(StrEnum):
    """How an attempt at a job ended."""

    SUCCEEDED = "succeeded"
    RETRIED = "retried"
    FAILED = "failed"


@dataclass(slots=True)
class JobAttempt:
    """An attempt at a job; one that is cut short is made again."""

    outcome: JobOutcome = JobOutcome.RETRIED


class CallMeter(Protocol):
    """Counts the calls that are made for one source."""

    def note(
        self,
        target: ChatTarget,
        answer: ChatAnswer | None,
        error: ProviderError | None,
        seconds: float | None,
        first_byte_seconds: float | None = None,
    ) -> None:
        """Note that *target* was asked, and either answered or failed.

        Args:
            target: Who was asked.
            answer: What it answered.
            error: Why it did not.
            seconds: From the request to the end of the answer, or to the failure; None when
                nobody was asked, since the endpoint is to be left alone.
            first_byte_seconds: From the request to the first of an answer in parts.
        """


class Meters(Protocol):
    """What use cases tell of their work."""

    def calls(self, source: CallSource) -> CallMeter:
        """Return what counts the calls that *source* makes."""
        ...

    def refused(self, reason: Refusal) -> None:
        """Note that a call was refused."""

    def job(self, kind: str, request_id: str) -> AbstractContextManager[JobAttempt]:
        """Time an attempt at a job while the block runs; the block says how it ended.

        Args:
            kind: One of the handlers' own.
            request_id: What the log's lines of this attempt are found by.
        """
        ...
