"""Interfaces, unions and generic types: whichever object a value turns out to be."""

from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, Union

import pytest
import strawberry
from graphql import DocumentNode, GraphQLError, parse

from compiled_graphql.cache import PlanCache
from compiled_graphql.selection import selected_names
from tests.compiled_graphql.pairs import both, by_graphql_core

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")

T = TypeVar("T")


@strawberry.interface
class Named:
    name: str

    @strawberry.field
    def shout(self, times: int = 1) -> str:
        return self.name.upper() * times


@strawberry.type
class Cat(Named):
    lives: int = 9


@strawberry.type
class Dog(Named):
    @strawberry.field
    async def friend(self) -> Named | None:
        return Cat(name=f"{self.name}'s cat")


@dataclass
class DogRow:
    """What stands behind a Dog, known by `is_type_of`."""

    name: str


@strawberry.type(name="RowDog")
class OfRow(Named):
    @classmethod
    def is_type_of(cls, value: Any, _info: Any) -> bool:
        if getattr(value, "name", "") == "raise":
            raise ValueError("is_type_of")
        return isinstance(value, DogRow)


@strawberry.type
class Stone:
    weight: float


Thing = Annotated[Union[Cat, Dog, Stone], strawberry.union("Thing")]  # noqa: UP007

CAT, DOG, STONE = Cat(name="c"), Dog(name="d"), Stone(weight=1.5)
VALUES: dict[str, Any] = {
    "cat": CAT,
    "dog": DOG,
    "stone": STONE,
    "row": DogRow("r"),
    "raise": DogRow("raise"),
    "null": None,
    "text": "text",
    "number": 5,
    "dict": {"name": "x"},
    "type": Cat,
    "error": GraphQLError("returned"),
}


@strawberry.type
class Query:
    @strawberry.field
    def named(self, key: str) -> Named | None:
        return VALUES[key]  # type: ignore[no-any-return]

    @strawberry.field
    async def later(self, key: str) -> Named:
        return VALUES[key]  # type: ignore[no-any-return]

    @strawberry.field
    def thing(self, key: str) -> Thing | None:
        return VALUES[key]  # type: ignore[no-any-return]

    @strawberry.field
    def things(self, keys: list[str]) -> list[Thing] | None:
        return [VALUES[key] for key in keys]

    @strawberry.field
    def crowd(self, keys: list[str]) -> list[list[Named | None]]:
        return [[VALUES[key] for key in keys], []]

    @strawberry.field
    def cat(self, key: str) -> Cat | None:
        return VALUES[key]  # type: ignore[no-any-return]

    @strawberry.field
    def of_row(self, key: str) -> OfRow | None:
        return VALUES[key]  # type: ignore[no-any-return]


SCHEMA = strawberry.Schema(Query, types=[Cat, Dog, Stone, OfRow])
NAMED = """{ __typename name shout ... on Cat { lives } ...D
  ... on Named { twice: shout(times: 2) } }"""
FRAGMENT = "fragment D on Dog { friend { __typename name ... on Cat { lives } } name }"
THING = "{ __typename ... on Named { name } ... on Stone { weight } ... on Cat { lives name } }"


@pytest.mark.parametrize("key", list(VALUES))
@pytest.mark.parametrize(
    "field",
    [
        f"named(key: $k) {NAMED}",
        f"later(key: $k) {NAMED}",
        f"thing(key: $k) {THING}",
        f'things(keys: ["cat", $k, "stone"]) {THING}',
        f'crowd(keys: ["dog", $k, "cat"]) {NAMED}',
        "cat(key: $k) { __typename name lives }",
        "ofRow(key: $k) { __typename name }",
    ],
)
async def test_any_value_of_any_abstract_type(field: str, key: str) -> None:
    fragment = FRAGMENT if "...D" in field else ""
    await both(SCHEMA, f"query($k: String!) {{ {field} }} {fragment}", {"k": key})


async def test_unions_and_interfaces_resolve_by_the_value_s_class() -> None:
    answer = await both(
        SCHEMA,
        f"""{{ things(keys: ["cat", "dog", "stone"]) {THING}
          crowd(keys: ["dog", "null", "row"]) {NAMED} }} {FRAGMENT}""",
    )
    assert answer.errors == []
    assert answer.data == {
        "things": [
            {"__typename": "Cat", "name": "c", "lives": 9},
            {"__typename": "Dog", "name": "d"},
            {"__typename": "Stone", "weight": 1.5},
        ],
        "crowd": [
            [
                {
                    "__typename": "Dog",
                    "name": "d",
                    "shout": "D",
                    "friend": {"__typename": "Cat", "name": "d's cat", "lives": 9},
                    "twice": "DD",
                },
                None,
                {"__typename": "RowDog", "name": "r", "shout": "R", "twice": "RR"},
            ],
            [],
        ],
    }


async def test_values_that_are_of_no_type_say_so() -> None:
    answer = await both(
        SCHEMA,
        """{ a: thing(key: "text") { __typename } b: named(key: "number") { name }
             c: cat(key: "stone") { name } d: thing(key: "row") { __typename }
             e: named(key: "stone") { name } f: named(key: "raise") { name } }""",
    )
    assert answer.data == dict.fromkeys("abcdef")
    unresolved = 'cannot be resolved for the field "thing" , are you using a strawberry.field?'
    abstract = (
        "Abstract type 'Named' must resolve to an Object type at runtime for field 'Query.named'"
    )
    assert [error.partition(". ")[0] for error in answer.errors] == [
        f"a: The type \"<class 'str'>\" {unresolved}",
        f"b: {abstract}",
        "c: Expected value of type 'Cat' but got: <Stone instance>.",
        f"d: The type \"<class 'tests.compiled_graphql.test_types.DogRow'>\" {unresolved}",
        f"e: {abstract}",
        "f: is_type_of",
    ]


