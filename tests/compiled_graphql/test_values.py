"""Leaves, lists and abstract types: values of every kind are completed alike."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from functools import cache
from typing import Any, Optional
from uuid import UUID

import pytest
import strawberry
from graphql import Undefined
from strawberry.scalars import JSON, Base16, Base64
from strawberry.schema.config import StrawberryConfig
from strawberry.types.scalar import ScalarDefinition

from tests.compiled_graphql.pairs import both

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# What the fields of the schemas below answer, at the moment.
ANSWERED: list[Callable[[], Any]] = []


def value() -> Any:
    return ANSWERED[-1]()


def schema_of(annotation: Any, config: StrawberryConfig | None = None) -> strawberry.Schema:
    """Build a schema whose fields answer `value()`, in each of the usual ways."""

    def resolve() -> Any:
        return value()

    async def resolve_later() -> Any:
        return value()

    def in_list() -> Any:
        return [value(), value()]

    class Source:
        plain = property(lambda _: value())
        required = property(lambda _: value())
        plain_list = property(lambda _: [value(), value()])
        lists = property(lambda _: ([value()], None, [value(), value()]))

    def source() -> Any:
        return Source()

    optional = Optional[annotation]  # noqa: UP045
    holder = type("Holder", (), {"__annotations__": {
        "plain": optional, "required": annotation, "plain_list": list[optional],
        "lists": list[list[annotation] | None],
    }})  # fmt: skip
    made = strawberry.type(holder)
    members = {
        "__annotations__": {
            "called": optional, "called_list": list[optional] | None,
            "later": optional, "one": Optional[made], "two": Optional[made],  # noqa: UP045
            "three": Optional[made],  # noqa: UP045
        },
        "called": strawberry.field(resolver=resolve),
        "called_list": strawberry.field(resolver=in_list),
        "later": strawberry.field(resolver=resolve_later),
        "one": strawberry.field(resolver=source),
        "two": strawberry.field(resolver=source),
        "three": strawberry.field(resolver=source),
    }  # fmt: skip
    return strawberry.Schema(strawberry.type(type("Query", (), members)), config=config)


known_schema_of = cache(schema_of)
DOCUMENT = """{ called calledList later
  one { plain plainList } two { required } three { lists } }"""


async def answered(
    annotation: Any, make: Callable[[], Any], config: StrawberryConfig | None = None
) -> Any:
    """Return what the field `called` answers to what *make* makes, or its error."""
    ANSWERED[:] = [make]
    schema = known_schema_of(annotation) if config is None else schema_of(annotation, config)
    answer = await both(schema, DOCUMENT)
    errors = [error for error in answer.errors if error.startswith("called: ")]
    return errors[0].removeprefix("called: ") if errors else answer.data["called"]


async def called(annotation: Any, given: Any, config: StrawberryConfig | None = None) -> Any:
    return await answered(annotation, lambda: given, config)


@strawberry.enum
class Colour(Enum):
    RED = "red"
    BLUE = "blue"
    SWAPPED = "RED"


@strawberry.enum
class Level(IntEnum):
    LOW = 1
    HIGH = 2


@strawberry.enum
class Text(str, Enum):  # noqa: UP042
    A = "a"
    B = "A"


class Words(str):
    """A string of another class."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("annotation", "value", "answer"),
    [
        (str, "a", "a"),
        (str, Words("b"), Words("b")),
        (str, True, "true"),
        (str, 1.5, "1.5"),
        (str, Undefined, None),
        (int, 2**31 - 1, 2**31 - 1),
        (int, -(2**31) - 1, "Int cannot represent non 32-bit signed integer value: -2147483649"),
        (int, True, 1),
        (int, "5", 5),
        (float, float("-inf"), "Float cannot represent non numeric value: -inf"),
        (float, Decimal("1.5"), 1.5),
        (bool, 0, False),
        (bool, "x", "Boolean cannot represent a non boolean value: 'x'"),
        (strawberry.ID, UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (strawberry.ID, 5, "5"),
        (strawberry.ID, 1.5, "ID cannot represent value: 1.5"),
        (UUID, UUID(int=2), "00000000-0000-0000-0000-000000000002"),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (
            datetime,
            datetime(1, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=2))),
            "0001-01-02T03:04:05.000006+02:00",
        ),
        (date, date(2026, 1, 2), "2026-01-02"),
        (time, time(1, 2), "01:02:00"),
        (Decimal, Decimal("1E+3"), "1E+3"),
        (Decimal, 5, "5"),
        (JSON, {"a": [None, {"b": 1}]}, {"a": [None, {"b": 1}]}),
        (JSON, [], []),
        (JSON, "s", "s"),
        (Base16, b"\x01", "01"),
        (Base64, b"\x01", "AQ=="),
        (Colour, Colour.RED, "RED"),
        (Colour, "blue", "BLUE"),
        (Colour, "RED", "SWAPPED"),
        (Colour, "green", "Enum 'Colour' cannot represent value: 'green'"),
        (Level, Level.HIGH, "HIGH"),
        (Level, 1, "LOW"),
        (Level, True, "LOW"),
        (Text, Text.B, "B"),
        (Text, "A", "B"),
        (Text, Words("a"), "A"),
    ],
)  # fmt: skip
async def test_leaves(annotation: Any, value: Any, answer: Any) -> None:
    found = await called(annotation, value)
    assert (type(found), found) == (type(answer), answer)


