"""What is compiled is kept within bounds, and never taken for something else."""

from typing import Any

import pytest
import strawberry
from graphql import DocumentNode, parse
from strawberry.scalars import JSON

from compiled_graphql.cache import PlanCache
from compiled_graphql.extension import execute
from compiled_graphql.plan import Plan
from tests.compiled_graphql.pairs import both

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@strawberry.type
class Query:
    a: str = "a"
    b: str = "b"

    @strawberry.field
    def number(self, n: int = 1) -> int:
        return n

    @strawberry.field
    def any(self, x: JSON | None = None) -> JSON | None:
        return x


SCHEMA = strawberry.Schema(Query)


async def ask(
    plans: PlanCache, document: DocumentNode, variables: Any = None, name: str | None = None
) -> Any:
    result = await execute(
        plans, document, operation_name=name, variables=variables or {}, root_value=Query()
    )
    assert result is not None
    return result.data


def kept(plans: PlanCache) -> tuple[int, int]:
    return len(plans._operations), len(plans._plans)  # noqa: SLF001


async def test_a_document_is_compiled_once() -> None:
    plans = PlanCache(SCHEMA, max_plans=10)
    document = parse("query($n: Int) { number(n: $n) }")
    for n in (1, 2, 3):
        assert await ask(plans, document, {"n": n}) == {"number": n}
    assert plans.counts == {"compiled": 1, "cached": 2}
    assert kept(plans) == (1, 1)


async def test_the_same_text_parsed_again_is_another_document() -> None:
    plans = PlanCache(SCHEMA, max_plans=10)
    for _ in range(2):
        assert await ask(plans, parse("{ a }")) == {"a": "a"}
    assert plans.counts == {"compiled": 2}
    assert kept(plans) == (2, 2)


async def test_the_least_recently_used_are_dropped() -> None:
    plans = PlanCache(SCHEMA, max_plans=3)
    documents = [parse(f"{{ x{n}: a }}") for n in range(5)]
    for document in documents:
        await ask(plans, document)
    assert kept(plans) == (3, 3)
    assert plans.counts == {"compiled": 5}
    await ask(plans, documents[2])
    await ask(plans, documents[0])
    await ask(plans, documents[2])
    assert plans.counts == {"compiled": 6, "cached": 2}
    await ask(plans, documents[3])
    assert plans.counts == {"compiled": 7, "cached": 2}
    assert kept(plans) == (3, 3)


