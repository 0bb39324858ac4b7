"""Decimals of an answer are exact and plain."""

from decimal import Decimal

import strawberry
from strawberry.schema.config import StrawberryConfig

from schema.money import PLAIN_DECIMALS

AMOUNTS = ["0E-12", "1.2E-10", "0.074508000000", "1E+3", "25.000000000000"]


@strawberry.type
class Query:
    """Answers amounts as the database holds them, and one as it was given."""

    @strawberry.field
    def amounts(self) -> list[Decimal]:
        return [Decimal(amount) for amount in AMOUNTS]

    @strawberry.field
    def given(self, amount: Decimal) -> Decimal:
        return amount


def test_decimals_are_written_in_plain_digits() -> None:
    schema = strawberry.Schema(Query, config=StrawberryConfig(scalar_map=PLAIN_DECIMALS))
    answer = schema.execute_sync(
        '{ amounts literal: given(amount: "1.50") number: given(amount: 2) }'
    )
    assert answer.errors is None
    assert answer.data == {
        "amounts": ["0", "0.00000000012", "0.074508", "1000", "25"],
        "literal": "1.5",
        "number": "2",
    }