RESOLVED: list[Any] = ["Cat", "Stone", "Nope", "Named", "String", 5, None, Cat, ""]


@pytest.mark.parametrize("resolved", RESOLVED)
@pytest.mark.parametrize("later", [False, True])
async def test_whatever_resolve_type_says(resolved: Any, *, later: bool) -> None:
    def resolve_type(*_: object) -> Any:
        async def wait() -> Any:
            return resolved

        return wait() if later else resolved

    schema = strawberry.Schema(Query, types=[Cat, Dog, Stone, OfRow])
    core: Any = schema._schema  # noqa: SLF001
    core.type_map["Named"].resolve_type = resolve_type
    core.type_map["Thing"].resolve_type = resolve_type
    await both(
        schema,
        f"""{{ named(key: "cat") {NAMED} thing(key: "cat") {THING} later(key: "cat") {NAMED}
          crowd(keys: ["cat", "null", "dog"]) {NAMED} things(keys: ["cat"]) {THING} }}
          {FRAGMENT}""",
    )


@pytest.mark.parametrize("failing", [False, True])
async def test_is_type_of_may_be_awaited(*, failing: bool) -> None:
    async def is_type_of(value: Any, _info: Any) -> bool:
        if failing:
            raise ValueError("later")
        return isinstance(value, Cat)

    schema = strawberry.Schema(Query, types=[Cat, Dog, Stone, OfRow])
    core: Any = schema._schema  # noqa: SLF001
    core.type_map["Cat"].is_type_of = is_type_of
    for name in ("Dog", "RowDog"):
        core.type_map[name].is_type_of = None
    answer = await both(
        schema,
        f"""{{ cat(key: "cat") {{ name }} no: cat(key: "stone") {{ name }}
          named(key: "cat") {NAMED} crowd(keys: ["cat", "null"]) {NAMED} }} {FRAGMENT}""",
    )
    assert answer.data is None or (answer.data["no"], answer.data["cat"]) == (
        None,
        None if failing else {"name": "c"},
    )


@strawberry.type
class Edge(Generic[T]):
    node: T
    rank: int | None


@strawberry.type
class Page(Generic[T]):
    edges: list[Edge[T]]
    first: T | None
    hidden: strawberry.Private[str] = "hidden"

    @strawberry.field
    def label(self) -> str:
        return f"{self.hidden} {len(self.edges)}"


@strawberry.type
class Pages:
    @strawberry.field
    def cats(self) -> Page[Cat]:
        return Page(edges=[Edge(node=CAT, rank=1), Edge(node=CAT, rank=None)], first=None)

    @strawberry.field
    def numbers(self) -> Page[int]:
        return Page(edges=[Edge(node=5, rank=1)], first=7)

    @strawberry.field
    async def either(self) -> list[Edge[Cat] | Edge[int]]:
        return [Edge(node=5, rank=1), Edge(node=CAT, rank=2)]


async def test_generic_types_and_private_attributes() -> None:
    answer = await both(
        strawberry.Schema(Pages),
        """{ cats { label edges { node { ...C } rank } first { ...C } }
             numbers { label edges { node rank } first }
             either { __typename ... on IntEdge { number: node }
               ... on CatEdge { node { ...C } } } }
           fragment C on Cat { name lives }""",
    )
    cat = {"name": "c", "lives": 9}
    assert answer.errors == []
    assert answer.data == {
        "cats": {
            "label": "hidden 2",
            "edges": [{"node": cat, "rank": 1}, {"node": cat, "rank": None}],
            "first": None,
        },
        "numbers": {"label": "hidden 1", "edges": [{"node": 5, "rank": 1}], "first": 7},
        "either": [
            {"__typename": "IntEdge", "number": 5},
            {"__typename": "CatEdge", "node": cat},
        ],
    }


async def test_abstract_types_below_abstract_types_are_compiled_within_bounds() -> None:
    """Each of them is compiled for every object type, so that depth would multiply them."""
    plans = PlanCache(SCHEMA, max_plans=4)

    def nested(depth: int) -> DocumentNode:
        inner = "{ name ... on Dog { friend " * depth + "{ name }" + " } }" * depth
        return parse(f'{{ named(key: "dog") {inner} }}')

    assert plans.find(nested(40), None, {}) is not None
    assert plans.counts == {"compiled": 1}
    wide = " ".join(
        f"f{n}: friend {{ name ... on Dog {{ g: friend {{ name }} }} }}" for n in range(250)
    )
    assert (
        plans.find(parse(f'{{ named(key: "dog") {{ ... on Dog {{ {wide} }} }} }}'), None, {})
        is None
    )
    assert plans.counts == {"compiled": 1, "more fields than are worth compiling": 1}


@strawberry.interface
class Link:
    number: int
    following: "Link | None" = None


LINKS = [strawberry.type(type(name, (Link,), {"__annotations__": {}})) for name in "ABCD"]


async def test_what_abstract_attributes_select_is_found_in_little_time() -> None:
    @strawberry.type
    class Chain:
        @strawberry.field
        def link(self, info: strawberry.Info) -> Link:
            names = selected_names(info, "B")
            return LINKS[0](number=len(names))  # type: ignore[no-any-return]

    schema = strawberry.Schema(Chain, types=LINKS)
    text = "{ link { number " + "following { " * 30 + "number" + " }" * 30 + " } }"
    core = await by_graphql_core(schema, text)
    assert core.data == {"link": {"number": 2, "following": None}}
    assert PlanCache(schema, max_plans=1).find(parse(text), None, {}) is None
