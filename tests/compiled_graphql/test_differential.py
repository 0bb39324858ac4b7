"""The compiled executor answers as graphql-core does, on whatever Hypothesis comes up with."""

import asyncio
import os
import random

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.compiled_graphql.generated import DocumentWriter, Outcomes, Shape, run_both

# A schema has this many documents: making the schema is what takes long.
DOCUMENTS = 20
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))


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
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_generated_operations_are_answered_alike(seed: int, trouble: float) -> None:
    rng = random.Random(seed)
    shape = Shape(rng)

    async def compare() -> None:
        for _ in range(DOCUMENTS):
            text = DocumentWriter(rng, shape).write()
            outcomes = Outcomes(rng.getrandbits(32), trouble)
            async with asyncio.timeout(30):
                core, compiled = await run_both(shape, text, variables(rng), outcomes)
            assert compiled == core, f"{seed=} {trouble=} {text}"

    uvloop.run(compare())
