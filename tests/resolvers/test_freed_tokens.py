"""What a call gives back of its token's rate, which by itself frees what is taken of it."""

import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from db.base import new_id
from resolvers.call_storage import EndedCall
from resolvers.reservations import Rate, Reservation, TokenState


@pytest.mark.parametrize(
    ("ago_seconds", "used_tokens", "freed_tokens"),
    [
        (0, 15, 985),
        (30, 15, 400),  # of the 50 seconds that 1,000 tokens take, 20 are left
        (30, 900, 100),
        (52, 15, 0),  # whoever came in the meantime has had them
        (52, 1_200, -200),
    ],
)
def test_what_a_rate_has_freed_by_itself_is_not_given_back_again(
    ago_seconds: float, used_tokens: int, freed_tokens: int
) -> None:
    reserved = Reservation(
        new_id(), new_id(), Decimal(0), 1, 1_000, "never", datetime.now(UTC),
        state=TokenState(None, Decimal(0), Decimal(0), None, Rate(1_200, 200, 50.0)),
        decided_at=time.monotonic() - ago_seconds,
    )  # fmt: skip
    call = EndedCall({}, Decimal(0), [reserved], used_tokens)
    assert call.freed_tokens == pytest.approx(freed_tokens, abs=20 if freed_tokens == 400 else 0)
