"""Resolvers of every form, what wraps them, and what they are told."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError
from strawberry.extensions import FieldExtension
from strawberry.permission import BasePermission
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exception_handlers import ExceptionHandler
from strawberry.types.field import StrawberryField
from typing_extensions import override

from tests.compiled_graphql.pairs import both

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")


def told_root(root: Any) -> str:
    return f"root {root.name}"


def told_parent(mine: strawberry.Parent[Any], info: strawberry.Info, suffix: str = "!") -> str:
    return f"parent {mine.name} {info.field_name}{suffix}"


def told_nothing() -> str:
    return "nothing"


class Maker:
    """Resolvers that are methods of another object."""

    word = "method"

    def resolve(self) -> str:
        return self.word

    def __call__(self, root: Any) -> str:
        return f"called {root.name}"


@strawberry.type
class Thing:
    name: str
    root_is: str = strawberry.field(resolver=told_root)
    parent_is: str = strawberry.field(resolver=told_parent)
    nothing: str = strawberry.field(resolver=told_nothing)
    method: str = strawberry.field(resolver=Maker().resolve)
    fn: str = strawberry.field(resolver=lambda: "lambda")

    @strawberry.field
    def itself(self, info: strawberry.Info) -> str:
        return f"self {self.name} {info.python_name}"

    @strawberry.field
    @staticmethod
    def static(word: str = "static") -> str:
        return word

    @strawberry.field
    @staticmethod
    def static_parent(parent: strawberry.Parent["Thing"]) -> str:
        return parent.name

    @strawberry.field
    @classmethod
    def of_class(cls, info: strawberry.Info) -> str:
        return f"{cls.__name__} {info.field_name}"

    @strawberry.field(name="renamed")
    def _own(self) -> str:
        return "renamed"

    @strawberry.field
    def snake_case_name(self, long_argument: str = "x", id_: str = "y") -> str:
        return f"{long_argument} {id_}"


@strawberry.type
class Query:
    @strawberry.field
    def thing(self) -> Thing:
        return Thing(name="n")

    @strawberry.field
    def rootless(self: object) -> str:
        return repr(self)


THING = """{ rootless thing { name rootIs parentIs other: parentIs(suffix: "?") nothing method fn
  itself static word: static(word: "w") staticParent ofClass renamed
  snakeCaseName both: snakeCaseName(longArgument: "a", id_: "b") } }"""


async def test_resolvers_get_the_parent_as_whatever_they_call_it() -> None:
    answer = await both(strawberry.Schema(Query), THING)
    assert answer.errors == []
    assert answer.data == {
        "rootless": "None",
        "thing": {
            "name": "n",
            "rootIs": "root n",
            "parentIs": "parent n parentIs!",
            "other": "parent n parentIs?",
            "nothing": "nothing",
            "method": "method",
            "fn": "lambda",
            "itself": "self n itself",
            "static": "static",
            "word": "w",
            "staticParent": "n",
            "ofClass": "Thing ofClass",
            "renamed": "renamed",
            "snakeCaseName": "x y",
            "both": "a b",
        },
    }


async def test_names_that_are_not_converted() -> None:
    schema = strawberry.Schema(Query, config=StrawberryConfig(auto_camel_case=False))
    answer = await both(
        schema, '{ thing { root_is x: snake_case_name(long_argument: "a") static_parent } }'
    )
    assert answer.data == {"thing": {"root_is": "root n", "x": "a y", "static_parent": "n"}}


def told_by_info(info: strawberry.Info, number: int = 1) -> str:
    raw = info._raw_info  # noqa: SLF001
    return repr(
        {
            "field": info.field_name,
            "python": info.python_name,
            "path": (info.path.as_list(), info.path.typename, info.path.prev is None),
            "types": (str(raw.return_type), str(raw.parent_type), info.return_type),
            "nodes": [
                (node.name.value, node.alias and node.alias.value) for node in raw.field_nodes
            ],
            "context": info.context,
            "root": info.root_value,
            "variables": info.variable_values,
            "operation": raw.operation.name and raw.operation.name.value,
            "fragments": sorted(raw.fragments),
            "selected": info.selected_fields,
            "input": info.input_extensions,
            "schema": raw.schema.query_type and raw.schema.query_type.name,
            "awaitable": (raw.is_awaitable(5), raw.is_awaitable(asyncio.sleep)),
            "abort": raw.abort_signal,
            "own": info.schema.config.relay_max_results,
        }
    )


@strawberry.type
class Told:
    tell: str = strawberry.field(resolver=told_by_info)

    @strawberry.field
    def below(self) -> list["Told"]:
        return [Told(), Told()]


@strawberry.type
class TellingQuery:
    tell: str = strawberry.field(resolver=told_by_info)

    @strawberry.field
    def told(self) -> Told | None:
        return Told()


async def test_info_tells_the_same() -> None:
    answer = await both(
        strawberry.Schema(TellingQuery),
        """query Q($n: Int = 2, $t: Boolean = true) { tell told { below { a: tell(number: $n) ...F
             below @include(if: $t) { tell } } } }
           fragment F on Told { a: tell(number: $n) b: tell }""",
        {"n": 5},
        context=lambda: {"a": 1},
        root="root",
    )
    assert answer.errors == []
    told = answer.data["told"]["below"][1]["below"][0]["tell"]
    assert "(['told', 'below', 1, 'below', 0, 'tell'], 'Told', False)" in told
    assert "'variables': {'n': 5, 't': True}" in told


class Upper(FieldExtension):
    @override
    def resolve(
        self, next_: Callable[..., Any], source: Any, info: strawberry.Info, **arguments: Any
    ) -> Any:
        return f"{next_(source, info, **arguments)} {info.field_name}".upper()


class UpperLater(FieldExtension):
    @override
    async def resolve_async(
        self,
        next_: Callable[..., Awaitable[Any]],
        source: Any,
        info: strawberry.Info,
        **arguments: Any,
    ) -> Any:
        await asyncio.sleep(0)
        return f"{await next_(source, info, **arguments)} {info.field_name}".upper()


class Refuses(BasePermission):
    message = "refused"

    @override
    def has_permission(self, source: Any, info: strawberry.Info, **arguments: Any) -> bool:
        return bool(arguments.get("allow", False))


class RefusesLater(BasePermission):
    message = "refused later"
    error_extensions = {"code": "no"}  # noqa: RUF012

    @override
    async def has_permission(self, source: Any, info: strawberry.Info, **_: Any) -> bool:
        await asyncio.sleep(0)
        return source is not None


@strawberry.type
class Wrapped:
    plain: str = strawberry.field(extensions=[Upper()])
    guarded: str | None = strawberry.field(permission_classes=[Refuses], default=None)

    @strawberry.field(extensions=[Upper()])
    def told(self, info: strawberry.Info, word: str = "w") -> str:
        return f"{word} {info.path.key}"

    @strawberry.field(extensions=[UpperLater()])
    async def later(self, word: str = "w") -> str:
        return word

    @strawberry.field(permission_classes=[Refuses])
    def allowed(self, *, allow: bool = True) -> str | None:
        return "allowed" if allow else None

    @strawberry.field(permission_classes=[RefusesLater, Refuses])
    async def listed(self, *, allow: bool = True) -> list[str]:
        return ["listed" if allow else "not"]


@strawberry.type
class WrappingQuery:
    @strawberry.field
    def wrapped(self) -> Wrapped | None:
        return Wrapped(plain="p")

    @strawberry.field(permission_classes=[RefusesLater])
    def guarded(self) -> str | None:
        return "seen"


async def test_field_extensions_and_permissions_wrap_their_fields() -> None:
    schema = strawberry.Schema(WrappingQuery)
    answer = await both(
        schema,
        """query($a: Boolean!, $w: String!) { guarded wrapped { plain guarded told(word: $w) later
             allowed(allow: $a) yes: allowed listed(allow: true) } }""",
        {"a": False, "w": "x"},
    )
    assert answer.data == {
        "guarded": None,
        "wrapped": {
            "plain": "P PLAIN",
            "guarded": None,
            "told": "X TOLD TOLD",
            "later": "W LATER",
            "allowed": None,
            "yes": "allowed",
            "listed": ["listed"],
        },
    }
    assert answer.errors == [
        "guarded: refused later",
        "wrapped.allowed: refused",
        "wrapped.guarded: refused",
    ]
    answer = await both(schema, "{ wrapped { listed(allow: false) } }")
    assert (answer.data, answer.errors) == ({"wrapped": None}, ["wrapped.listed: refused"])


@strawberry.type
class Problem:
    text: str


@strawberry.type
class Fine:
    text: str


class Explains(ExceptionHandler[LookupError]):
    error_type = Problem

    @override
    def handle(self, exc: Any, *, field: Any, info: Any) -> Any:
        return None if "decline" in str(exc) else Problem(text=f"{exc} {info.field_name}")


def fail(how: str) -> Fine | Problem:
    if how == "fine":
        return Fine(text="fine")
    raise (LookupError if how != "other" else ValueError)(how)


async def fail_later(how: str) -> Fine | Problem:
    return fail(how)


@strawberry.type
class HandlingQuery:
    fail: Fine | Problem | None = strawberry.field(resolver=fail)
    fail_later: Fine | Problem | None = strawberry.field(resolver=fail_later)
    plain: str | None = None


async def test_exception_handlers_answer_for_what_is_raised() -> None:
    schema = strawberry.Schema(HandlingQuery, exception_handlers=[Explains()])
    shape = "{ __typename ... on Fine { text } ... on Problem { said: text } }"
    fields = " ".join(
        f'{how}: fail(how: "{how}") {shape} {how}_later: failLater(how: "{how}") {shape}'
        for how in ("fine", "lost", "decline", "other")
    )
    answer = await both(schema, f"{{ {fields} plain }}", root=HandlingQuery())
    lost = {"__typename": "Problem", "said": "lost fail"}
    assert answer.data["lost"] == lost
    assert answer.data["lost_later"] == {**lost, "said": "lost failLater"}
    assert answer.data["fine"] == {"__typename": "Fine", "text": "fine"}
    assert answer.errors == [
        f"{name}: {name.partition('_')[0]}"
        for name in ("decline", "decline_later", "other", "other_later")
    ]


@strawberry.type
class Plain:
    name: str
    count_of: int | None
    inner: "Plain | None" = None


async def test_a_default_resolver_of_the_schema_s_own() -> None:
    def get(source: Any, name: str) -> Any:
        if isinstance(source, dict):
            return source[name]
        return getattr(source, name, f"no {name}")

    @strawberry.type
    class Root:
        @strawberry.field
        def plain(self) -> Plain:
            value: Any = {"name": "n", "count_of": 2, "inner": {"name": "m"}}
            return value  # type: ignore[no-any-return]

    schema = strawberry.Schema(Root, config=StrawberryConfig(default_resolver=get))
    answer = await both(schema, "{ plain { name countOf inner { name countOf inner { name } } } }")
    assert answer.data == {
        "plain": {"name": "n", "countOf": 2, "inner": {"name": "m", "countOf": None, "inner": None}}
    }
    assert answer.errors == [
        "plain.inner.countOf: 'count_of'",
        "plain.inner.inner: 'inner'",
    ]


class Shouting(StrawberryField):
    """A field class of the schema's own."""

    @override
    def get_result(self, source: Any, info: Any, args: Any, kwargs: Any) -> Any:
        return f"{super().get_result(source, info, args, kwargs)}!"