@pytest.mark.parametrize("annotation", [str, int, float, bool, strawberry.ID, UUID, datetime])
@pytest.mark.parametrize(
    "value", [object, [1], {"a": 1}, {1}, b"x", 1 + 2j, KeyError("k"), float("nan"), "", 1e300, ()]
)
async def test_unfit_leaves_fail_alike(annotation: Any, value: Any) -> None:
    await called(annotation, value)


@pytest.mark.parametrize("annotation", [Decimal, date, time, JSON, Colour, Level, Text, Base64])
@pytest.mark.parametrize(
    "value", [object, [1], {"a": 1}, {1}, b"x", KeyError("k"), float("nan"), "", 3, (), Colour.RED]
)
async def test_unfit_values_of_other_leaves_fail_alike(annotation: Any, value: Any) -> None:
    await called(annotation, value)


def raise_error(value: Any) -> Any:
    raise ZeroDivisionError(f"no {value}")


@pytest.mark.parametrize(
    ("serialize", "answer"),
    [
        (lambda value: f"<{value}>", "<5>"),
        (
            lambda _: None,
            "Expected `Own.coerce_output_value(5)` to return non-nullable value, returned: None",
        ),
        (raise_error, "no 5"),
        (lambda value: [value, {"a": value}], [5, {"a": 5}]),
    ],
)
@pytest.mark.parametrize("origin", [int, str])
async def test_scalars_of_the_schema_s_own(serialize: Any, answer: Any, origin: type) -> None:
    own: Any = type("Own", (origin,), {})
    definition = strawberry.scalar(name="Own", serialize=serialize)
    config = StrawberryConfig(scalar_map={own: definition})
    assert await called(own, 5, config) == answer


@pytest.mark.parametrize("name", ["UUID", "DateTime", "Decimal", "JSON", "Colour", "Own"])
async def test_a_scalar_is_known_by_its_definition_and_not_by_its_name(name: str) -> None:
    class Own:
        """The scalar's class."""

    own = ScalarDefinition(
        name=name,
        description=None,
        specified_by_url=None,
        serialize=lambda value: f"own {type(value).__name__}",
        parse_value=None,
        parse_literal=None,
        origin=Own,
    )
    config = StrawberryConfig(scalar_map={Own: own})
    value: Any
    for value in (UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), Decimal(1), {}, [], Own()):
        assert await called(Own, value, config) == f"own {type(value).__name__}"


async def test_a_standard_scalar_that_the_schema_overrides() -> None:
    config = StrawberryConfig(
        scalar_map={
            UUID: strawberry.scalar(name="UUID", serialize=lambda value: value.hex[:4]),
            datetime: strawberry.scalar(name="DateTime", serialize=lambda value: value.year),
        }
    )
    assert await called(UUID, UUID(int=0), config) == "0000"
    assert await called(datetime, datetime(2026, 1, 1, tzinfo=UTC), config) == 2026


async def test_an_enum_whose_members_have_no_hash() -> None:
    @dataclass
    class Size:
        width: int

    @strawberry.enum
    class Paper(Size, Enum):
        A4 = 210
        A5 = 148

    assert await called(Paper, Paper.A5) == "A5"
    assert await called(Paper, "A5") == "Enum 'Paper' cannot represent value: 'A5'"


def generated() -> Iterator[str]:
    yield "a"
    yield "b"


def broken() -> Iterator[str]:
    yield "a"
    raise LookupError("no more")


async def generated_later() -> AsyncIterator[str]:
    yield "a"
    yield "b"


async def broken_later() -> AsyncIterator[str]:
    yield "a"
    raise LookupError("no more")


class Indexed:
    """Iterable only by its items."""

    def __getitem__(self, index: int) -> str:
        return "ab"[index]


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda: ["a", None], ["a", None]),
        (lambda: ("a", "b"), ["a", "b"]),
        (lambda: deque("ab"), ["a", "b"]),
        ({"a": 1}.keys, ["a"]),
        (lambda: frozenset("a"), ["a"]),
        (lambda: {"a": 1}, "Expected Iterable, but did not find one for field 'Query.called'."),
        (lambda: "ab", "Expected Iterable, but did not find one for field 'Query.called'."),
        (lambda: 5, "Expected Iterable, but did not find one for field 'Query.called'."),
        (lambda: map(str, (1, 2)), ["1", "2"]),
        (lambda: filter(None, ("a", "")), ["a"]),
        (generated, ["a", "b"]),
        (broken, "no more"),
        (generated_later, ["a", "b"]),
        (broken_later, "no more"),
        (list, []),
        (lambda: [ValueError("returned"), "a"], [None, "a"]),
    ],
)
async def test_lists(make: Callable[[], Any], answer: Any) -> None:
    assert await answered(list[str | None], make) == answer
    for annotation in (list[str], list[list[str | None]], list[JSON]):
        await answered(annotation, make)


async def test_what_is_iterable_by_index_alone_is_taken_alike() -> None:
    await answered(list[str], Indexed)
