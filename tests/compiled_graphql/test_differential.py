"""The compiled executor answers as graphql-core does, on whatever Hypothesis comes up with."""

import asyncio
import os
import random

import pytest
import uvloop
from graphql import parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiled_graphql.cache import PlanCache
from tests.compiled_graphql.generated import (
    DocumentWriter,
    Outcomes,
    Shape,
    problems_of,
    run_both,
)

# A schema has this many documents, and each is executed this often, by one plan: making
# schemas and documents is what takes long.
DOCUMENTS = 8
OUTCOMES = 4
# Schemas: the same ones each time in CI, and others each time with FUZZ_EXAMPLES.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "75"))
IS_REPEATABLE = "FUZZ_EXAMPLES" not in os.environ


def variables(rng: random.Random) -> dict[str, object]:
    """Return values for some of a document's variables."""
    given_values: dict[str, object] = {}
    if rng.random() < 0.5:
        given_values["n"] = rng.choice([1, 2, 3, "x"])
    if rng.random() < 0.5:
        given_values["no"] = rng.choice([True, False])
    if rng.random() < 0.5:
        given_values["t"] = rng.choice([["q"], [], "q", None])
    return given_values


@given(
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.03, 0.1, 0.3]),
)
@settings(
    max_examples=EXAMPLES,
    derandomize=IS_REPEATABLE,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# graphql-core drops what it has not begun to await when something beside it fails.
@pytest.mark.filterwarnings(
    "ignore:coroutine 'GraphQLCoreConverter:RuntimeWarning",
    "ignore:coroutine 'Executor:RuntimeWarning",
)
@pytest.mark.timeout(60 + EXAMPLES)
def test_generated_operations_are_answered_alike(seed: int, trouble: float) -> None:
    rng = random.Random(seed)
    shape = Shape(rng)

    async def compare() -> None:
        plans = PlanCache(shape.schema, max_plans=4)
        for number in range(DOCUMENTS):
            text = DocumentWriter(rng, shape).write()
            document = parse(text)
            # What is written is valid; to look takes longer than to execute it.
            assert number > 0 or problems_of(shape, document) == []
            for _ in range(OUTCOMES):
                outcomes = Outcomes(rng.getrandbits(32), trouble)
                async with asyncio.timeout(30):
                    core, compiled = await run_both(
                        shape, document, plans, variables(rng), outcomes
                    )
                if compiled != core:
                    assert problems_of(shape, document) == []
                assert compiled == core, f"{seed=} {trouble=} {text}"

    uvloop.run(compare())
