"""Failed answers: what they are, how long they ask to wait, and what is kept of them."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import ProviderErrorCode
from providers.http_failures import KEPT_BYTES, failure, read_answered, read_retry_after

SENT = {"Authorization": "Bearer sk-secret/of+ours", "x-api-key": "another key"}


@pytest.mark.parametrize(
    ("status", "code", "is_retryable"),
    [
        (400, "rejected", False), (401, "credential_refused", False), (302, "rejected", False),
        (403, "credential_refused", False), (404, "not_found", False), (418, "rejected", False),
        (429, "rate_limited", True), (500, "server_error", True), (503, "server_error", True),
    ],
)  # fmt: skip
def test_a_status_has_a_code(status: int, code: str, *, is_retryable: bool) -> None:
    error = failure(status, None, b"", sent={})
    assert (error.code, error.is_retryable, error.status) == (code, is_retryable, status)
    assert (str(error), error.body, error.answered) == (
        f"the endpoint answered {status}", None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("", None), ("7", 7.0), (" 0 ", 0.0), ("9" * 400, 604_800.0), ("-1", None),
        ("1.5", None), ("soon", None), ("²", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 9000 07:28:00 GMT", 604_800.0), ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read(header: str | None, seconds: float | None) -> None:
    assert read_retry_after(header) == seconds


@pytest.mark.parametrize("uses_gmt", [True, False])
def test_retry_after_may_be_a_date(*, uses_gmt: bool) -> None:
    later = datetime.now(UTC) + timedelta(minutes=2)
    wait = read_retry_after(format_datetime(later, usegmt=uses_gmt))
    assert wait is not None
    assert 60 < wait <= 120


@given(st.text())
def test_whatever_retry_after_is_it_is_a_wait_or_none(header: str) -> None:
    wait = read_retry_after(header)
    assert wait is None or 0 <= wait <= 604_800


def test_what_was_answered_is_kept_as_json_with_every_field() -> None:
    told = {"error": {"code": "context_length_exceeded", "param": None, "n": [1, 2.5, True]}}
    error = failure(400, None, orjson.dumps(told), sent=SENT)
    assert error.answered == told
    assert error.body == orjson.dumps(told).decode()


def test_what_is_no_json_or_too_large_is_kept_as_the_start_of_its_text() -> None:
    assert read_answered(b"<html>" + b"x" * 1_000, {}) == "<html>" + "x" * 494
    large = orjson.dumps("x" * KEPT_BYTES)
    assert read_answered(large, {}) == large[:500].decode()
    assert read_answered(b"[" * 2_000 + b"]" * 2_000, {}) == "[" * 500
    assert read_answered(b"\xff\x00\xfe", {}) == "\ufffd\ufffd"


@pytest.mark.parametrize(
    "told",
    [
        {"error": "Incorrect API key provided: sk-secret/of+ours"},
        {"headers": {"authorization": ["Bearer sk-secret/of+ours"], "X": "another key"}},
        ["Bearer sk-secret/of+ours", {"sk-secret/of+ours": 1}],
        "sk-secret/of+ours",
    ],
)
def test_our_credential_is_not_in_what_is_kept(told: Any) -> None:
    for content in (
        orjson.dumps(told),
        orjson.dumps(told).replace(b"/", b"\\/"),
        b"not JSON: " + orjson.dumps(told),
        orjson.dumps([told, "x" * KEPT_BYTES]),
    ):
        error = failure(401, None, content, sent=SENT)
        kept = f"{error} {error.body} {error.answered}"
        assert "secret" not in kept
        assert "another key" not in kept
        assert "[removed]" in kept


def test_what_postgresql_can_not_store_is_not_kept() -> None:
    error = failure(400, None, b'{"a\\u0000": "b\\u0000"}', sent={})
    assert error.answered == {"a": "b"}
    assert error.code == ProviderErrorCode.REJECTED
