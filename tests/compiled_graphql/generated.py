"""Generated schemas, documents and outcomes, and the two executors run on them alike.

A schema's types form a chain without circles. Every outcome (a value, None, an
exception, something to await) is a function of a seed and of the place in the answer,
so that both executors meet the same ones, whatever the order of their calls. What is
awaited waits at a gate; gates open one at a time, in an order that is seeded too, and
only when nothing else moves, so that also races end alike.
"""

import asyncio
import dataclasses
import random
import re
import zlib
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from operator import itemgetter
from typing import Annotated, Any, Optional, Union
from uuid import UUID

import graphql
import strawberry
from graphql import DocumentNode, ExecutionResult, validate
from strawberry.scalars import JSON
from strawberry.types.field import StrawberryField

from compiled_graphql.batch import for_each_parent, metadata
from compiled_graphql.cache import PlanCache
from tests.compiled_graphql.pairs import by_compiling, by_graphql_core

QUIET_TICKS = 25
VARIABLES = {"yes": "Boolean! = true", "no": "Boolean = false", "n": "Int = 2", "t": "[String!]"}


@strawberry.enum
class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@strawberry.interface
class Named:
    name: str


LEAVES: list[Any] = [str, int, float, bool, strawberry.ID, UUID, datetime, Decimal, JSON, Colour]
# Right values, values that are coerced, and values that can't be.
LEAF_VALUES: dict[Any, list[Any]] = {
    str: ["", "a", "a" * 50, 7, 1.5, True, [], object],
    int: [0, -(2**31), 2**31, 1.0, "5", True, "x", None],
    float: [0.5, 3, float("nan"), float("inf"), "1.5", "x"],
    bool: [True, False, 1, 0, "yes"],
    strawberry.ID: ["id", 5, UUID(int=5), 1.5, [1]],
    UUID: [UUID(int=7), "text", 5],
    datetime: [datetime(2026, 1, 2, 3, 4, 5, 678, UTC), datetime(2026, 1, 2), "x"],  # noqa: DTZ001
    Decimal: [Decimal("1.50"), Decimal("1E+3"), 5],
    JSON: [{"a": [1, None]}, [1], "s", 5, None],
    Colour: [Colour.RED, "red", "BLUE", "green", 5, []],
}


@dataclass(frozen=True)
class Outcomes:
    """What happens at each place of an answer.

    Attributes:
        seed: Decides it.
        trouble: The share of places where it is not a plain value, 0 to 1.
    """

    seed: int
    trouble: float

    def at(self, *place: object) -> random.Random:
        return random.Random(zlib.crc32(f"{self.seed}/{place!r}".encode()))


