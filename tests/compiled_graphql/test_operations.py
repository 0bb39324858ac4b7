"""Mutations run one after another; what can't be compiled is left to graphql-core, and counted."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import strawberry
from graphql import parse
from strawberry.extensions import SchemaExtension
from typing_extensions import override

from compiled_graphql.batch import for_each_parent, metadata
from compiled_graphql.cache import PlanCache
from compiled_graphql.extension import CompiledExecution
from tests.compiled_graphql.pairs import both

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Log(list[str]):
    """What happened, in order; also the context of batched fields."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_loaders: dict[Any, Any] = {}


async def steps(info: strawberry.Info, name: str) -> None:
    info.context.append(f"{name} begins")
    for _ in range(3):
        await asyncio.sleep(0)
    info.context.append(f"{name} ends")


async def batch_of(roots: list["Done"], info: strawberry.Info) -> list[str]:
    await steps(info, f"batch of {roots[0].name}")
    return [root.name for root in roots]


@strawberry.type
class Done:
    name: str
    gathered: str = strawberry.field(
        resolver=for_each_parent(batch_of), metadata=metadata(batch=batch_of)
    )

    @strawberry.field
    async def below(self, info: strawberry.Info) -> str:
        await steps(info, f"below {self.name}")
        return self.name

    @strawberry.field
    async def again(self, info: strawberry.Info) -> list["Done"]:
        await steps(info, f"again {self.name}")
        return [Done(name=f"{self.name}1"), Done(name=f"{self.name}2")]

    @strawberry.field
    async def broken(self, info: strawberry.Info) -> str:
        await steps(info, f"broken {self.name}")
        raise ValueError(f"broken {self.name}")


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def later(self, info: strawberry.Info, name: str) -> Done | None:
        await steps(info, name)
        return Done(name=name)

    @strawberry.mutation
    def now(self, info: strawberry.Info, name: str) -> Done:
        info.context.append(f"{name} at once")
        return Done(name=name)

    @strawberry.mutation
    async def fail_later(self, info: strawberry.Info, name: str) -> Done:
        await steps(info, name)
        raise ValueError(f"failed {name}")

    @strawberry.mutation
    def fail_now(self, info: strawberry.Info, name: str) -> Done:
        info.context.append(f"{name} at once")
        raise ValueError(f"failed {name}")


@strawberry.type
class Query:
    here: str = "here"

    @strawberry.field
    async def slow(self) -> list[str]:
        return ["slow"]


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self) -> AsyncIterator[int]:
        yield 1


SCHEMA = strawberry.Schema(Query, mutation=Mutation, subscription=Subscription)


async def log_of(text: str) -> tuple[Any, list[str], list[str]]:
    logs: list[Log] = []

    def context() -> Log:
        logs.append(Log())
        return logs[-1]

    answer = await both(SCHEMA, text, context=context)
    core, first, second = logs
    assert core == first == second
    return answer.data, answer.errors, list(first)


def told(*names: str) -> list[str]:
    return [f"{name} {what}" for name in names for what in ("begins", "ends")]


async def test_a_mutation_begins_when_the_one_before_it_has_wholly_ended() -> None:
    data, errors, log = await log_of(
        """mutation { a: later(name: "a") { below } b: now(name: "b") { again { below } gathered }
             c: later(name: "c") { gathered } d: now(name: "d") { name } }"""
    )
    assert errors == []
    assert data == {
        "a": {"below": "a"},
        "b": {"again": [{"below": "b1"}, {"below": "b2"}], "gathered": "b"},
        "c": {"gathered": "c"},
        "d": {"name": "d"},
    }
    assert log[:5] == [*told("a", "below a"), "b at once"]
    middle = log[5:-5]
    assert sorted(middle) == sorted(told("again b", "below b1", "below b2", "batch of b"))
    assert middle.index("again b ends") < middle.index("below b1 begins")
    assert log[-5:] == [*told("c", "batch of c"), "d at once"]


@pytest.mark.parametrize("failing", ["failNow", "failLater"])
async def test_mutations_end_at_one_that_fails_and_must_not_be_null(failing: str) -> None:
    data, errors, log = await log_of(
        f"""mutation {{ a: later(name: "a") {{ name }} b: {failing}(name: "b") {{ name }}
              c: later(name: "c") {{ name }} d: now(name: "d") {{ name }} }}"""
    )
    assert (data, errors) == (None, ["b: failed b"])
    assert log == [*told("a"), *(["b at once"] if failing == "failNow" else told("b"))]


