"""What all inputs have in common, and how a broken rule is told."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails

from db.base import EPOCH
from engine.slugs import READS_AS_ID, reads_as_id
from resolvers.errors import InvalidInputError
from resolvers.storable import find_unstorable

SHOWN_VALUE_CHARACTERS = 80
# Of what is sent by the thousand, all may be wrong in the same way.
SHOWN_PROBLEMS = 20
NUMBER = re.compile(r"\s*[-+]?[0-9_.]+(?:[eE][-+]?[0-9]+)?\s*")
URL_CREDENTIAL = re.compile(r"//[^/?#]*@")
# Of names; how many tokens there are, and which one it is, is no secret.
CREDENTIAL_FIELD = re.compile(r"secret|key|token(?!s|_?id)", re.IGNORECASE)


class RuleError(ValueError):
    """Fields do not go together.

    Args:
        field: The one to change.
        rule: What it breaks, as it goes on after the name.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field

    def told(self) -> InvalidInputError:
        """Return what the caller is told."""
        problem = {"field": self.field, "message": str(self)}
        return InvalidInputError(str(self), details={"fields": [problem]})


def _both_cases(name: str) -> AliasChoices:
    return AliasChoices(name, to_camel(name))


def check_storable(value: object) -> object:
    """Refuse what JSON or PostgreSQL can't hold, at any depth."""
    found = find_unstorable(value)
    if found is None:
        return value
    place, rule = ".".join(map(str, found.place)), f"must not contain {found.what}"
    if not place:
        raise ValueError(rule)
    if len(place) > SHOWN_VALUE_CHARACTERS:
        place = f"{place[:SHOWN_VALUE_CHARACTERS]}..."
    raise RuleError(place, rule)


class Input(BaseModel):
    """Parent of the inputs: names in snake_case or camelCase, unknown ones refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=AliasGenerator(validation_alias=_both_cases),
        validate_by_name=True,
    )

    def stored(self) -> dict[str, Any]:
        """Return it as a row keeps it: what is not set is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: object) -> object:
        return check_storable(value)


def invalid_input(broken: Sequence[ErrorDetails]) -> InvalidInputError:
    """Tell the caller which fields broke which rule, with the values they gave.

    Of many, the first are told, and how many there are.

    Args:
        broken: As pydantic lists them.
    """
    problems: list[dict[str, str]] = []
    told: list[str] = []
    # A field that may be left out is a choice between its type and nothing: that it is not
    # nothing is no news, and how the choice calls its type is no part of the field's name.
    choices = {problem["loc"][:-1] for problem in broken if problem["type"] == "none_required"}
    for problem in broken:
        if problem["type"] == "none_required":
            continue
        loc = problem["loc"]
        named = [part for place, part in enumerate(loc) if loc[:place] not in choices]
        field = ".".join(str(part) for part in named)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown field"
        elif problem["type"] == "missing":
            message = "is required"
        elif _may_show(field, problem["input"]):
            message = f"{message} (got {_shown(problem['input'])})"
        told.append(f"{field}: {message}" if field else message)
        broken_rule = problem.get("ctx", {}).get("error")
        if isinstance(broken_rule, RuleError):  # which names its field
            field = ".".join(filter(None, (field, broken_rule.field)))
        problems.append({"field": field, "message": message})
    shown, told = problems[:SHOWN_PROBLEMS], told[:SHOWN_PROBLEMS]
    if len(problems) > SHOWN_PROBLEMS:
        told.append(f"and {len(problems) - SHOWN_PROBLEMS} more")
    return InvalidInputError("; ".join(told), details={"fields": shown})


def _may_show(field: str, value: object) -> bool:
    if isinstance(value, str):
        return CREDENTIAL_FIELD.search(field) is None
    return isinstance(value, int | float | Decimal | datetime | None)  # which are no secrets


def _shown(value: object) -> str:
    if isinstance(value, Decimal):
        text = str(value)  # never written out: an exponent stands for any number of digits
    else:
        written = value.isoformat() if isinstance(value, datetime) else value
        text = URL_CREDENTIAL.sub("//***@", repr(written))
    return text if len(text) <= SHOWN_VALUE_CHARACTERS else f"{text[:SHOWN_VALUE_CHARACTERS]}..."


# Published as it is checked: something must be left once the spaces at the ends are not.
NOT_BLANK = Field(json_schema_extra={"pattern": r"\S"})
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), NOT_BLANK
]
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, max_digits=18, decimal_places=9)]
Url = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000), NOT_BLANK
]


def _is_written(value: object) -> object:
    """Refuse a number, which pydantic would take for seconds."""
    is_number = isinstance(value, int | float)
    if is_number or (isinstance(value, str) and NUMBER.fullmatch(value)):
        raise ValueError("must be an instant with a time zone, as RFC 3339 writes it")
    return value


def _in_utc(value: datetime) -> datetime:
    """Refuse what can't be told in UTC, or is before the first of ids that are made of time."""
    try:
        instant = value.astimezone(UTC)
    except OverflowError:
        instant = None
    if instant is None or instant < EPOCH:
        raise ValueError("must be in the years 1970 to 9999 of UTC")
    return instant


WrittenInstant = Annotated[AwareDatetime, BeforeValidator(_is_written), AfterValidator(_in_utc)]


def _is_no_id(value: str) -> str:
    """Refuse what another leaderboard may be called by."""
    if reads_as_id(value):
        raise ValueError("must not be an id")
    return value


Slug = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$", max_length=70),
    Field(json_schema_extra={"not": {"pattern": f"^{READS_AS_ID}$"}}),
    AfterValidator(_is_no_id),
]
ModelId = Annotated[str, StringConstraints(min_length=1, max_length=300)]
# The default of a field that may be left out, and may not be null.
LeftOut = SkipJsonSchema[None]
