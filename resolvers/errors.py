"""Every failure a caller can act on. How each is shown is the edges' business."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from typing_extensions import override

if TYPE_CHECKING:
    from resolvers.budgets import Budget
    from resolvers.reservations import TokenState


# What a message begins with that tells of one field.
NAMED_FIELD = re.compile(r"([\w.\-]+): ")


class ErrorCode(StrEnum):
    """Stable, documented codes; clients switch on these, never on messages."""

    INVALID_INPUT = "invalid_input"
    UNSUPPORTED_OPTION = "unsupported_option"
    INVALID_DATASET = "invalid_dataset"
    QUERY_TOO_COSTLY = "query_too_costly"
    UNAUTHENTICATED = "unauthenticated"
    BUDGET_EXCEEDED = "budget_exceeded"
    PRICE_UNKNOWN = "price_unknown"
    FORBIDDEN = "forbidden"
    DOCUMENT_NOT_ALLOWED = "document_not_allowed"
    NOT_FOUND = "not_found"
    PERSISTED_QUERY_NOT_FOUND = "persisted_query_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    RANKING_NOT_READY = "ranking_not_ready"
    INTEGRATION_MISSING = "integration_missing"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    BODY_TOO_LARGE = "body_too_large"
    RATE_LIMITED = "rate_limited"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    CORRUPT_SNAPSHOT = "corrupt_snapshot"
    INTERNAL = "internal"
    UPSTREAM_ERROR = "upstream_error"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a call of production that failed, or was refused, leaves its caller.

    Attributes:
        trace_id: Of the call; None when it was refused.
        budget: The token's, if it has one.
        limits: The token's, as they were when the call was decided on; None when it has none.
    """

    trace_id: UUID | None
    budget: "Budget | None"
    limits: "TokenState | None"


class AppError(Exception):
    """Base of the expected failures; anything else is a bug and gets masked.

    Attributes:
        details: JSON-ready facts for a program to read; never a secret.
        retry_after_seconds: When a repeat may succeed, if that is known.
        standing: Of a call of production, where that leaves its caller.
    """

    code: ClassVar[ErrorCode]

    def __init__(
        self,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.details = self._details_in(message) if details is None else details
        self.retry_after_seconds = retry_after_seconds
        self.standing: Standing | None = None

    def _details_in(self, message: str) -> dict[str, Any]:
        """Return the details that a message says by itself."""
        del message
        return {}


class InvalidInputError(AppError):
    """A value breaks a rule; the message names the field and the value.

    Where no details are given, a message like "limit: must be ..." says them.
    """

    code = ErrorCode.INVALID_INPUT

    @override
    def _details_in(self, message: str) -> dict[str, Any]:
        named = NAMED_FIELD.match(message)
        if named is None:
            return {}
        return {"fields": [{"field": named[1], "message": message[named.end() :]}]}


class UnsupportedOptionError(AppError):
    """The request asks for something this endpoint does not do."""

    code = ErrorCode.UNSUPPORTED_OPTION


class InvalidDatasetError(AppError):
    """The dataset can't be read, or holds nothing that can be used."""

    code = ErrorCode.INVALID_DATASET


class QueryTooCostlyError(AppError):
    """The operation asks for more at once than it may."""

    code = ErrorCode.QUERY_TOO_COSTLY


class UnauthenticatedError(AppError):
    """There is no credential, or it is not valid."""

    code = ErrorCode.UNAUTHENTICATED


class BudgetExceededError(AppError):
    """The token's budget can't cover the most that the call may cost."""

    code = ErrorCode.BUDGET_EXCEEDED


class PriceUnknownError(AppError):
    """What the call may cost can't be told, so that no budget can cover it."""

    code = ErrorCode.PRICE_UNKNOWN


class ForbiddenError(AppError):
    """The caller is known and may not do this."""

    code = ErrorCode.FORBIDDEN


class DocumentNotAllowedError(AppError):
    """The deployment has an allow-list of GraphQL documents, and this one is not on it."""

    code = ErrorCode.DOCUMENT_NOT_ALLOWED


class NotFoundError(AppError):
    """The thing named does not exist, or the caller may not know that it does."""

    code = ErrorCode.NOT_FOUND


class PersistedQueryNotFoundError(AppError):
    """No document with that hash is kept; the client must send its text once."""

    code = ErrorCode.PERSISTED_QUERY_NOT_FOUND


class MethodNotAllowedError(AppError):
    """The path exists and does not take this method."""

    code = ErrorCode.METHOD_NOT_ALLOWED


class ConflictError(AppError):
    """The request contradicts the present state."""

    code = ErrorCode.CONFLICT


class RankingNotReadyError(AppError):
    """No ranking is complete, so there is no model in production yet."""

    code = ErrorCode.RANKING_NOT_READY


class IntegrationMissingError(AppError):
    """The workspace has saved no key at the provider this needs."""

    code = ErrorCode.INTEGRATION_MISSING


class IdempotencyConflictError(AppError):
    """The Idempotency-Key was used before, with another request."""

    code = ErrorCode.IDEMPOTENCY_CONFLICT


class RateLimitedError(AppError):
    """The token has used up its requests or tokens of this minute."""

    code = ErrorCode.RATE_LIMITED


class BodyTooLargeError(AppError):
    """The request's body is over the limit."""

    code = ErrorCode.BODY_TOO_LARGE


class UnsupportedMediaTypeError(AppError):
    """The request's body is not of a type that is read here."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


class CorruptSnapshotError(AppError):
    """What is stored of a snapshot is not what was stored, so that nothing of it is shown."""

    code = ErrorCode.CORRUPT_SNAPSHOT


class InternalError(AppError):
    """Something unexpected, already logged under the request's id."""

    code = ErrorCode.INTERNAL


class UpstreamError(AppError):
    """A provider or an endpoint failed."""

    code = ErrorCode.UPSTREAM_ERROR


class UnavailableError(AppError):
    """The database, or another part this needs, can't be reached."""

    code = ErrorCode.UNAVAILABLE