async def test_mutations_go_on_after_one_that_may_be_null() -> None:
    data, errors, log = await log_of(
        """mutation { a: later(name: "a") { broken } b: now(name: "b") { name } }"""
    )
    assert (data, errors) == ({"a": None, "b": {"name": "b"}}, ["a.broken: broken a"])
    assert log[-1] == "b at once"


async def test_a_failure_below_a_mutation_that_must_not_be_null_ends_it_too() -> None:
    data, errors, log = await log_of(
        """mutation { a: now(name: "a") { again { ...F } } b: now(name: "b") { name } }
           fragment F on Done { name gathered }"""
    )
    assert (data is None, errors, log[-1]) == (False, [], "b at once")
    data, errors, log = await log_of(
        """mutation { a: now(name: "a") { broken } b: now(name: "b") { name } }"""
    )
    assert data is None
    assert errors == ["a.broken: broken a"]
    assert log == ["a at once", *told("broken a")]


@pytest.mark.parametrize(
    ("text", "name", "counted"),
    [
        ("subscription { count }", None, "a subscription"),
        ("{ ... @defer { here } }", None, "@defer"),
        ("query($d: Boolean!) { here ...F @defer(if: $d) } fragment F on Query { here }", None,
         "@defer"),
        ("{ slow @stream(initialCount: 0) }", None, "@stream"),
        ("{ here ...F } fragment F on Query { slow @stream(if: false) }", None, "@stream"),
        ("query @experimental_disableErrorPropagation { here }", None,
         "@experimental_disableErrorPropagation"),
        ("query A { here } query B { here }", None, "no such operation"),
        ("query A { here }", "B", "no such operation"),
        ("fragment F on Query { here }", None, "no such operation"),
    ],
)  # fmt: skip
async def test_what_is_left_to_graphql_core_is_counted(
    text: str, name: str | None, counted: str
) -> None:
    plans = PlanCache(SCHEMA, max_plans=4)
    document = parse(text)
    for times in (1, 2):
        assert plans.find(document, name, {"d": True}) is None
        assert plans.counts == {counted: times}


def extended(*others: Any) -> tuple[strawberry.Schema, PlanCache]:
    """Return a schema whose operations are compiled by an extension, and its plans."""
    schema = strawberry.Schema(Query, mutation=Mutation, subscription=Subscription)
    plans = PlanCache(schema, max_plans=4)
    schema.extensions = (lambda: CompiledExecution(plans), *others)
    return schema, plans


async def test_the_extension_executes_what_can_be_compiled() -> None:
    schema, plans = extended()
    for count in (1, 2):
        result = await schema.execute("{ here slow }", root_value=Query())
        assert (result.data, result.errors) == ({"here": "here", "slow": ["slow"]}, None)
        assert plans.counts["compiled"] == count
    failed = await schema.execute("{ here }")
    assert failed.data is None
    assert [(error.path, error.message) for error in failed.errors or ()] == [
        (["here"], "'NoneType' object has no attribute 'here'")
    ]
    assert plans.counts == {"compiled": 3}
    wrong = await schema.execute("query($n: Int!) { here @skip(if: $n) }")
    assert wrong.data is None
    assert plans.counts == {"compiled": 3}


class Shouts(SchemaExtension):
    """Has a say in every field, as graphql-core's middleware."""

    @override
    async def resolve(self, _next: Any, root: Any, info: Any, *args: str, **kwargs: Any) -> Any:
        value = _next(root, info, *args, **kwargs)
        return value.upper() if isinstance(value, str) else await value


class Counts(SchemaExtension):
    """Runs around the execution, and adds to the answer."""

    @override
    def on_execute(self) -> Iterator[None]:
        yield

    @override
    def get_results(self) -> dict[str, Any]:
        return {"counted": 1}


async def test_extensions_that_wrap_every_field_are_left_to_graphql_core() -> None:
    schema, plans = extended(Shouts)
    result = await schema.execute("{ here slow }", root_value=Query())
    assert result.data == {"here": "HERE", "slow": ["slow"]}
    assert plans.counts == {"an extension that resolves fields": 1}


async def test_extensions_around_the_execution_go_on_working() -> None:
    schema, plans = extended(Counts)
    result = await schema.execute("{ here slow }", root_value=Query())
    assert (result.data, result.extensions) == ({"here": "here", "slow": ["slow"]}, {"counted": 1})
    assert plans.counts == {"compiled": 1}
