"""Lines of the log: their form, where they come from, and what they leave out."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from contextvars import Context

import pytest

from app.logs import (
    JsonLine,
    TextLine,
    current_otel_trace_id,
    current_request_id,
    format_error,
    rfc3339_ms,
)

SECRET = "what nobody may read"


def record_of(
    message: str, *arguments: object, name: str = "gero.test", error: bool = False
) -> logging.LogRecord:
    about = sys.exc_info() if error else None
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, arguments, about)


def test_a_line_of_json_has_the_request_it_comes_from() -> None:
    record = record_of("it took %d s", 3)
    record.created = 1_795_600_000.25
    bare = json.loads(JsonLine().format(record))
    assert bare == {
        "time": "2026-11-25T09:46:40.250Z",
        "level": "error",
        "logger": "gero.test",
        "message": "it took 3 s",
    }

    def within_a_request() -> str:
        current_request_id.set("mine-1")
        current_otel_trace_id.set("0af7651916cd43dd8448eb211c80319c")
        return JsonLine().format(record)

    whole = json.loads(Context().run(within_a_request))
    assert whole == bare | {
        "request_id": "mine-1",
        "otel_trace_id": "0af7651916cd43dd8448eb211c80319c",
    }


def test_a_line_of_json_is_one_line_whatever_is_said() -> None:
    line = JsonLine().format(record_of("a\nb\udcff"))
    assert "\n" not in line
    assert json.loads(line)["message"] == "a\nb\udcff"


def fail_with_a_cause() -> None:
    private = SECRET
    known: dict[str, str] = {}
    try:
        known[private]
    except KeyError as error:
        raise ValueError(f"it was {private}") from error


@pytest.mark.parametrize("line", [TextLine().format, JsonLine().format])
def test_a_traceback_says_where_and_what_but_quotes_nothing(
    line: Callable[[logging.LogRecord], str],
) -> None:
    said = ""
    try:
        fail_with_a_cause()
    except ValueError:
        said = line(record_of("failed", error=True))
    assert SECRET not in said
    assert "in fail_with_a_cause" in said
    assert said.index("ValueError") < said.index("It came of:") < said.index("KeyError")


def test_a_hidden_cause_stays_hidden_and_a_group_shows_its_members() -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError:
            raise ValueError(SECRET) from None
    except ValueError as error:
        alone = error
    said = format_error(ExceptionGroup(SECRET, [alone, TypeError("not a number")]))
    assert [line for line in said.splitlines() if line and line[0] not in {" ", "T", "I"}] == [
        "ExceptionGroup",
        "ValueError",
    ]
    assert said.endswith("TypeError: not a number")
    assert SECRET not in said


async def test_an_exception_that_nobody_took_is_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise ValueError(SECRET)

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    del task
    (record,) = [each for each in caplog.records if each.name == "asyncio"]
    assert SECRET in record.getMessage()
    for form in (TextLine(), JsonLine()):
        said = form.format(record)
        assert "Task exception was never retrieved" in said
        assert "ValueError" in said
        assert SECRET not in said


def test_times_are_in_utc_to_the_millisecond() -> None:
    assert rfc3339_ms(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339_ms(1.9996) == "1970-01-01T00:00:01.999Z"
