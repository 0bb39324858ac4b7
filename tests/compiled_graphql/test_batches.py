"""Batched fields: one call for all parents, and the same answers where graphql-core executes."""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Generic, TypeVar

import pytest
import strawberry
from strawberry.dataloader import DataLoader

from compiled_graphql.batch import BatchResolver, for_each_parent, metadata
from compiled_graphql.selection import selected_names
from tests.compiled_graphql.pairs import both
from tests.compiled_graphql.test_resolvers import UpperLater

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")

T = TypeVar("T")


class Context:
    """The context of one execution, and the batches that it has seen."""

    def __init__(self) -> None:
        self.batch_loaders: dict[Any, DataLoader[Any, Any]] = {}
        self.calls: list[tuple[Any, ...]] = []


def batched(resolver: BatchResolver, *, needs: Sequence[str] = ()) -> Any:
    return strawberry.field(
        resolver=for_each_parent(resolver), metadata=metadata(batch=resolver, needs=needs)
    )


@strawberry.enum
class How(Enum):
    FINE = "fine"
    ONE = "one"
    RETURNED = "returned"
    RAISED = "raised"
    SHORT = "short"
    LONG = "long"
    NOTHING = "nothing"
    NULLS = "nulls"


@strawberry.input
class Options:
    how: How = How.FINE
    words: list[str] = strawberry.field(default_factory=list)


def outcome(how: How, values: list[Any]) -> Any:
    """Return *values*, or what a batch resolver gives when something goes wrong."""
    if how is How.RAISED:
        raise ValueError("raised")
    others: dict[How, Callable[[], Any]] = {
        How.ONE: lambda: [ValueError(f"one of {len(values)}"), *values[1:]],
        How.RETURNED: lambda: [ValueError("returned") for _ in values],
        How.SHORT: lambda: values[1:],
        How.LONG: lambda: (*values, values[0]),
        How.NOTHING: lambda: None,
        How.NULLS: lambda: [None] * len(values),
    }
    return others[how]() if how in others else values


async def labels(
    roots: Sequence["Item"],
    info: strawberry.Info,
    prefix: str = "l",
    options: Options | None = None,
) -> Any:
    words = "" if options is None else "".join(options.words)
    info.context.calls.append(("labels", prefix, words, *(root.name for root in roots)))
    how = How.FINE if options is None else options.how
    return outcome(how, [f"{prefix}{words}{root.name}" for root in roots])


async def children(roots: Sequence["Item"], info: strawberry.Info, count: int = 2) -> Any:
    info.context.calls.append(("children", count, *(root.name for root in roots)))
    await asyncio.sleep(0)
    return [[Item(name=f"{root.name}{n}") for n in range(count)] for root in roots]


async def parents(roots: Sequence["Item"], info: strawberry.Info, how: How = How.FINE) -> Any:
    info.context.calls.append(("parents", *(root.name for root in roots)))
    return outcome(how, [Item(name=root.name[:-1]) if root.name else None for root in roots])


@strawberry.type
class Item:
    name: str
    label: str = batched(labels)
    maybe_label: str | None = batched(labels)
    children: list["Item"] = batched(children)
    parent: "Item | None" = batched(parents)
    must_parent: "Item" = batched(parents)


async def roots_of(roots: Sequence[None], info: strawberry.Info) -> Any:
    info.context.calls.append(("roots", *roots))
    return [Item(name="r") for _ in roots]


@strawberry.type
class Query:
    batched_root: Item = batched(roots_of)

    @strawberry.field
    def items(self, count: int = 3) -> list[Item | None]:
        items: list[Item | None] = [Item(name=chr(97 + n)) for n in range(count)]
        return [*items, None]

    @strawberry.field
    async def later(self) -> list[Item]:
        await asyncio.sleep(0)
        return [Item(name="y"), Item(name="z")]


SCHEMA = strawberry.Schema(Query)


