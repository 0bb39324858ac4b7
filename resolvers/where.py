"""Filters of lists: which rows are asked for, as conditions with parameters."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam
from typing_extensions import override

from resolvers.paging import AnySelect

PREFIX = "where_"
# Stands for a value that is a parameter.
GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Where:
    """Which rows are asked for; a field that is None does not matter.

    A field's condition is that the column of its name equals it, unless
    `condition` says otherwise.

    Attributes:
        TEXT: Fields whose value changes the statement's text, not a parameter.
    """

    TEXT: ClassVar[frozenset[str]] = frozenset()

    def condition(self, entity: Any, name: str) -> ColumnElement[bool]:
        """Return the condition of the field *name*, whose value is a parameter."""
        column = getattr(entity, name)
        return column == bindparam(f"{PREFIX}{name}", type_=column.type)  # type: ignore[no-any-return]

    def narrow(self, statement: AnySelect, entity: Any) -> AnySelect:
        """Add the conditions to *statement*; their parameters are `values`."""
        for name in self._given():
            statement = statement.where(self.condition(entity, name))
        return statement

    def values(self) -> dict[str, Any]:
        """Return the parameters."""
        return {f"{PREFIX}{name}": getattr(self, name) for name in self._given()}

    def shape(self) -> Self:
        """Return the filter that every filter with the same statement has in common."""
        parameters: dict[str, Any] = {
            name: GIVEN for name in self._given() if name not in self.TEXT
        }
        return replace(self, **parameters) if parameters else self

    def _given(self) -> list[str]:
        """Return the names of the fields that matter."""
        names: tuple[str, ...] = self.__match_args__
        return [name for name in names if getattr(self, name) is not None]


NOTHING = Where()


@dataclass(frozen=True, slots=True)
class ChangeFilter(Where):
    """Which of an improvement's changes are asked for."""

    kind: Literal["fill", "flag", "easy", "separates", "neutral"] | None = None
    decision: Literal["pending", "accepted", "rejected"] | None = None


@dataclass(frozen=True, slots=True)
class ResultFilter(Where):
    """Which of a run's results are asked for.

    Attributes:
        outcome: Answered, or ended in an error.
        min_score: Scored so much or more.
        max_score: Scored so much or less.
    """

    TEXT = frozenset({"outcome"})

    candidate_id: UUID | None = None
    outcome: Literal["ok", "error"] | None = None
    min_score: float | None = None
    max_score: float | None = None

    @override
    def condition(self, entity: Any, name: str) -> ColumnElement[bool]:
        if name in {"min_score", "max_score"}:
            limit = bindparam(f"{PREFIX}{name}", type_=entity.score.type)
            score: ColumnElement[float] = entity.score
            is_scored: ColumnElement[bool] = ~entity.is_pending
            return is_scored & (score >= limit if name == "min_score" else score <= limit)
        if name != "outcome":
            return Where.condition(self, entity, name)
        failed: ColumnElement[bool] = entity.error.is_not(None)
        return failed if self.outcome == "error" else ~failed