class Gates:
    """Where resolvers wait; `open_each` lets them go on one by one."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._waiting: list[tuple[tuple[float, str], asyncio.Future[None]]] = []

    async def wait(self, place: Any, value: Any) -> Any:
        gate = asyncio.get_running_loop().create_future()
        draw = self._outcomes.at("gate", place).random(), repr(place)
        self._waiting.append((draw, gate))
        await gate
        if isinstance(value, Exception):
            raise value
        return value

    async def open_each(self) -> None:
        while True:
            for _ in range(QUIET_TICKS):
                await asyncio.sleep(0)
            self._waiting = [(draw, gate) for draw, gate in self._waiting if not gate.done()]
            if self._waiting:
                _, gate = min(self._waiting, key=itemgetter(0))
                gate.set_result(None)


class Later:
    """Something to await that does not mind when nobody does."""

    def __init__(self, gates: Gates, place: Any, value: Any) -> None:
        self._wait = lambda: gates.wait(place, value)

    def __await__(self) -> Any:
        return self._wait().__await__()  # type: ignore[no-untyped-call]


@dataclass
class Context:
    outcomes: Outcomes
    gates: Gates
    shape: "Shape"
    batch_loaders: dict[Any, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class FieldShape:
    """A field: its type as wrappers around a leaf or an object, and how it is resolved."""

    name: str
    type: Any
    kind: str  # "attribute", "sync", "async", "batch"


class Shape:
    """A generated schema, and the values of its types.

    Attributes:
        has_batches: Some fields are resolved for all their parents at once.
    """

    def __init__(self, rng: random.Random) -> None:
        self.has_batches = rng.random() < 0.4
        self.objects: dict[str, list[FieldShape]] = {}
        self.classes: dict[str, Any] = {}
        self.unions: dict[str, list[str]] = {}
        count = rng.randint(1, 4)
        for number in range(count, -1, -1):
            self._add_object(rng, "Query" if number == 0 else f"T{number}")
        self.schema = strawberry.Schema(
            self.classes["Query"], types=[c for n, c in self.classes.items() if n != "Query"]
        )

    def _add_object(self, rng: random.Random, name: str) -> None:
        named = name != "Query" and rng.random() < 0.5
        members: dict[str, Any] = {"__annotations__": {}}
        fields = [FieldShape("name", ("!", "leaf", str), "attribute")] if named else []
        for number in range(rng.randint(2, 5)):
            shape = self._type(rng, 0)
            kinds = ["attribute", "sync", "async"] if name != "Query" else ["sync", "async"]
            if self.has_batches and name != "Query":
                kinds += ["batch", "batch"]
            fields.append(FieldShape(f"f{number}", shape, rng.choice(kinds)))
        for field in fields:
            members["__annotations__"][field.name] = self.annotation(field.type)
            if field.kind == "batch":
                members[field.name] = _batched(field, name)
            elif field.kind != "attribute":
                members[field.name] = _resolved(field)
        base = (Named,) if named else ()
        made = type(name, base, members)
        self.classes[name] = strawberry.type(made)
        self.objects[name] = fields

    def _type(self, rng: random.Random, depth: int) -> Any:
        mark = "!" if rng.random() < 0.5 else "?"
        below = [name for name in self.objects if name != "Query"]
        draw = rng.random()
        if draw < 0.3 and depth < 3:
            return (mark, "list", self._type(rng, depth + 1))
        if draw < 0.75 and below:
            if draw > 0.65 and len(below) > 1:
                return (mark, "union", tuple(sorted(rng.sample(below, 2))))
            named = [n for n in below if any(f.name == "name" for f in self.objects[n])]
            if draw > 0.6 and named:
                return (mark, "interface", tuple(named))
            return (mark, "object", rng.choice(below))
        return (mark, "leaf", rng.choice(LEAVES))

    def annotation(self, type_: Any) -> Any:
        mark, kind, inner = type_
        made: Any
        if kind == "leaf":
            made = inner
        elif kind == "list":
            made = list[self.annotation(inner)]  # type: ignore[misc]
        elif kind == "object":
            made = self.classes[inner]
        elif kind == "interface":
            made = Named
        else:
            members = tuple(self.classes[each] for each in inner)
            made = Annotated[Union[members], strawberry.union("Or".join(inner))]  # noqa: UP007
        return made if mark == "!" else Optional[made]  # noqa: UP045

    def value(self, context: Context, type_: Any, place: Any, *, plain: bool = False) -> Any:
        """Return what is at a place: mostly what its type asks for."""
        rng = context.outcomes.at(place)
        _, kind, inner = type_
        trouble = context.outcomes.trouble
        draw = rng.random()
        if draw < trouble and not plain:
            what = rng.choice(["null", "returned", "later", "later null", "later raised"])
            if what == "null":
                return None
            if what == "returned":
                return ValueError(f"returned at {place}")
            later: Any = None
            if what == "later":
                later = self.value(context, type_, place, plain=True)
            elif what == "later raised":
                later = ValueError(f"raised at {place}")
            return Later(context.gates, place, later)
        if kind == "leaf":
            usual = rng.random() > trouble
            return LEAF_VALUES[inner][0] if usual else rng.choice(LEAF_VALUES[inner])
        if kind == "list":
            items = [self.value(context, inner, (*place, n)) for n in range(rng.randint(0, 3))]
            draw = rng.random()
            if draw < trouble:
                return rng.choice([5, "text", {"a": 1}])
            if draw > 0.9:
                return Items(context, place, items)
            return tuple(items) if draw > 0.8 else items
        name = inner if kind == "object" else rng.choice(inner)
        return self.source(context, name, place)

    def source(self, context: Context, name: str, place: Any) -> Any:
        source = object.__new__(self.classes[name])
        object.__setattr__(source, "_place", place)
        for field in self.objects[name]:
            if field.kind == "attribute" and context.outcomes.at(place, field.name).random() > 0.02:
                lazily = self.value(context, field.type, (*place, field.name))
                object.__setattr__(source, field.name, lazily)
        return source


class Items:
    """An async iterable that begins anew for each reader, and waits before its first item."""

    def __init__(self, context: Context, place: Any, items: list[Any]) -> None:
        self._context = context
        self._place = place
        self._items = items

    async def __aiter__(self) -> Any:
        await self._context.gates.wait((*self._place, "items"), None)
        for item in self._items:
            yield item


def _resolved(field: FieldShape) -> StrawberryField:
    def place_of(info: strawberry.Info, times: int) -> Any:
        return (*info.path.as_list(), times)

    def resolve(info: strawberry.Info, times: int = 1, tags: list[str] | None = None) -> Any:
        place = place_of(info, times)
        context: Context = info.context
        if context.outcomes.at("raise", place).random() < context.outcomes.trouble:
            raise KeyError(f"raised at {place} {tags}")
        return context.shape.value(context, field.type, place)

    async def resolve_later(
        info: strawberry.Info, times: int = 1, tags: list[str] | None = None
    ) -> Any:
        place = place_of(info, times)
        context: Context = info.context
        await context.gates.wait(place, None)
        found = resolve(info, times, tags)
        return await found if isinstance(found, Awaitable) else found

    resolver = resolve_later if field.kind == "async" else resolve
    resolver.__annotations__ = dict(resolver.__annotations__)
    resolver.__annotations__.pop("return", None)
    made: StrawberryField = strawberry.field(resolver=resolver)
    return made


def _batched(field: FieldShape, parent: str) -> StrawberryField:
    async def resolve_all(
        roots: list[Any], info: strawberry.Info, times: int = 1, tags: list[str] | None = None
    ) -> Any:
        context: Context = info.context
        outcomes = context.outcomes
        # Who is in a batch differs between the executors; what happens to each must not.
        batch = ("batch", parent, field.name, times)
        await context.gates.wait(batch, None)
        if outcomes.at(batch).random() < outcomes.trouble / 3:
            raise KeyError(f"raised for all of {batch} {tags}")
        values: list[Any] = []
        for root in roots:
            place = (*root._place, field.name, times)  # noqa: SLF001
            trouble = outcomes.at("batch", place).random()
            if trouble < outcomes.trouble / 2:
                values.append(ValueError(f"returned at {place}"))
            elif trouble < outcomes.trouble:
                values.append(None)
            else:
                values.append(context.shape.value(context, field.type, place, plain=True))
        return values

    made: StrawberryField = strawberry.field(
        resolver=for_each_parent(resolve_all), metadata=metadata(batch=resolve_all)
    )
    return made


class DocumentWriter:
    """Writes a random valid operation over a `Shape`."""

    def __init__(self, rng: random.Random, shape: Shape) -> None:
        self._rng = rng
        self._shape = shape
        self._fragments: dict[str, str] = {}
        self._made = 0

    def write(self) -> str:
        body = f"{{ {self._selections('Query', 0)} }} {' '.join(self._fragments.values())}"
        used = [
            f"${name}: {type_}"
            for name, type_ in VARIABLES.items()
            if re.search(rf"\${name}\b", body)
        ]
        return f"query Q{f'({chr(44).join(used)})' if used else ''} {body}"

    def _selections(self, name: str, depth: int) -> str:
        rng = self._rng
        parts = [
            self._field(field, depth) for field in self._shape.objects[name] if rng.random() < 0.7
        ]
        if rng.random() < 0.3:
            parts.append("__typename")
        if rng.random() < 0.2 and parts:
            parts.append(f"... on {name} {{ {rng.choice(parts)} }}")
        if rng.random() < 0.2 and depth < 3:
            self._made += 1
            fragment = f"F{self._made}"
            inner = self._selections(name, depth + 1)
            self._fragments[fragment] = f"fragment {fragment} on {name} {{ {inner} }}"
            parts.append(f"...{fragment}{self._condition()}")
        return " ".join(parts) or "__typename"

    def _condition(self) -> str:
        choices = ["@skip(if: $no)", "@include(if: $yes)", "@include(if: $no)", "@skip(if: true)"]
        return f" {self._rng.choice(choices)}" if self._rng.random() < 0.15 else ""

    def _field(self, field: FieldShape, depth: int) -> str:
        rng = self._rng
        arguments = ""
        if field.kind != "attribute" and rng.random() < 0.4:
            arguments = rng.choice(["(times: 2)", "(times: $n)", '(tags: ["x"])', "(tags: $t)"])
        alias = ""
        if arguments or rng.random() < 0.2:
            self._made += 1
            alias = f"a{self._made}: "
        return alias + field.name + arguments + self._condition() + self._below(field.type, depth)

    def _below(self, type_: Any, depth: int) -> str:
        _, kind, inner = type_
        if kind == "leaf":
            return ""
        if kind == "list":
            return self._below(inner, depth)
        if depth > 4:
            return " { __typename }"
        if kind == "object":
            return f" {{ {self._selections(inner, depth + 1)} }}"
        spreads = [f"... on {name} {{ {self._aliased(name, depth)} }}" for name in inner]
        own = "name " if kind == "interface" else "__typename "
        return f" {{ {own}{' '.join(spreads)} }}"

    def _aliased(self, name: str, depth: int) -> str:
        """Select under fresh aliases, so that fields of different types never merge."""
        self._made += 1
        prefix = f"u{self._made}"
        parts = []
        for number, field in enumerate(self._shape.objects[name]):
            if self._rng.random() < 0.6:
                parts.append(f"{prefix}_{number}: {field.name}{self._below(field.type, depth + 1)}")
        return " ".join(parts) or "__typename"


def shown(result: ExecutionResult, *, has_batches: bool) -> tuple[Any, list[Any]]:
    """Return what clients would see, with errors in one order and NaN equal to itself.

    Batches end together, so that it is a matter of time which error makes something null
    that several are below. Such errors are left out where there are batches.
    """
    errors = sorted(
        (str(e.path), e.message, str(e.locations))
        for e in result.errors or ()
        if not (has_batches and is_below_null(result.data, e.path))
    )
    return repr(result.data), errors


def is_below_null(data: Any, path: Any) -> bool:
    """Tell whether *path* leads through something that is null."""
    for key in path or ():
        if data is None:
            return True
        data = data[key]
    return False


def problems_of(shape: Shape, document: DocumentNode) -> list[graphql.GraphQLError]:
    return validate(shape.schema._schema, document)  # noqa: SLF001


async def run_both(
    shape: Shape, document: DocumentNode, plans: PlanCache, variables: Any, outcomes: Outcomes
) -> Any:
    """Return what each executor answers: graphql-core first."""

    async def compiled(context: Context) -> ExecutionResult:
        return await by_compiling(shape.schema, document, variables, context=context, plans=plans)

    async def interpreted(context: Context) -> ExecutionResult:
        return await by_graphql_core(shape.schema, document, variables, context=context)

    answers = []
    for executor in (interpreted, compiled):
        gates = Gates(outcomes)
        opener = asyncio.create_task(gates.open_each())
        result = await executor(Context(outcomes, gates, shape))
        answers.append(shown(result, has_batches=shape.has_batches))
        # graphql-core leaves some tasks behind when a value fails at once: they end by themselves.
        while rest := asyncio.all_tasks() - {asyncio.current_task(), opener}:
            await asyncio.wait(rest)
        opener.cancel()
    return answers
