"""What fails is null, or what holds it, up to the first that may be: a whole matrix of it."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, product
from typing import Any, Optional

import pytest
import strawberry

from tests.compiled_graphql.pairs import both

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# Wrappers of a type, from the outside: "?" may be null, "!" may not, "[]" is a list.
WRAPPERS = {
    "one": "?",
    "must": "!",
    "many": "?[]?",
    "manyMust": "?[]!",
    "mustMany": "![]?",
    "mustManyMust": "![]!",
}
OUTER = ["one", "mustMany", "mustManyMust"]
HOW = {
    "none": "Cannot return null for non-nullable field Level.{field}.",
    "returned": "returned",
    "raised": "raised",
}
TROUBLED = 1  # the index of a list's item that fails, or holds what fails


@dataclass(frozen=True)
class Trouble:
    """What goes wrong at the deepest place.

    Attributes:
        how: A key of HOW.
        in_item: A list's item fails, not the list.
    """

    how: str
    in_item: bool


class Source:
    """What stands behind a Level; only those that are troubled hold what fails."""

    def __init__(self, *, troubled: bool) -> None:
        self.troubled = troubled


def wrapped(inner: Any, wrapper: str) -> Any:
    inner = Optional[inner] if wrapper[-1] == "?" else inner  # noqa: UP045
    if "[]" not in wrapper:
        return inner
    made: Any = list[inner]
    return Optional[made] if wrapper[0] == "?" else made  # noqa: UP045


def object_resolver(wrapper: str) -> Any:
    def resolve(root: Any, info: strawberry.Info) -> Any:
        troubled = root is None or root.troubled
        if "[]" not in wrapper:
            return Source(troubled=troubled)
        return [Source(troubled=troubled and index == TROUBLED) for index in range(3)]

    return resolve


def fail(how: str) -> Any:
    if how == "raised":
        raise ValueError("raised")
    return ValueError("returned") if how == "returned" else None


async def fail_later(how: str) -> Any:
    await asyncio.sleep(0)
    return fail(how)


def leaf_resolver(wrapper: str) -> Any:
    def resolve(root: Any, info: strawberry.Info) -> Any:
        trouble: Trouble = info.context
        if not root.troubled:
            return ["fine"] if "[]" in wrapper else "fine"
        if not trouble.in_item:
            return fail(trouble.how)
        # What an item raises, it must raise when it is awaited.
        later = "Must" in info.field_name or trouble.how == "raised"
        return ["fine", fail_later(trouble.how) if later else fail(trouble.how), "fine"]

    return resolve


def members(*, below: Any) -> dict[str, Any]:
    """Return the fields of a Level: of every wrapper, at once and later."""
    annotations: dict[str, Any] = {"fine": str}
    found: dict[str, Any] = {"fine": strawberry.field(resolver=lambda: "fine")}

    def add(name: str, annotation: Any, resolve: Any) -> None:
        async def resolve_later(root: Any, info: strawberry.Info) -> Any:
            await asyncio.sleep(0)
            return resolve(root, info)

        for prefix, resolver in (("", resolve), ("later_", resolve_later)):
            annotations[f"{prefix}{name}"] = annotation
            found[f"{prefix}{name}"] = strawberry.field(
                resolver=resolver, name=f"{prefix.replace('_', 'Then')}{name}"
            )

    for name, wrapper in WRAPPERS.items():
        if below is not None:
            add(name, wrapped(below, wrapper), object_resolver(wrapper))
        add(f"{name}Leaf", wrapped(str, wrapper), leaf_resolver(wrapper))
    found["__annotations__"] = annotations
    return found


def build() -> strawberry.Schema:
    inner = strawberry.type(type("Level", (), members(below=None)))
    outer = strawberry.type(type("Outer", (), members(below=inner)))
    return strawberry.Schema(strawberry.type(type("Query", (), members(below=outer))))


SCHEMA = build()


def places(outer: str, inner: str, leaf: str, *, in_item: bool) -> Iterator[tuple[Any, bool]]:
    """Yield (key, whether it may be null) of each place down to the one that fails."""
    for name in (outer, inner, leaf):
        wrapper = WRAPPERS[name.removeprefix("laterThen").removesuffix("Leaf")]
        yield name, wrapper[0] == "?"
        if "[]" in wrapper and (in_item or name is not leaf):
            yield TROUBLED, wrapper[-1] == "?"


@pytest.mark.parametrize("how", list(HOW))
@pytest.mark.parametrize("leaf", list(WRAPPERS))
async def test_the_first_place_that_may_be_null_becomes_null(how: str, leaf: str) -> None:
    # Which of the outer, the inner and the leaf come later: another choice each time.
    comes_later = cycle(["", "i", "l", "il", "o", "ol", "oil"])
    for outer, inner, in_item in product(OUTER, WRAPPERS, (False, True)):
        if in_item and "[]" not in WRAPPERS[leaf]:
            continue
        later = next(comes_later)
        names = {"o": outer, "i": inner, "l": f"{leaf}Leaf"}
        o, i, x = (f"laterThen{n}" if key in later else n for key, n in names.items())
        answer = await both(
            SCHEMA,
            f"{{ fine {o} {{ fine {i} {{ fine {x} }} }} }}",
            context=lambda in_item=in_item: Trouble(how, in_item),  # type: ignore[misc]
        )
        chain = list(places(o, i, x, in_item=in_item))
        keys = [key for key, _ in chain]
        nullable = [index for index, (_, null) in enumerate(chain) if null]
        may_be_null = chain[-1][1]
        message = HOW[how].format(field=x)
        path = ".".join(map(str, keys))
        expected = [] if how == "none" and may_be_null else [f"{path}: {message}"]
        assert answer.errors == expected
        found: Any = answer.data
        for key in keys[: nullable[-1] + 1] if nullable else []:
            assert found["fine" if isinstance(found, dict) else 0] is not None
            found = found[key]
        assert found is None


async def test_what_stands_beside_stays_what_it_is() -> None:
    answer = await both(
        SCHEMA,
        "{ many { fine mustMany { fine mustLeaf } } one { must { oneLeaf } } }",
        context=lambda: Trouble("raised", in_item=False),
    )
    fine = {"fine": "fine", "mustLeaf": "fine"}
    other = {"fine": "fine", "mustMany": [fine, fine, fine]}
    failed = {"fine": "fine", "mustMany": [fine, None, fine]}
    assert answer.data == {
        "many": [other, failed, other],
        "one": {"must": {"oneLeaf": None}},
    }
    assert answer.errors == [
        "many.1.mustMany.1.mustLeaf: raised",
        "one.must.oneLeaf: raised",
    ]


async def test_one_error_is_told_of_a_place_that_is_null_already() -> None:
    answer = await both(
        SCHEMA,
        """{ one { must { mustLeaf laterThenmustLeaf a: mustLeaf mustManyMustLeaf }
             laterThenone { laterThenmustLeaf b: laterThenmustLeaf } } }""",
        context=lambda: Trouble("raised", in_item=False),
    )
    assert answer.data == {"one": None}
    assert answer.errors == ["one.must.mustLeaf: raised"]


async def test_everything_is_null_when_nothing_may_be() -> None:
    for text in (
        "{ fine must { must { mustLeaf } } one { fine } }",
        "{ fine laterThenmust { must { laterThenmustLeaf } } one { fine } }",
        "{ one { fine } mustManyMust { mustManyMust { mustManyMustLeaf } } fine }",
        "{ laterThenone { fine } laterThenmustManyMust { must { mustLeaf } } }",
    ):
        answer = await both(SCHEMA, text, context=lambda: Trouble("raised", in_item=False))
        assert answer.data is None
        assert len(answer.errors) == 1
