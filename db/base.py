"""The declarative base, its naming convention, and the column types every row class shares."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, SafeUUID

from sqlalchemy import DateTime, MetaData, Numeric, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column
from uuid_utils import uuid7

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

# US dollars, to a millionth of a millionth: one token of the cheapest model is above it.
USD_PLACES = 12
Usd = Annotated[Decimal, mapped_column(Numeric(24, USD_PLACES))]
Instant = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[
    datetime, mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
]
Json = Annotated[dict[str, Any], mapped_column(JSONB(none_as_null=True))]
# The published rule, which every leaderboard has unless it names another.
Promotion = Annotated[
    dict[str, Any],
    mapped_column(JSONB(none_as_null=True), server_default=text("""'{"rule": "always"}'""")),
]
JsonList = Annotated[list[Any], mapped_column(JSONB(none_as_null=True))]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# Of the year 9999, to which instants reach.
LAST_MILLISECOND = 253_402_300_799_000
UNKNOWN_SAFETY = SafeUUID.unknown


def new_id() -> UUID:
    """Return a fresh version 7 UUID: later ids sort after earlier ones."""
    made = object.__new__(UUID)  # as `UUID(int=...)` makes it, in half of the time
    object.__setattr__(made, "int", uuid7().int)
    object.__setattr__(made, "is_safe", UNKNOWN_SAFETY)
    return made


# Made here because PostgreSQL 15 can't.
Id = Annotated[UUID, mapped_column(primary_key=True, default=new_id)]


class Base(DeclarativeBase):
    """Parent of every row class."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {str: Text()}  # noqa: RUF012 - SQLAlchemy's own declaration


def first_id_at(instant: datetime) -> UUID:
    """Return the lowest version 7 UUID of *instant* or later, which bounds a range of ids.

    Ids are of whole milliseconds: within one, it is the next one's first.

    Source: RFC 9562, section 5.7: the first 48 bits are milliseconds since 1970.
    """
    return UUID(int=max(-((EPOCH - instant) // MILLISECOND), 0) << 80)


def instant_of(id: UUID) -> datetime:
    """Return when a version 7 UUID was made, in UTC, to the millisecond.

    Any other UUID is of some time up to the year 9999.
    """
    return EPOCH + min(id.int >> 80, LAST_MILLISECOND) * MILLISECOND
