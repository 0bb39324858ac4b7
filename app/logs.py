"""The log: lines of text or of JSON, which hold no credential, no prompt and no answer."""

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from resolvers.failures import describe

LogFormat = Literal["text", "json"]
ExceptionInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)

TEXT_LINE: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
OURS: Final = ("gero", "compiled_graphql")
# Below a warning, libraries tell of statements, rows, headers and messages.
LIBRARIES_LEVEL: Final = logging.WARNING
# Exceptions that one came of.
LONGEST_CHAIN: Final = 20


# Of the request or job that a line of the log comes from, and of the spans that it leaves.
current_request_id: ContextVar[str | None] = ContextVar("current_request_id", default=None)
current_otel_trace_id: ContextVar[str | None] = ContextVar("current_otel_trace_id", default=None)


def configure_logs(level: str, form: LogFormat) -> None:
    """Send the log to standard error.

    Args:
        level: The least severe messages of ours that are logged; libraries' are from warning on.
        form: How lines are written.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine() if form == "json" else TextLine())
    logging.basicConfig(level=LIBRARIES_LEVEL, handlers=[handler])
    threshold = logging.getLevelNamesMapping()[level.upper()]
    for name in OURS:
        logging.getLogger(name).setLevel(threshold)
    # It tells that the server has started; below that it tells what is sent.
    uvicorn_log = logging.getLogger("uvicorn.error")
    uvicorn_log.setLevel(max(logging.INFO, threshold))
    uvicorn_log.addFilter(_cut_query)


def format_error(error: BaseException) -> str:
    """Return where *error*, and what it came of, were raised, without what they quote."""
    parts: list[str] = []
    present: BaseException | None = error
    while present is not None and len(parts) < LONGEST_CHAIN:
        frames = "".join(traceback.format_tb(present.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{describe(present)}")
        if isinstance(present, BaseExceptionGroup):
            parts += [format_error(each) for each in present.exceptions[:LONGEST_CHAIN]]
        hidden = present.__suppress_context__
        present = present.__cause__ or (None if hidden else present.__context__)
    return "\n\nIt came of:\n\n".join(parts)


def _message_of(record: logging.LogRecord) -> str:
    """Return what a record says.

    asyncio repeats the exception that nobody took; where that was raised is logged all the same.
    """
    message = record.getMessage()
    return message.partition("\n")[0] if record.name == "asyncio" else message


def _cut_query(record: logging.LogRecord) -> bool:
    """Leave the query out of the path of a WebSocket, and let the record pass."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            each.partition("?")[0] if isinstance(each, str) else each for each in record.args
        )
    return True


class TextLine(logging.Formatter):
    """Writes a record as text, for people."""

    def __init__(self) -> None:
        super().__init__(TEXT_LINE)

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        record.exc_text = None  # another handler may have kept the exception in its own words
        return super().format(record)

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.message = _message_of(record)
        return super().formatMessage(record)

    @override
    def formatException(self, ei: ExceptionInfo) -> str:
        """Return the lines of an exception."""
        return "" if ei[1] is None else format_error(ei[1])


class JsonLine(logging.Formatter):
    """Writes a record as an object of JSON, for programs."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        shown = {
            "time": rfc3339_ms(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message_of(record),
        }
        origin = {
            "request_id": current_request_id.get(),
            "otel_trace_id": current_otel_trace_id.get(),
        }
        shown |= {name: known for name, known in origin.items() if known is not None}
        if record.exc_info and record.exc_info[1] is not None:
            shown["exception"] = format_error(record.exc_info[1])
        return json.dumps(shown)


def rfc3339_ms(seconds: float) -> str:
    """Return an instant as RFC 3339 has it, in UTC and to the millisecond.

    Args:
        seconds: Since the epoch.
    """
    written = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return written.replace("+00:00", "Z")
