"""What compiling GraphQL operations costs, and what a compiled one saves.

    python -m bench.graphql_compile [--rounds 20] [--objects 200]

The operations of `bench.graphql` are compiled over the product's schema: at first, again
by a schema that is warm, and found in the cache. Then one list of objects is answered by
both executors, without any database, and the processor time of each leaf is compared.
"""

import argparse
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import graphql
import strawberry
import uvloop
from graphql import DocumentNode, OperationDefinitionNode, parse
from strawberry.execution import optimized_is_awaitable
from strawberry.utils.await_maybe import await_maybe

from bench.graphql.queries import QUERIES
from compiled_graphql.cache import PlanCache
from compiled_graphql.extension import execute
from db.records import Row
from schema.root import Schema

VARIABLES = {"id": "01a2153b-558a-7343-b355-ffa626ae626d"}
FIELDS = 10


def product_plans(schema: Any, *, max_plans: int = 1_000) -> PlanCache:
    return PlanCache(schema, max_plans=max_plans, native=True, record_class=Row)


def compile_once(plans: PlanCache, document: DocumentNode) -> None:
    assert plans.find(document, None, VARIABLES) is not None


def milliseconds(work: Callable[[], None], *, rounds: int) -> float:
    """Return the median processor time of *work*."""
    taken = []
    for _ in range(rounds):
        began = time.process_time_ns()
        work()
        taken.append((time.process_time_ns() - began) / 1e6)
    return statistics.median(taken)


def bytes_of_a_plan(schema: Any, text: str) -> float:
    """Return the memory of one more plan, with its document apart."""
    documents = [parse(text) for _ in range(21)]
    plans = product_plans(schema)
    compile_once(plans, documents[0])
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for document in documents[1:]:
        compile_once(plans, document)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / 20


def report_compiling(rounds: int) -> None:
    print(f"{'':4}{'cold ms':>10}{'warm ms':>10}{'cached ms':>11}{'KiB a plan':>12}{'lines':>7}")
    for name, text in QUERIES.items():
        schema = Schema()
        document = parse(text)
        plans = product_plans(schema)
        cold = milliseconds(lambda: compile_once(plans, document), rounds=1)  # noqa: B023
        warm = milliseconds(
            lambda: compile_once(product_plans(schema), document),  # noqa: B023
            rounds=rounds,
        )
        cached = milliseconds(lambda: compile_once(plans, document), rounds=rounds * 10)  # noqa: B023
        found: Any = plans.find(document, None, VARIABLES)
        lines = found[0].source.count("\n")
        size = bytes_of_a_plan(schema, text) / 1024
        print(f"{name:4}{cold:10.2f}{warm:10.2f}{cached:11.4f}{size:12.1f}{lines:7}")


class Source:
    """An object with leaves of the usual kinds."""

    def __init__(self, number: int) -> None:
        for field in range(FIELDS):
            setattr(self, f"f{field}", number * field if field % 2 else f"text {number}")


def leaf_schema(sources: list[Source]) -> Any:
    annotations = {f"f{n}": int | None if n % 2 else str for n in range(FIELDS)}
    thing = strawberry.type(type("Thing", (), {"__annotations__": annotations}))
    root = {
        "__annotations__": {"things": list[thing]},  # type: ignore[valid-type]
        "things": strawberry.field(resolver=lambda: sources),
    }
    return strawberry.Schema(strawberry.type(type("Query", (), root)))


async def report_leaves(objects: int, rounds: int) -> None:
    schema = leaf_schema([Source(number) for number in range(objects)])
    text = f"{{ things {{ {' '.join(f'f{n}' for n in range(FIELDS))} }} }}"
    document = parse(text)
    assert isinstance(document.definitions[0], OperationDefinitionNode)
    plans = PlanCache(schema, max_plans=1)

    async def compiled() -> Any:
        return await execute(plans, document, operation_name=None, variables={})

    async def interpreted() -> Any:
        return await await_maybe(graphql_core(schema, document))

    assert (await compiled()).data == (await interpreted()).data
    taken: dict[str, list[float]] = {"compiled": [], "graphql-core": []}
    for _ in range(rounds):
        for name, run in (("compiled", compiled), ("graphql-core", interpreted)):
            began = time.process_time_ns()
            await run()
            taken[name].append((time.process_time_ns() - began) / objects / FIELDS)
    compiled_ns, core_ns = (statistics.median(each) for each in taken.values())
    print(
        f"\n{objects} objects of {FIELDS} leaves: {compiled_ns:,.0f} ns of processor time a leaf "
        f"compiled, {core_ns:,.0f} by graphql-core; {core_ns / compiled_ns:.1f} times as much"
    )


def graphql_core(schema: Any, document: DocumentNode) -> Any:
    """Execute as Strawberry does without the compiled executor."""
    is_awaitable: Any = optimized_is_awaitable
    return graphql.execute(
        schema._schema,  # noqa: SLF001
        document,
        executor_class=schema.execution_context_class,
        is_awaitable=is_awaitable,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--objects", type=int, default=200)
    arguments = parser.parse_args()
    report_compiling(arguments.rounds)
    uvloop.run(report_leaves(arguments.objects, arguments.rounds))


if __name__ == "__main__":
    main()
