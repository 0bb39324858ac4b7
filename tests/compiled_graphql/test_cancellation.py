"""An execution that is cancelled, or a part of it, leaves nothing running behind."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import strawberry
from graphql import parse

from compiled_graphql.batch import for_each_parent, metadata
from compiled_graphql.cache import PlanCache
from compiled_graphql.extension import execute

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")

FOREVER = 3600


class Watch:
    """What happened to the resolvers of one execution.

    Attributes:
        events: What each did, in order.
        clean_up: How long a resolver takes to end once it is cancelled.
    """

    def __init__(self, *, clean_up: float = 0) -> None:
        self.events: list[str] = []
        self.clean_up = clean_up
        self.batch_loaders: dict[Any, Any] = {}

    async def forever(self, name: str) -> Any:
        self.events.append(f"{name} begins")
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            if self.clean_up:
                await asyncio.sleep(self.clean_up)
            self.events.append(f"{name} cancelled")
            raise
        raise AssertionError("forever is over")

    def cancelled(self) -> list[str]:
        return sorted(e.removesuffix(" cancelled") for e in self.events if "cancelled" in e)


async def forever_of_all(roots: Sequence[Any], info: strawberry.Info) -> Any:
    return await info.context.forever(f"batch of {len(roots)}")


async def quick_of_all(roots: Sequence[Any], info: strawberry.Info) -> Any:
    info.context.events.append(f"quick batch of {len(roots)}")
    return ["quick"] * len(roots)


async def slow_of_all(roots: Sequence[Any], info: strawberry.Info) -> Any:
    info.context.events.append(f"slow batch of {len(roots)} begins")
    await asyncio.sleep(0.01)
    info.context.events.append(f"slow batch of {len(roots)} ends")
    return ["slow"] * len(roots)


def batched(resolver: Any) -> Any:
    return strawberry.field(resolver=for_each_parent(resolver), metadata=metadata(batch=resolver))


class Lazy:
    """A source whose attributes are awaited."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    @property
    def attribute(self) -> Awaitable[str]:
        return self._watch.forever("attribute")

    @property
    def items(self) -> list[Any]:
        return ["here", self._watch.forever("item 1"), self._watch.forever("item 2")]

    @property
    async def stream(self) -> AsyncIterator[str]:
        yield "here"
        await self._watch.forever("stream")


@strawberry.type
class LazyThing:
    attribute: str
    items: list[str]
    stream: list[str]


@strawberry.type
class Thing:
    name: str = "thing"
    gathered: str = batched(forever_of_all)
    quick: str = batched(quick_of_all)
    slow: str = batched(slow_of_all)

    @strawberry.field
    async def forever(self, info: strawberry.Info, name: str = "forever") -> str | None:
        return await info.context.forever(name)  # type: ignore[no-any-return]

    @strawberry.field
    async def soon(self, name: str = "soon") -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        return name

    @strawberry.field
    async def fails(self, ticks: int = 2) -> str:
        for _ in range(ticks):
            await asyncio.sleep(0)
        raise ValueError("fails")

    @strawberry.field
    async def fails_if(self, name: str) -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if name == self.name:
            raise ValueError("fails")
        return self.name

    @strawberry.field
    def fails_now(self) -> str:
        raise ValueError("fails now")

    @strawberry.field
    async def swallows(self, info: strawberry.Info) -> str:
        try:
            await info.context.forever("swallows")
        except asyncio.CancelledError:
            info.context.events.append("swallowed")
        return "swallowed"

    @strawberry.field
    async def swallowing_thing(self, info: strawberry.Info) -> "Thing | None":
        with suppress(asyncio.CancelledError):
            await info.context.forever("swallowing thing")
        return Thing()

    @strawberry.field
    async def raises_cancelled(self, *, later: bool = True) -> str | None:
        if later:
            await asyncio.sleep(0)
        raise asyncio.CancelledError

    @strawberry.field
    def raises_cancelled_now(self) -> str | None:
        raise asyncio.CancelledError

    @strawberry.field
    async def awaits_cancelled(self) -> str | None:
        task = asyncio.create_task(asyncio.sleep(FOREVER))
        await asyncio.sleep(0)
        task.cancel()
        await task
        return "never"

    @strawberry.field
    def thing(self) -> "Thing | None":
        return Thing()

    @strawberry.field
    async def later(self) -> "Thing | None":
        return Thing()

    @strawberry.field
    def things(self) -> list["Thing | None"]:
        return [Thing(name="one"), Thing(name="two")]

    @strawberry.field
    def lazy(self, info: strawberry.Info) -> LazyThing | None:
        source: Any = Lazy(info.context)
        return source  # type: ignore[no-any-return]