async def calls_of(text: str, variables: Any = None) -> tuple[Any, list[Any]]:
    """Return the data, and what the compiled operation called its batch resolvers with."""
    contexts: list[Context] = []

    def context() -> Context:
        contexts.append(Context())
        return contexts[-1]

    answer = await both(SCHEMA, text, variables, context=context)
    assert answer.errors == []
    core, first, second = (each.calls for each in contexts)
    assert sorted(map(repr, core)) == sorted(map(repr, first)) == sorted(map(repr, second))
    return answer.data, first


async def test_all_parents_of_a_tick_are_answered_by_one_call() -> None:
    data, calls = await calls_of("{ items { name label } }")
    assert data["items"] == [
        *({"name": name, "label": f"l{name}"} for name in "abc"), None
    ]  # fmt: skip
    assert calls == [("labels", "l", "", "a", "b", "c")]


async def test_batches_below_batches_are_one_call_a_level() -> None:
    data, calls = await calls_of(
        "{ items(count: 2) { children { children(count: 1) { label parent { name } } } } }"
    )
    assert calls == [
        ("children", 2, "a", "b"),
        ("children", 1, "a0", "a1", "b0", "b1"),
        ("labels", "l", "", "a00", "a10", "b00", "b10"),
        ("parents", "a00", "a10", "b00", "b10"),
    ]
    assert data["items"][1]["children"][0] == {
        "children": [{"label": "lb00", "parent": {"name": "b0"}}]
    }


async def test_aliases_with_other_arguments_are_other_calls() -> None:
    text = """query($p: String!, $o: Options, $w: [String!] = ["d"]) { items(count: 2) {
      label a: label(prefix: "a") b: label(prefix: $p) again: label(prefix: $p, options: $o)
      c: label(options: {words: $w}) d: label(options: {words: ["x", $p]}) } }"""
    variables = {"p": "v", "o": {"words": ["w1", "w2"]}}
    data, calls = await calls_of(text, variables)
    assert data["items"][0] == {
        "label": "la",
        "a": "aa",
        "b": "va",
        "again": "vw1w2a",
        "c": "lda",
        "d": "lxva",
    }
    assert [call[1:3] for call in calls] == [
        ("l", ""), ("a", ""), ("v", ""), ("v", "w1w2"), ("l", "d"), ("l", "xv")
    ]  # fmt: skip


async def test_a_batched_root_field_has_the_root_value_for_parent() -> None:
    data, calls = await calls_of("{ batchedRoot { label } __typename }")
    assert data == {"batchedRoot": {"label": "lr"}, "__typename": "Query"}
    assert calls == [("roots", None), ("labels", "l", "", "r")]


async def test_parents_that_come_later_are_another_call() -> None:
    data, calls = await calls_of("{ items(count: 1) { ...F } later { ...F } } fragment F on Item {"
                                 " label parent { name } }")  # fmt: skip
    assert data["later"][1] == {"label": "lz", "parent": {"name": ""}}
    assert [call for call in calls if call[0] == "labels"] == [
        ("labels", "l", "", "a"),
        ("labels", "l", "", "y", "z"),
    ]


LENGTHS = {
    "SHORT": "3 parents of {} got 2 values",
    "LONG": "3 parents of {} got 4 values",
    "NOTHING": "object of type 'NoneType' has no len()",
    "RAISED": "raised",
    "RETURNED": "returned",
}


@pytest.mark.parametrize("how", [how.name for how in How])
@pytest.mark.parametrize(
    "text",
    [
        "{ items { name maybeLabel(options: {how: HOW}) } }",
        "{ items { name label(options: {how: HOW}) } later { label } }",
        "{ items { name parent(how: HOW) { name } label } }",
        "{ items { children { name mustParent(how: HOW) { label parent { name } } label } } }",
        "{ later { mustParent(how: HOW) { name } label(options: {how: HOW}) } items { name } }",
        "{ items { name a: maybeLabel(options: {how: HOW}) b: maybeLabel } }",
    ],
)
async def test_what_goes_wrong_in_a_batch_is_answered_alike(how: str, text: str) -> None:
    await both(SCHEMA, text.replace("HOW", how), context=Context)


