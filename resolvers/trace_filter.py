"""The filter of traces: its conditions, and which of them an index answers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar, Final, Literal
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, bindparam, literal_column, or_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import Text
from typing_extensions import override

from db.base import MILLISECOND, first_id_at, instant_of
from db.records import PLANNED_EACH_TIME, PLANNED_ONCE
from resolvers.paging import AnySelect
from resolvers.trace_words import holds_words, sought
from resolvers.where import PREFIX, Where

TraceSource = Literal["run", "inference", "shadow", "dataset", "manual"]
"""What traces are made for."""

# Fields that ids tell, and how the same bound of texts is named.
INSTANTS: Final = {"since": "texts_from", "until": "texts_to"}
# Whatever their values are, the traces are read in their order, up to the end of the page.
READ_IN_ORDER: Final = frozenset({*INSTANTS, "leaderboard_id"})
LIMITS: Final = {
    "min_latency_ms": "latency_ms",
    "max_latency_ms": "latency_ms",
    "min_cost_usd": "cost_usd",
    "max_cost_usd": "cost_usd",
    "min_score": "score",
    "max_score": "score",
}
# Fields whose values tell which of the indexes is the one to read.
TELLING: Final = (*LIMITS, "metadata_value", "search")
# What is no string in JSON: `7` is asked for as the number too, and `true` as the truth value.
JSON_SCALAR: Final = re.compile(r"true|false|null|-?(0|[1-9]\d{0,30})(\.\d{1,30})?")


@dataclass(frozen=True, slots=True)
class TraceFilter(Where):
    """Which traces are asked for.

    Attributes:
        since: Made at this instant or later.
        until: Made before this instant.
        has_error: Whether an error was told.
        min_score: The trace's own score, which those of runs have, is so much or more.
        metadata_key: There is such a key at the top of the metadata.
        metadata_value: And this is its value: a string, or the JSON of another scalar.
        search: Words of the input and the output, as web search engines take them.
    """

    TEXT: ClassVar[frozenset[str]] = frozenset({"source", "status", "has_error"})

    source: TraceSource | None = None
    status: Literal["ok", "error", "cancelled"] | None = None
    provider: str | None = None
    model: str | None = None
    leaderboard_id: UUID | None = None
    run_id: UUID | None = None
    candidate_id: UUID | None = None
    token_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_latency_ms: float | None = None
    max_latency_ms: float | None = None
    min_cost_usd: Decimal | None = None
    max_cost_usd: Decimal | None = None
    min_score: float | None = None
    max_score: float | None = None
    has_error: bool | None = None
    metadata_key: str | None = None
    metadata_value: str | None = None
    search: str | None = None

    @override
    def condition(self, entity: Any, name: str) -> ColumnElement[bool]:
        if name in INSTANTS:
            return _within(entity.id, name, is_least=name == "since")
        if name in LIMITS:
            return _within(getattr(entity, LIMITS[name]), name, is_least=name.startswith("min"))
        if name in {"source", "status"}:
            # Written out, so that the planner sees that the index of the rare ones will do.
            return getattr(entity, name) == literal_column(f"'{getattr(self, name)}'")  # type: ignore[no-any-return]
        if name == "run_id":
            # Its calls are of no day before its own, as its id tells.
            is_its: ColumnElement[bool] = Where.condition(self, entity, name)
            return is_its & (entity.id >= _given("run_began", entity.id.type))  # type: ignore[no-any-return]
        if name == "has_error":
            failed: ColumnElement[bool] = entity.error.is_not(None)
            return failed if self.has_error else ~failed
        if name == "metadata_key":
            return entity.trace_metadata.has_key(_given(name, Text()))  # type: ignore[no-any-return]
        if name == "metadata_value":
            return or_(
                entity.trace_metadata.contains(_given(name, JSONB())),
                entity.trace_metadata.contains(_given("metadata_scalar", JSONB())),
            )
        if name == "search":
            return _found(entity, sorted(INSTANTS.keys() & set(self._given())))
        return Where.condition(self, entity, name)

    @override
    def values(self) -> dict[str, Any]:
        """Return the parameters: instants as ids, which lead to the days that are asked for."""
        given = Where.values(self)
        for name, bound in INSTANTS.items():
            if getattr(self, name) is not None:
                given[f"{PREFIX}{name}"] = given[bound] = first_id_at(getattr(self, name))
        if self.run_id is not None:
            given[f"{PREFIX}run_began"] = UUID(int=self.run_id.int >> 80 << 80)
        if self.search is not None:
            given[f"{PREFIX}search"] = sought(self.search)
        if self.metadata_value is not None:
            as_text = {self.metadata_key: self.metadata_value}
            is_scalar = JSON_SCALAR.fullmatch(self.metadata_value)
            given[f"{PREFIX}metadata_value"] = as_text
            given[f"{PREFIX}metadata_scalar"] = (
                {self.metadata_key: orjson.Fragment(self.metadata_value)} if is_scalar else as_text
            )
        return given


def planned(statement: AnySelect, where: TraceFilter) -> AnySelect:
    """Return the statement of a list, for one plan where the same is good for all values."""
    is_plain = all(getattr(where, name) is None for name in where.__match_args__
                   if name not in READ_IN_ORDER)  # fmt: skip
    if is_plain:
        return statement.execution_options(**PLANNED_ONCE)
    return planned_for_values(statement, where)


def planned_for_values(statement: AnySelect, where: TraceFilter) -> AnySelect:
    """Return a statement, to be planned for its values where they tell how much is admitted."""
    is_telling = any(getattr(where, name) is not None for name in TELLING)
    return statement.execution_options(**PLANNED_EACH_TIME) if is_telling else statement


def around(where: TraceFilter, trace_ids: Sequence[UUID]) -> TraceFilter:
    """Return *where* for the days of some traces that it admits alone; as it is for none.

    A statement that reads texts is planned for each day that it may find them in, column by column:
    of ninety days that takes ten times as long as reading fifty texts.
    """
    if not trace_ids:
        return where
    made_at = [instant_of(trace_id) for trace_id in trace_ids]
    return replace(where, since=min(made_at), until=max(made_at) + MILLISECOND)


def _given(name: str, kind: Any) -> Any:
    return bindparam(f"{PREFIX}{name}", type_=kind)


def _within(column: Any, name: str, *, is_least: bool) -> ColumnElement[bool]:
    limit = _given(name, column.type)
    return column >= limit if is_least else column < limit if name == "until" else column <= limit  # type: ignore[no-any-return]


def _found(entity: Any, names: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a trace's texts hold the words that are searched.

    Args:
        entity: The trace.
        names: Those of `since` and `until` that are given: the texts are of those days too.
    """
    oldest = bindparam("oldest_trace_id", type_=entity.id.type)
    bounds = [lambda column: column >= oldest]
    bounds += [partial(_within, name=name, is_least=name == "since") for name in names]
    return holds_words(entity.id, _given("search", Text()), bounds)