@strawberry.type
class Query:
    @strawberry.field
    def thing(self) -> Thing | None:
        return Thing()

    @strawberry.field
    def must(self) -> Thing:
        return Thing()

    @strawberry.field
    async def forever(self, info: strawberry.Info) -> str:
        return await info.context.forever("root")  # type: ignore[no-any-return]


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def do(self, info: strawberry.Info, name: str) -> str | None:
        return await info.context.forever(name)  # type: ignore[no-any-return]


SCHEMA = strawberry.Schema(Query, mutation=Mutation)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that no task is left, and that nothing that must be awaited was not."""
    before = asyncio.all_tasks()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        assert asyncio.all_tasks() == before
        gc.collect(1)
    assert [str(each.message) for each in caught] == []


def begin(text: str, watch: Watch) -> "asyncio.Task[Any]":
    plans = PlanCache(SCHEMA, max_plans=2)
    executed = execute(plans, parse(text), operation_name=None, variables={}, context=watch)
    return asyncio.create_task(executed)


async def answer(text: str, watch: Watch) -> tuple[Any, list[str]]:
    with nothing_left():
        async with asyncio.timeout(5):
            result = await begin(text, watch)
    errors = [f"{'.'.join(map(str, e.path))}: {e.message}" for e in result.errors or ()]
    return result.data, sorted(errors)


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


ALL_KINDS = """{ forever thing { forever things { forever gathered quick } later { a: forever }
  lazy { attribute items stream } } }"""
RUNNING = sorted(
    ["root", "forever", "forever", "forever", "forever", "batch of 2", "attribute", "item 1",
     "item 2", "stream"]
)  # fmt: skip


@pytest.mark.parametrize("clean_up", [0, 0.01])
async def test_cancelling_an_execution_cancels_every_resolver_and_waits_for_it(
    clean_up: float,
) -> None:
    watch = Watch(clean_up=clean_up)
    with nothing_left():
        task = begin(ALL_KINDS, watch)
        await ticks(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert watch.cancelled() == RUNNING
    assert "quick batch of 2" in watch.events


@pytest.mark.parametrize("count", range(8))
async def test_it_may_be_cancelled_at_any_tick(count: int) -> None:
    watch = Watch()
    with nothing_left():
        task = begin(ALL_KINDS, watch)
        await ticks(count)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ticks(3)
    begun = sorted(e.removesuffix(" begins") for e in watch.events if "begins" in e)
    assert watch.cancelled() == begun


async def test_a_timeout_cancels_too() -> None:
    watch = Watch()
    with nothing_left(), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await begin(ALL_KINDS, watch)
    assert watch.cancelled() == RUNNING


async def test_a_mutation_that_is_cancelled_begins_nothing_more() -> None:
    watch = Watch()
    with nothing_left():
        task = begin('mutation { a: do(name: "a") b: do(name: "b") }', watch)
        await ticks(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert watch.events == ["a begins", "a cancelled"]


async def test_what_becomes_null_is_cancelled_and_nothing_else() -> None:
    watch = Watch()
    data, errors = await answer(
        """{ thing { soon thing { a: forever(name: "a") fails later { b: forever(name: "b") }
             lazy { attribute items } gathered } later { soon } } }""",
        watch,
    )
    assert data == {"thing": {"soon": "soon", "thing": None, "later": {"soon": "soon"}}}
    assert errors == ["thing.thing.fails: fails"]
    assert watch.cancelled() == ["a", "attribute", "b", "batch of 1", "item 1", "item 2"]


async def test_a_batch_goes_on_while_one_of_its_parents_is_wanted() -> None:
    watch = Watch()
    data, errors = await answer('{ thing { things { slow failsIf(name: "one") } } }', watch)
    assert data == {"thing": {"things": [None, {"slow": "slow", "failsIf": "two"}]}}
    assert errors == ["thing.things.0.failsIf: fails"]
    assert watch.events == ["slow batch of 2 begins", "slow batch of 2 ends"]
    watch = Watch()
    data, errors = await answer("{ thing { things { slow fails } } }", watch)
    assert data == {"thing": {"things": [None, None]}}
    assert watch.events == ["slow batch of 2 begins"]


async def test_a_batch_that_nobody_wants_is_not_begun() -> None:
    watch = Watch()
    data, errors = await answer("{ thing { name thing { quick failsNow } } }", watch)
    assert data == {"thing": {"name": "thing", "thing": None}}
    assert errors == ["thing.thing.failsNow: fails now"]
    assert watch.events == []
    with nothing_left(), pytest.raises(asyncio.CancelledError):
        await begin("{ thing { quick raisesCancelledNow } }", watch)
    await ticks(3)
    assert watch.events == []


async def test_what_fails_at_once_cancels_what_was_begun_before_it() -> None:
    watch = Watch()
    data, errors = await answer(
        """{ thing { soon thing { forever lazy { attribute items } failsNow } } }""", watch
    )
    assert data == {"thing": {"soon": "soon", "thing": None}}
    assert errors == ["thing.thing.failsNow: fails now"]
    assert watch.events == []


async def test_one_item_that_becomes_null_leaves_the_others() -> None:
    watch = Watch()
    data, errors = await answer("{ thing { things { soon fails(ticks: 9) } } }", watch)
    assert data == {"thing": {"things": [None, None]}}
    assert errors == [f"thing.things.{n}.fails: fails" for n in (0, 1)]


async def test_the_answer_waits_for_what_takes_time_to_end() -> None:
    watch = Watch(clean_up=0.02)
    data, errors = await answer(
        """{ must { name } thing { thing { fails forever(name: "slow") } name } }""", watch
    )
    assert data == {"must": {"name": "thing"}, "thing": {"thing": None, "name": "thing"}}
    assert errors == ["thing.thing.fails: fails"]
    assert watch.events == ["slow begins", "slow cancelled"]


async def test_everything_is_cancelled_when_nothing_may_be_null() -> None:
    watch = Watch()
    data, errors = await answer(
        "{ forever thing { forever later { forever } gathered } must { fails(ticks: 4) } }", watch
    )
    assert (data, errors) == (None, ["must.fails: fails"])
    assert watch.cancelled() == ["batch of 1", "forever", "forever", "root"]


async def test_a_resolver_that_swallows_its_cancellation_changes_nothing() -> None:
    watch = Watch()
    data, errors = await answer("{ thing { thing { swallows fails } name } }", watch)
    assert data == {"thing": {"thing": None, "name": "thing"}}
    assert errors == ["thing.thing.fails: fails"]
    assert watch.events[-1] == "swallowed"
    watch = Watch()
    with nothing_left():
        task = begin("{ thing { swallows forever } }", watch)
        await ticks(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sorted(watch.events[2:]) == ["forever cancelled", "swallowed", "swallows cancelled"]


async def test_nothing_begins_below_what_came_after_its_place_was_null() -> None:
    watch = Watch()
    data, errors = await answer(
        "{ thing { name thing { swallowingThing { quick forever } fails } } }", watch
    )
    assert (data, errors) == (
        {"thing": {"name": "thing", "thing": None}},
        ["thing.thing.fails: fails"],
    )
    assert watch.events == ["swallowing thing begins", "swallowing thing cancelled"]


@pytest.mark.parametrize(
    "field",
    ["raisesCancelled", "raisesCancelled(later: false)", "raisesCancelledNow", "awaitsCancelled"],
)
async def test_a_resolver_that_raises_cancelled_cancels_the_execution(field: str) -> None:
    watch = Watch()
    with nothing_left():
        with pytest.raises(asyncio.CancelledError):
            await begin(f"{{ thing {{ forever gathered quick {field} soon }} forever }}", watch)
        await ticks(3)
    begun = sorted(e.removesuffix(" begins") for e in watch.events if "begins" in e)
    assert watch.cancelled() == begun


async def test_a_task_that_a_resolver_returns_is_cancelled_too() -> None:
    tasks: list[asyncio.Task[Any]] = []

    def begin_task(info: strawberry.Info) -> str:
        tasks.append(asyncio.create_task(info.context.forever("task")))
        return tasks[-1]  # type: ignore[return-value]

    @strawberry.type
    class Root:
        task: str | None = strawberry.field(resolver=begin_task)

    for count in range(5):
        watch = Watch()
        plans = PlanCache(strawberry.Schema(Root), max_plans=2)
        with nothing_left():
            task = asyncio.create_task(
                execute(plans, parse("{ task }"), operation_name=None, variables={}, context=watch)
            )
            await ticks(count)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await ticks(3)
        assert all(each.cancelled() for each in tasks)