@pytest.mark.parametrize("how", list(LENGTHS))
async def test_what_fails_for_all_is_told_at_each(how: str) -> None:
    answer = await both(
        SCHEMA, f"{{ items {{ name maybeLabel(options: {{how: {how}}}) }} }}", context=Context
    )
    message = LENGTHS[how].format("maybeLabel")
    assert answer.errors == [f"items.{n}.maybeLabel: {message}" for n in range(3)]
    assert answer.data["items"] == [*({"name": n, "maybeLabel": None} for n in "abc"), None]


async def test_an_exception_for_one_parent_is_its_own() -> None:
    answer = await both(SCHEMA, "{ items { name label(options: {how: ONE}) } }", context=Context)
    assert answer.errors == ["items.0.label: one of 3"]
    assert answer.data["items"] == [
        None, {"name": "b", "label": "lb"}, {"name": "c", "label": "lc"}, None
    ]  # fmt: skip


async def test_wrong_arguments_of_a_batch_fail_at_each_parent() -> None:
    text = 'query($p: String = "x") { items(count: 2) { maybeLabel(prefix: $p) } }'
    answer = await both(SCHEMA, text, context=Context)
    assert answer.errors == []
    answer = await both(SCHEMA, text, {"p": None}, context=Context)
    assert [error.partition(":")[0] for error in answer.errors] == [
        "items.0.maybeLabel",
        "items.1.maybeLabel",
    ]
    assert answer.data["items"] == [{"maybeLabel": None}, {"maybeLabel": None}, None]


# --- what is selected ---------------------------------------------------------------------------


@strawberry.interface
class Named:
    title: str


def short(root: strawberry.Parent[Any]) -> str:
    return str(root.title[:2])


@strawberry.type
class Book(Named):
    pages: int
    isbn: str
    short: str = strawberry.field(resolver=short, metadata=metadata(needs=["title", "length_of"]))
    renamed_field: str = strawberry.field(name="other", default="o")

    @strawberry.field
    def computed(self) -> "Page[Book]":
        return Page(nodes=[], edges=[], total=0)


@strawberry.type
class Film(Named):
    minutes: int
    sequel: "Film | None" = None


@strawberry.type
class Edge(Generic[T]):
    node: T
    cursor: str


@strawberry.type
class Page(Generic[T]):
    nodes: list[T]
    edges: list[Edge[T]]
    total: int


SEEN: list[dict[str, frozenset[str]]] = []


def see(info: strawberry.Info) -> None:
    names = ("Book", "Film", "BookPage", "BookEdge", "Library", "Nothing")
    SEEN.append({name: selected_names(info, name) for name in names})


async def pages_of(roots: Sequence["Library"], info: strawberry.Info) -> Any:
    see(info)
    book = Book(title="title", pages=5, isbn="i")
    return [Page(nodes=[book], edges=[Edge(node=book, cursor="c")], total=1) for _ in roots]


async def named_of(roots: Sequence["Library"], info: strawberry.Info) -> Any:
    see(info)
    return [[Book(title="t", pages=1, isbn="i"), Film(title="f", minutes=1)] for _ in roots]


@strawberry.type
class Library:
    place: str
    books: Page[Book] = batched(pages_of, needs=["shelf"])
    named: list[Named] = batched(named_of)
    either: list[Book | Film] = batched(named_of)


@strawberry.type
class LibraryQuery:
    @strawberry.field
    def library(self, info: strawberry.Info) -> Library:
        see(info)
        return Library(place="here")

    @strawberry.field
    async def libraries(self) -> list[Library]:
        return [Library(place="one"), Library(place="two")]


