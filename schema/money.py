"""The Decimal scalar as this schema writes it: money in plain digits."""

from dataclasses import replace
from decimal import Decimal
from typing import Final

from strawberry.schema.types.base_scalars import DecimalDefinition
from strawberry.types.scalar import ScalarDefinition

from engine.money import plain_decimal

# Strawberry's own writes 0E-12 and 1.2E-10, and every zero that a column pads with.
PLAIN_DECIMALS: Final[dict[object, ScalarDefinition]] = {
    Decimal: replace(DecimalDefinition, serialize=plain_decimal)
}
