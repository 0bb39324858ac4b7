"""How long one operation's steps took, for a caller who asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from db.session import Database

_timed: ContextVar["Timing | None"] = ContextVar("timed", default=None)


@dataclass(slots=True)
class Timing:
    """What one operation took; steps that were not taken took no time.

    Attributes:
        sql_seconds: Summed; statements may run at the same time.
        compiled: Whether the compiled executor ran it; None when nothing ran.
        fallback: Why graphql-core did.
    """

    parse_seconds: float = 0.0
    validate_seconds: float = 0.0
    compile_seconds: float = 0.0
    execute_seconds: float = 0.0
    encode_seconds: float = 0.0
    sql_count: int = 0
    sql_seconds: float = 0.0
    document_cached: bool = True
    plan_cached: bool = False
    compiled: bool | None = None
    fallback: str | None = None

    def show(self) -> dict[str, Any]:
        """Return what the answer's `extensions.timing` says."""
        executor = {True: "compiled", False: "graphql-core", None: None}[self.compiled]
        return {
            "parseMs": _milliseconds(self.parse_seconds),
            "validateMs": _milliseconds(self.validate_seconds),
            "compileMs": _milliseconds(self.compile_seconds),
            "executeMs": _milliseconds(self.execute_seconds),
            "encodeMs": _milliseconds(self.encode_seconds),
            "sqlCount": self.sql_count,
            "sqlMs": _milliseconds(self.sql_seconds),
            "documentCached": self.document_cached,
            "planCached": self.plan_cached,
            "executor": executor,
            "fallback": self.fallback,
        }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


@contextmanager
def counting_statements(database: Database, timing: Timing) -> Iterator[None]:
    """Count the statements of this task, and of the tasks that it starts, while the block runs."""

    def note(_sql: str, seconds: float) -> None:
        if _timed.get() is timing:  # and not another request's statement
            timing.sql_count += 1
            timing.sql_seconds += seconds

    before = _timed.set(timing)
    database.watchers.append(note)
    try:
        yield
    finally:
        database.watchers.remove(note)
        _timed.reset(before)