async def test_large_plans_push_out_more_of_the_others() -> None:
    plans = PlanCache(SCHEMA, max_plans=1_000, max_lines=600)
    small, large = parse("{ x99: a }"), parse(f"{{ {' '.join(f'x{n}: a' for n in range(25))} }}")

    def lines() -> int:
        found = [plan for plan in plans._plans.values() if isinstance(plan, Plan)]  # noqa: SLF001
        documents = sum(key[0].characters // 2 for key in plans._plans)  # noqa: SLF001
        assert plans._lines == documents + sum(plan.source.count("\n") for plan in found)  # noqa: SLF001
        return plans._lines  # noqa: SLF001

    await ask(plans, small)
    of_small = lines()
    await ask(plans, large)
    of_large = lines() - of_small
    for number in range(20):
        await ask(plans, parse(f"{{ x{number:02}: a }}"))
    assert lines() == 20 * of_small
    await ask(plans, large)
    assert 600 - of_small < lines() <= 600
    assert kept(plans)[1] == 1 + (600 - of_large) // of_small


async def test_an_operation_of_too_many_fields_is_left_to_graphql_core() -> None:
    plans = PlanCache(SCHEMA, max_plans=10)
    fields = " ".join(f"x{n}: a" for n in range(1_001))
    for text, left in ((f"{{ {fields} }}", 1), (f"{{ {fields[: fields.rindex('x')]} }}", 0)):
        document = parse(text)
        assert (plans.find(document, None, {}) is None) == bool(left)
    assert plans.counts == {"more fields than are worth compiling": 1, "compiled": 1}


CONDITIONS = """query($yes: Boolean!, $no: Boolean = false, $n: Int) {
  a @include(if: $yes) ...F @skip(if: $no) number(n: $n) }
  fragment F on Query { b @skip(if: $no) }"""


async def test_each_choice_of_conditions_has_its_own_plan() -> None:
    plans = PlanCache(SCHEMA, max_plans=10)
    document = parse(CONDITIONS)
    for yes in (True, False):
        for no in (True, False):
            expected = {"a": "a"} if yes else {}
            expected |= {} if no else {"b": "b"}
            for n in (1, 2):
                data = await ask(plans, document, {"yes": yes, "no": no, "n": n})
                assert data == {**expected, "number": n}
    assert plans.counts == {"compiled": 4, "cached": 4}
    assert kept(plans) == (1, 4)
    assert await ask(plans, document, {"yes": True}) == {"a": "a", "b": "b", "number": 1}
    assert plans.counts == {"compiled": 4, "cached": 5}


async def test_plans_of_one_operation_are_bounded_too() -> None:
    plans = PlanCache(SCHEMA, max_plans=3)
    names = [f"v{n}" for n in range(5)]
    declared = ", ".join(f"${name}: Boolean!" for name in names)
    fields = " ".join(f"{name}: a @skip(if: ${name})" for name in names)
    document = parse(f"query({declared}) {{ __typename {fields} }}")
    for number in range(2**5):
        values = {name: bool(number >> bit & 1) for bit, name in enumerate(names)}
        data = await ask(plans, document, values)
        assert sorted(data) == sorted(["__typename", *(n for n in names if not values[n])])
        assert kept(plans)[1] <= 3
    assert plans.counts == {"compiled": 32}


async def test_each_operation_of_a_document_has_its_own_plan() -> None:
    plans = PlanCache(SCHEMA, max_plans=10)
    document = parse("query A { a } query B { b }")
    for _ in range(2):
        assert await ask(plans, document, name="A") == {"a": "a"}
        assert await ask(plans, document, name="B") == {"b": "b"}
    assert plans.counts == {"compiled": 2, "cached": 2}


@pytest.mark.parametrize("name", [None, "", "C"])
async def test_an_operation_that_is_not_there_is_left_to_graphql_core(name: str | None) -> None:
    plans = PlanCache(SCHEMA, max_plans=10)
    document = parse("query A { a } query B { b }")
    assert plans.find(document, name, {}) is None
    assert plans.counts == {"no such operation": 1}
    assert kept(plans) == (0, 0)


async def test_a_plan_outlives_its_operation_without_being_taken_for_another() -> None:
    """Wrong variables drop operations from the cache, and leave the plans of others in it."""
    plans = PlanCache(SCHEMA, max_plans=100)
    for _ in range(40):
        assert await ask(plans, parse("{ a }")) == {"a": "a"}
    gone = {id(operation) for operation in plans._operations.values()}  # noqa: SLF001
    for _ in range(2000):
        document = parse("query($n: Int!) { number(n: $n) }")
        assert await ask(plans, document, {"n": "no"}) is None
        latest = next(reversed(plans._operations.values()))  # noqa: SLF001
        if id(latest) in gone:
            assert await ask(plans, document, {"n": 5}) == {"number": 5}


async def test_a_condition_without_a_value_is_left_to_graphql_core() -> None:
    plans = PlanCache(SCHEMA, max_plans=2)
    document = parse("query($no: Boolean = false) { a @skip(if: $no) }")
    for _ in range(2):
        assert plans.find(document, None, {"no": None}) is None
    assert plans.counts == {"a condition that has no value": 2}
    assert (await both(SCHEMA, "query($no: Boolean = false) { a @skip(if: $no) }", root=Query())
            ).data == {"a": "a"}  # fmt: skip


@pytest.mark.parametrize("value", [5, "text", [1], {"a": 1}, None])
async def test_a_condition_of_another_operation_makes_no_plan_of_its_own(value: Any) -> None:
    plans = PlanCache(SCHEMA, max_plans=10)
    document = parse("query A($x: JSON) { any(x: $x) } query B($x: Boolean!) { a @skip(if: $x) }")
    for _ in range(2):
        assert await ask(plans, document, {"x": value}, "A") == {"any": value}
    assert plans.counts == {"compiled": 1, "cached": 1}
    assert await ask(plans, document, {"x": True}, "B") == {}
    assert await ask(plans, document, {"x": False}, "B") == {"a": "a"}
