"""Amounts of money as text, in plain digits."""

from decimal import Decimal

CENT_DIGITS = 2


def plain_decimal(amount: Decimal) -> str:
    """Write *amount* exactly, without exponent and without padding zeros."""
    text = str(amount)
    if "E" in text:
        text = f"{amount:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def plain_usd(amount: Decimal) -> str:
    """Write an amount in US dollars exactly, with two decimals or with as many more as it has."""
    text = str(amount)
    if "E" in text or text.startswith("-0"):
        text = plain_decimal(amount)
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(CENT_DIGITS, '0')}"
