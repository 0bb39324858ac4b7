"""Money is written exactly, in plain digits."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.money import plain_decimal, plain_usd


@pytest.mark.parametrize(
    ("amount", "plain", "usd"),
    [
        ("0E-12", "0", "0.00"),
        ("-0.0", "0", "0.00"),
        ("1.2E-10", "0.00000000012", "0.00000000012"),
        ("1E+3", "1000", "1000.00"),
        ("0.001000000000", "0.001", "0.001"),
        ("25.000000000000", "25", "25.00"),
        ("2.5", "2.5", "2.50"),
        ("-0.0300", "-0.03", "-0.03"),
        ("100", "100", "100.00"),
        ("999999999999.123456789012", "999999999999.123456789012", "999999999999.123456789012"),
    ],
)
def test_amounts_are_plain(amount: str, plain: str, usd: str) -> None:
    assert plain_decimal(Decimal(amount)) == plain
    assert plain_usd(Decimal(amount)) == usd


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15))
def test_nothing_of_an_amount_is_lost(amount: Decimal) -> None:
    assert Decimal(plain_decimal(amount)) == amount
    assert Decimal(plain_usd(amount)) == amount
    assert "E" not in plain_usd(amount).upper()
