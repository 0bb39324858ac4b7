"""Inputs about datasets that are pushed."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import Field, StringConstraints, field_validator, model_validator

from engine.edits import MAX_TAGS, MAX_WEIGHT, EditField
from resolvers.inputs.base import Input, Name, RuleError, WrittenInstant

RowCount = Annotated[int, Field(ge=1, le=100_000_000)]
# Longer than anybody lets rows wait.
MAX_HOURS = 24 * 366


def end_of(value: object) -> object:
    """Read a day as the instant at which it is over, in UTC; leave anything else as it is."""
    if isinstance(value, str) and len(value) == len("2026-12-31"):
        try:
            last = date.fromisoformat(value)
        except ValueError:
            return value
        if last == date.max:  # for ever: no day comes after it
            return datetime.max.replace(tzinfo=UTC)
        return datetime.combine(last, time(), tzinfo=UTC) + timedelta(days=1)
    return value


class PushFields(Input):
    """What a pushed dataset takes and when it is consolidated; none of it goes with a URL."""

    auto_limit_size: bool | None = Field(
        default=None,
        description="Keep at most max_samples_to_gather rows of a snapshot, chosen by their "
        "digests, instead of taking no more rows.",
    )
    max_samples_to_gather: RowCount | None = Field(
        default=None, description="Rows that the dataset holds at most."
    )
    daily_event_limit: RowCount | None = Field(
        default=None, description="Rows accepted in a UTC day."
    )
    monthly_event_limit: RowCount | None = Field(
        default=None, description="Rows accepted in a UTC month."
    )
    consolidate_every_events: RowCount | None = Field(
        default=None, description="Make a snapshot when so many rows are pending."
    )
    consolidate_every_hours: Annotated[int, Field(ge=1, le=MAX_HOURS)] | None = Field(
        default=None, description="Make a snapshot when rows have been pending for so long."
    )
    dedupe: bool | None = Field(
        default=None,
        description="Take a row once, by its normalised input and expected output: true when "
        "left out. A row with an id is taken once in any case.",
    )
    near_duplicate_threshold: Annotated[float, Field(ge=0.5, le=1)] | None = Field(
        default=None,
        description="Leave rows out of snapshots whose inputs are as similar as this to another "
        "one's: the Jaccard index of their three-word shingles.",
    )
    end_date: Annotated[WrittenInstant, Field(description="When it closes.")] | None = Field(
        default=None,
        description="When the dataset takes no more rows; a day means its end, in UTC.",
    )

    @model_validator(mode="before")
    @classmethod
    def _day_is_its_end(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {
            name: end_of(given) if name in {"end_date", "endDate"} else given
            for name, given in value.items()
        }

    def pushed(self) -> dict[str, Any]:
        """Return the fields of a pushed dataset that are given."""
        names = PushFields.model_fields.keys() & self.model_fields_set
        return self.model_dump(mode="json", include=set(names))


def push_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pushed dataset's settings as a row keeps them.

    Args:
        given: Fields of `PushFields`; those that are None are as if left out.

    Raises:
        RuleError: They don't go together.
    """
    settings = {name: value for name, value in given.items() if value is not None}
    settings = {"auto_limit_size": False, "dedupe": True, **settings}
    if settings["auto_limit_size"] and "max_samples_to_gather" not in settings:
        raise RuleError("auto_limit_size", "needs max_samples_to_gather")
    return settings


MAX_EDITED_ROWS = 1_000
MAX_TEXT_CHARACTERS = 1_000_000
EditedText = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS)]


class RowEdit(Input):
    """What a person says of a row; what is left out stays, and null takes it away or back."""

    row_id: str | None = Field(
        default=None, description="A row of a snapshot: the snapshot's id, a colon, its position."
    )
    external_id: EditedText | None = Field(default=None, description="The id that it was given.")
    input: EditedText | None = None
    expected: EditedText | None = None
    rubric: EditedText | None = None
    tags: Annotated[list[EditedText], Field(max_length=MAX_TAGS)] | None = None
    quality: Annotated[float, Field(ge=0, le=1)] | None = None
    weight: Annotated[float, Field(ge=0, le=MAX_WEIGHT)] | None = Field(
        default=None, description="How likely a weighted draw takes it, against others: 1."
    )
    excluded: bool | None = Field(default=None, description="Leave it out of snapshots.")
    reason: Annotated[str, StringConstraints(max_length=2_000)] | None = Field(
        default=None, description="Why, for whoever reads the history."
    )

    @field_validator("input")
    @classmethod
    def _says_something(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("must not be blank")
        return value

    @model_validator(mode="after")
    def _names_a_row_and_edits_it(self) -> Self:
        if (self.row_id is None) == (self.external_id is None):
            raise ValueError("one of row_id and external_id names the row")
        if not self.values():
            raise ValueError("nothing of the row is edited")
        return self

    def values(self) -> dict[EditField, Any]:
        """Return what is edited."""
        return {
            field: getattr(self, field)
            for field in EditField
            if field.value in self.model_fields_set
        }


class RowEdits(Input):
    """What a person says of rows."""

    rows: Annotated[list[RowEdit], Field(min_length=1, max_length=MAX_EDITED_ROWS)]


class NewPushToken(Input):
    """A push token to create."""

    name: Name = Field(description="For people.")


class RevokedPushTokens(Input):
    """Which push tokens to revoke."""

    token_id: UUID | None = Field(default=None, description="One of them; all when left out.")
