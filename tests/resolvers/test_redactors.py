"""What redacting holds up: not the event loop."""

import asyncio

from engine.redaction import NamedPattern, RedactionRules, compile_redactor
from resolvers.redactors import redact_text


async def test_a_pattern_that_looks_far_leaves_the_event_loop_to_others() -> None:
    far = compile_redactor(RedactionRules(patterns=(NamedPattern("far", "a[^b]*b|a"),)))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(count_turns())
    redacted = await redact_text(far, "a" * 10_000)
    others.cancel()
    assert redacted.count("[redacted:far]") > 100
    assert turns > 1
