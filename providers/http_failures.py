"""What a failed answer over HTTP amounts to: its code, its wait, and what it said."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from providers.answer_json import first_choice
from providers.base import ProviderError, ProviderErrorCode

SHOWN_CHARACTERS = 500
# Of an answer that is kept as the JSON that it is: far more than any provider's error has.
KEPT_BYTES = 16 * 1024
TOO_MANY_REQUESTS = 429
CODES = {
    401: ProviderErrorCode.CREDENTIAL_REFUSED,
    403: ProviderErrorCode.CREDENTIAL_REFUSED,
    404: ProviderErrorCode.NOT_FOUND,
    TOO_MANY_REQUESTS: ProviderErrorCode.RATE_LIMITED,
}
# No provider means it; a number without bound could not be told to callers.
LONGEST_WAIT_SECONDS = 7 * 86_400.0
RETRYABLE = {ProviderErrorCode.RATE_LIMITED, ProviderErrorCode.SERVER_ERROR}
REMOVED = "[removed]"


def failure(
    status: int,
    retry_after: str | None,
    content: bytes,
    *,
    sent: Mapping[str, str],
    message: str | None = None,
) -> ProviderError:
    """Describe an answer that says that the call failed.

    429 and 5xx are retryable: the endpoint says that it generated nothing.

    Args:
        status: The HTTP status.
        retry_after: The header of that name.
        content: The body.
        sent: The headers that carried the credential, which the endpoint may have repeated.
        message: What to say; that it answered *status* when left out.
    """
    code = CODES.get(status, ProviderErrorCode.REJECTED)
    if status >= 500:  # noqa: PLR2004 - the server errors
        code = ProviderErrorCode.SERVER_ERROR
    return ProviderError(
        code,
        message or f"the endpoint answered {status}",
        status=status,
        retry_after_seconds=read_retry_after(retry_after),
        is_retryable=code in RETRYABLE,
        body=shown_text(content, sent) or None,
        answered=read_answered(content, sent),
    )


def find_stated_failure(
    fields: Mapping[str, Any], content: bytes, *, sent: Mapping[str, str]
) -> ProviderError | None:
    """Return the failure that a 200 tells of, in itself or in its first choice; else None.

    Args:
        fields: The answer, or one event of it.
        content: The same, as it came.
        sent: As for `failure`.

    Source: https://openrouter.ai/docs/api/reference/errors-and-debugging; vLLM's `ErrorResponse`.
    """
    error = fields if fields.get("object") == "error" else fields.get("error")
    if not error:
        return _find_failed_choice(fields, content, sent)
    message = f"the endpoint answered an error: {_said(error, sent)}"
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 600:  # noqa: PLR2004 - the failures
        return failure(code, None, content, sent=sent, message=message)
    # Of what has no status nobody knows whether it may be asked again.
    return ProviderError(
        ProviderErrorCode.SERVER_ERROR,
        message,
        body=shown_text(content, sent),
        answered=read_answered(content, sent),
    )


def _find_failed_choice(
    fields: Mapping[str, Any], content: bytes, sent: Mapping[str, str]
) -> ProviderError | None:
    """Return the failure of an answer that had begun, which is not to be asked for again."""
    error = first_choice(fields).get("error")
    if not error:
        return None
    return ProviderError(
        ProviderErrorCode.INVALID_RESPONSE,
        f"the answer broke off: {_said(error, sent)}",
        body=shown_text(content, sent),
        answered=read_answered(content, sent),
    )


def _said(error: object, sent: Mapping[str, str]) -> str:
    details = error if isinstance(error, dict) else {"message": error}
    return _cleaner(sent)(str(details.get("message") or "no message"))[:SHOWN_CHARACTERS]


def read_retry_after(header: str | None) -> float | None:
    """Return how many seconds a Retry-After header asks to wait, in either of its forms.

    Source: RFC 9110, section 10.2.3.
    """
    stated = (header or "").strip()
    if stated.isascii() and stated.isdecimal():
        return min(float(stated), LONGEST_WAIT_SECONDS)
    try:
        until = parsedate_to_datetime(stated)
    except ValueError:
        return None
    if until.tzinfo is None:  # "-0000", which is UTC
        until = until.replace(tzinfo=UTC)
    wait = (until - datetime.now(UTC)).total_seconds()
    return min(max(0.0, wait), LONGEST_WAIT_SECONDS)


def shown_text(content: bytes, sent: Mapping[str, str]) -> str:
    """Return the start of *content* for a person, without the credential that was *sent*."""
    text = content[:KEPT_BYTES].decode("utf-8", "replace")
    return _cleaner(sent)(text)[:SHOWN_CHARACTERS]


def read_answered(content: bytes, sent: Mapping[str, str]) -> Any:
    """Return *content* as the JSON that it is, else its start as text; None when it is empty.

    Args:
        content: What was answered.
        sent: The headers that carried the credential; none of it is in what is returned.
    """
    if len(content) <= KEPT_BYTES:
        try:
            return _cleaned(orjson.loads(content), _cleaner(sent))
        except (orjson.JSONDecodeError, RecursionError):
            pass
    return shown_text(content, sent) or None


def _cleaner(sent: Mapping[str, str]) -> Callable[[str], str]:
    """Return what takes a credential, and what PostgreSQL can't store, out of a text."""
    secrets = sorted(_secrets(sent.values()), key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, REMOVED)
        return text.replace("\x00", "")

    return clean


def _secrets(values: Iterable[str]) -> set[str]:
    """Return credentials as headers have them, without their scheme, and as JSON may have both."""
    parts = {part for value in values for part in (value, value.split(" ")[-1]) if part}
    return parts | {part.replace("/", "\\/") for part in parts}


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(each, clean) for each in value]
    if isinstance(value, dict):
        return {clean(name): _cleaned(each, clean) for name, each in value.items()}
    return value