LIBRARIES = strawberry.Schema(LibraryQuery, types=[Book, Film])


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("place", [{"Library": {"place"}}]),
        ("a: place b: place __typename", [{"Library": {"place"}}]),
        ("books { total }", [{"Library": {"shelf"}}, {"BookPage": {"total"}}]),
        (
            "books { nodes { title a: isbn other } edges { cursor node { pages } } }",
            [
                {"Library": {"shelf"}},
                {
                    "BookPage": {"nodes", "edges"},
                    "BookEdge": {"node", "cursor"},
                    "Book": {"title", "isbn", "renamed_field", "pages"},
                },
            ],
        ),
        (
            "books { nodes { short computed { nodes { isbn } } } }",
            [{"Library": {"shelf"}}, {"BookPage": {"nodes"}, "Book": {"title", "length_of"}}],
        ),
        (
            "named { title ... on Film { minutes sequel { minutes } } ...B }",
            [{}, {"Book": {"title", "pages"}, "Film": {"title", "minutes", "sequel"}}],
        ),
        (
            "either { ... on Named { title } ... on Film { minutes } ...B @include(if: $no) }",
            [{}, {"Book": {"title"}, "Film": {"title", "minutes"}}],
        ),
        (
            "books { ...P nodes { isbn @skip(if: $no) pages @include(if: $no) } }",
            [
                {"Library": {"shelf"}},
                {"BookPage": {"nodes", "total"}, "Book": {"title", "isbn"}},
            ],
        ),
    ],
)
async def test_what_is_selected_is_told_alike(selection: str, expected: list[Any]) -> None:
    fragments = ("fragment B on Book { pages }", "fragment P on BookPage { nodes { title } total }")
    used = " ".join(f for f in fragments if f"...{f.split()[1]}" in selection)
    declared = "($no: Boolean = false)" if "$no" in selection else ""
    SEEN.clear()
    text = f"query{declared} {{ library {{ {selection} }} }} {used}"
    await both(LIBRARIES, text, context=Context)
    shown = [{name: set(names) for name, names in each.items() if names} for each in SEEN]
    assert shown == expected * 3


async def test_a_fragment_that_is_used_twice_is_not_one_batch_with_less_than_it_needs() -> None:
    """Elsewhere the field is selected further: its parents must not get what is read here."""
    text = """{ library { books { ...P } }
      libraries { books { ...P nodes { isbn } } books { total } } }
      fragment P on BookPage { nodes { title } }"""
    SEEN.clear()
    await both(LIBRARIES, text, context=Context)
    here = {"BookPage": {"nodes"}, "Book": {"title"}}
    there = {"BookPage": {"nodes", "total"}, "Book": {"title", "isbn"}}
    shown = [{name: set(names) for name, names in each.items() if names} for each in SEEN]
    assert [each for each in shown if "BookPage" in each] == [here, there] * 3
    text = """{ library { ...F } libraries { ...F books { nodes { isbn } } } }
      fragment F on Library { books { nodes { title } } }"""
    SEEN.clear()
    await both(LIBRARIES, text, context=Context)
    shown = [{name: set(names) for name, names in each.items() if names} for each in SEEN]
    there = {"BookPage": {"nodes"}, "Book": {"title", "isbn"}}
    assert [each for each in shown if "BookPage" in each] == [here, there] * 3


async def test_a_batch_is_left_to_graphql_core_where_something_wraps_it() -> None:
    @strawberry.type
    class Root:
        told: str = strawberry.field(
            resolver=for_each_parent(one_each), metadata=metadata(batch=one_each),
            extensions=[UpperLater()],
        )  # fmt: skip

    schema = strawberry.Schema(Root)
    answer = await both(schema, "{ told again: told }", context=Context)
    assert answer.data == {"told": "ONE TOLD", "again": "ONE TOLD"}


async def one_each(roots: Sequence[Any], info: strawberry.Info) -> list[str]:
    return ["one" for _ in roots]