async def test_a_field_class_of_the_schema_s_own_has_its_say() -> None:
    @strawberry.type
    class Root:
        plain: str = Shouting(default="plain")  # type: ignore[assignment]
        told: str = Shouting()(told_nothing)  # type: ignore[assignment]

    answer = await both(strawberry.Schema(Root), "{ plain told }", root=Root())
    assert answer.data == {"plain": "plain!", "told": "nothing!"}


class Source:
    """Attributes that are computed, awaited or missing."""

    name = "n"

    @property
    def broken(self) -> str:
        raise GraphQLError("broken", extensions={"code": "b"})

    @property
    def later(self) -> Awaitable[str]:
        return asyncio.sleep(0, "later")

    @property
    def future(self) -> Awaitable[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.set_result("future")
        return future

    @property
    def failing(self) -> Awaitable[str]:
        async def fail() -> str:
            raise LookupError("failing")

        return fail()

    @property
    def twice(self) -> Awaitable[Any]:
        class Again:
            def __await__(self) -> Any:
                yield from asyncio.sleep(0).__await__()
                return "twice"

            @override
            def __str__(self) -> str:
                return "again"

        return asyncio.sleep(0, Again())

    @property
    def mixed(self) -> list[Any]:
        return ["a", asyncio.sleep(0, "b"), None, asyncio.sleep(0, None), self.failing, "c"]

    @property
    def many(self) -> list[Any]:
        return [Source(), asyncio.sleep(0, Source()), asyncio.sleep(0, ValueError("returned"))]


@strawberry.type
class Lazy:
    name: str
    broken: str | None
    later: str
    future: str
    failing: str | None
    twice: str | None
    missing: str | None
    mixed: list[str | None]
    many: list["Lazy | None"]


async def test_attributes_that_are_computed_awaited_or_missing() -> None:
    @strawberry.type
    class Root:
        @strawberry.field
        def lazy(self) -> Lazy:
            source: Any = Source()
            return source  # type: ignore[no-any-return]

    fields = "name broken later future failing missing mixed"
    answer = await both(strawberry.Schema(Root), f"{{ lazy {{ {fields} many {{ {fields} }} }} }}")
    one = {
        "name": "n",
        "broken": None,
        "later": "later",
        "future": "future",
        "failing": None,
        "missing": None,
        "mixed": ["a", "b", None, None, None, "c"],
    }
    assert answer.data == {"lazy": {**one, "many": [one, one, None]}}
    of_one = {
        "broken": "broken",
        "failing": "failing",
        "missing": "'Source' object has no attribute 'missing'",
        "mixed.4": "failing",
    }
    assert answer.errors == sorted(
        [
            f"lazy{place}.{name}: {message}"
            for place in ("", ".many.0", ".many.1")
            for name, message in of_one.items()
        ]
        + ["lazy.many.2: returned"]
    )


async def test_what_awaits_to_something_to_await_is_not_awaited_twice() -> None:
    @strawberry.type
    class Root:
        @strawberry.field
        def lazy(self) -> Lazy:
            source: Any = Source()
            return source  # type: ignore[no-any-return]

    answer = await both(strawberry.Schema(Root), "{ lazy { twice } }")
    assert answer.data == {"lazy": {"twice": "again"}}


@dataclass
class Failure(Exception):  # noqa: N818
    """An exception whose text is its message, as graphql-core reads it."""

    message: str


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        KeyError("k"),
        Failure("said"),
        GraphQLError("plain", extensions={"code": "c"}),
        GraphQLError("placed", path=["some", "where", 5]),
        StopIteration("stopped"),
        StopAsyncIteration("stopped"),
        RecursionError("deep"),
        ExceptionGroup("group", [ValueError("one")]),
        TimeoutError("late"),
    ],
)
async def test_any_exception_becomes_the_field_s_error(
    error: Exception, *, later: bool, raised: bool
) -> None:
    def resolve() -> str | None:
        if raised:
            raise error
        return error  # type: ignore[return-value]

    async def resolve_later() -> str | None:
        return resolve()

    @strawberry.type
    class Root:
        told: str | None = strawberry.field(resolver=resolve_later if later else resolve)
        beside: str | None = strawberry.field(resolver=lambda: "beside")

    answer = await both(strawberry.Schema(Root), "{ told again: told beside }")
    assert answer.data == {"told": None, "again": None, "beside": "beside"}
    assert len(answer.errors) == 2
