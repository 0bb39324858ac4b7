"""Ids of version 7, and the instants that they are of."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from db.base import LAST_MILLISECOND, first_id_at, instant_of

instants = st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1))  # noqa: DTZ001
MADE_AT_MS = 1_795_680_000_123
MADE_AT = datetime(2026, 11, 26, 8, 0, 0, 123_000, UTC)


@given(at=instants, made_at_ms=st.integers(0, LAST_MILLISECOND))
@example(at=MADE_AT, made_at_ms=MADE_AT_MS)
@example(at=MADE_AT + timedelta(microseconds=1), made_at_ms=MADE_AT_MS)
@example(at=MADE_AT - timedelta(microseconds=1), made_at_ms=MADE_AT_MS)
def test_an_id_is_at_a_bound_or_behind_it_as_its_instant_is(at: datetime, made_at_ms: int) -> None:
    made = UUID(int=made_at_ms << 80)
    assert (made >= first_id_at(at)) == (instant_of(made) >= at)


@given(st.integers(0, LAST_MILLISECOND))
def test_the_first_id_of_an_instant_is_of_that_instant(made_at_ms: int) -> None:
    made = UUID(int=made_at_ms << 80)
    assert first_id_at(instant_of(made)) == made


def test_ids_before_1970_are_the_first() -> None:
    assert first_id_at(datetime(1, 1, 1, tzinfo=UTC)) == UUID(int=0)
