"""What a server adds: records read by item, values left to the encoder, plans that are shared."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
import strawberry
from graphql import parse
from strawberry.dataloader import DataLoader

from compiled_graphql.cache import PlanCache
from compiled_graphql.extension import execute
from tests.compiled_graphql.pairs import both, by_compiling, by_graphql_core, shown

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Record(dict[str, Any]):
    """A row: its columns are items, and attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class OtherUUID(UUID):
    """A UUID as a driver makes them."""


@strawberry.type
class Owner:
    id: strawberry.ID
    name: str


@strawberry.type
class Thing:
    id: strawberry.ID
    key: UUID
    made_at: datetime | None
    size: int
    owner: Owner | None
    owners: list[Owner]

    @strawberry.field
    def double(self) -> int:
        return self.size * 2


MOMENTS = [
    datetime(2026, 1, 2, 3, 4, 5, 678, UTC),
    datetime(2026, 1, 2, tzinfo=UTC),
    datetime(1, 1, 1, 0, 0, 0, 1, UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
    datetime(2026, 1, 2, 3),  # noqa: DTZ001
    None,
]


def record(number: int, kind: type[UUID] = UUID) -> Record:
    owner = Record(id=kind(int=number), name=f"owner {number}")
    return Record(
        id=kind(int=number),
        key=kind(int=number + 100),
        made_at=MOMENTS[number % len(MOMENTS)],
        size=number,
        owner=owner if number % 2 else None,
        owners=[owner] * (number % 3),
    )


@strawberry.type
class Query:
    @strawberry.field
    async def things(self, count: int = 8) -> list[Thing]:
        things: Any = [record(n, OtherUUID if n % 3 == 2 else UUID) for n in range(count)]
        return things  # type: ignore[no-any-return]

    @strawberry.field
    def broken(self) -> list[Thing | None]:
        things: Any = [Record(record(1), size="x"), Record(record(2), id=None), record(3)]
        return things  # type: ignore[no-any-return]


SCHEMA = strawberry.Schema(Query)
FIELDS = "{ id again: id key madeAt size double owner { id name } owners { name } }"


@pytest.mark.parametrize("record_class", [None, Record])
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        f"{{ things {FIELDS} }}",
        f"{{ broken {FIELDS} things {{ size }} }}",
        "{ things { owner { name } } broken { double } }",
    ],
)
async def test_records_and_native_values_are_encoded_to_the_same_json(
    text: str, record_class: type | None, *, native: bool
) -> None:
    plans = PlanCache(SCHEMA, max_plans=1, native=native, record_class=record_class)
    core = await by_graphql_core(SCHEMA, text)
    compiled = await by_compiling(SCHEMA, text, plans=plans)
    assert orjson.dumps(compiled.data) == orjson.dumps(core.data)
    assert shown(compiled)[1] == shown(core)[1]
    if not native:
        assert shown(compiled) == shown(core)


async def test_a_plan_is_shared_by_executions_at_the_same_time() -> None:
    plans = PlanCache(SCHEMA, max_plans=1)
    document = parse("query($n: Int!) { things(count: $n) { size double owner { name } } }")
    answers = await asyncio.gather(
        *(execute(plans, document, operation_name=None, variables={"n": n}) for n in range(30))
    )
    found = [answer.data["things"] for answer in answers if answer and answer.data]
    assert [len(things) for things in found] == list(range(30))
    assert plans.counts == {"compiled": 1, "cached": 29}


# --- loaders and helpers of resolvers -----------------------------------------------------------


class Loaders:
    """The context of one execution, with a loader and what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.loader: DataLoader[int, Any] = DataLoader(self.load)

    async def load(self, keys: list[int]) -> list[Any]:
        self.calls.append(keys)
        if 13 in keys:
            raise LookupError("thirteen")
        return [ValueError(f"no {key}") if key % 5 == 4 else f"loaded {key}" for key in keys]


@strawberry.type
class Loaded:
    number: int

    @strawberry.field
    async def by_loader(self, info: strawberry.Info, plus: int = 0) -> str | None:
        return await info.context.loader.load(self.number + plus)  # type: ignore[no-any-return]

    @strawberry.field
    def by_future(self, info: strawberry.Info) -> str:
        return info.context.loader.load(self.number)  # type: ignore[no-any-return]

    @strawberry.field
    async def gathered(self, info: strawberry.Info, *, fail: bool = False) -> list[str]:
        loader = info.context.loader
        numbers = [self.number, 14 if fail else 20]
        gather = info._raw_info.async_helpers.gather  # noqa: SLF001
        return await gather([loader.load(number) for number in numbers])

    @strawberry.field
    def tracked(self, info: strawberry.Info, *, fail: bool = False) -> str | None:
        async def ends() -> None:
            await asyncio.sleep(0)
            info.context.calls.append([self.number])

        info._raw_info.async_helpers.track([ends(), 5])  # noqa: SLF001
        if fail:
            raise ValueError("tracked")
        return "tracked"

    @strawberry.field
    async def forever(self) -> str:
        await asyncio.sleep(3600)
        return "never"

    @strawberry.field
    def fails(self) -> str:
        raise ValueError("fails")

    @strawberry.field
    def inner(self) -> "Loaded | None":
        return Loaded(number=self.number)


@strawberry.type
class LoadedQuery:
    @strawberry.field
    def some(self, numbers: list[int]) -> list[Loaded | None]:
        return [Loaded(number=number) for number in numbers]


LOADED = strawberry.Schema(LoadedQuery)


@pytest.mark.parametrize(
    "text",
    [
        "{ some(numbers: [1, 2, 3]) { byLoader byFuture again: byLoader(plus: 20) } }",
        "{ some(numbers: [1, 4, 3]) { byLoader byFuture } }",
        "{ some(numbers: [1, 13]) { byLoader } }",
        "{ some(numbers: [1, 2]) { gathered tracked } }",
        "{ some(numbers: [1, 4]) { number gathered(fail: true) } }",
        "{ some(numbers: [1]) { number tracked(fail: true) inner { number } } }",
    ],
)
async def test_loaders_and_helpers_of_resolvers(text: str) -> None:
    contexts: list[Loaders] = []

    def context() -> Loaders:
        contexts.append(Loaders())
        return contexts[-1]

    await both(LOADED, text, context=context)
    asked = [sorted(key for call in each.calls for key in call) for each in contexts]
    assert asked[0] == asked[1] == asked[2]


async def test_what_a_resolver_tracks_is_no_end_of_what_is_cancelled() -> None:
    async with asyncio.timeout(5):
        result = await by_compiling(
            LOADED,
            "{ some(numbers: [1]) { number inner { forever tracked fails } } }",
            context=Loaders(),
        )
    assert result.data == {"some": [{"number": 1, "inner": None}]}


async def test_a_loader_gathers_what_attributes_and_resolvers_ask_for_in_one_tick() -> None:
    contexts: list[Loaders] = []

    def context() -> Loaders:
        contexts.append(Loaders())
        return contexts[-1]

    make: Callable[[], Loaders] = context
    await both(LOADED, "{ some(numbers: [1, 2, 3]) { byLoader inner { byFuture } } }", context=make)
    assert [sorted(call) for each in contexts for call in each.calls] == [[1, 2, 3]] * 3
