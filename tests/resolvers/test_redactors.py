"""What redacting holds up: not the event loop."""

from engine.redaction import NamedPattern, RedactionRules, compile_redactor
from resolvers.redactors import redact_text
from tests.turns import other_turns


async def test_a_pattern_that_looks_far_leaves_the_event_loop_to_others() -> None:
    far = compile_redactor(RedactionRules(patterns=(NamedPattern("far", "a[^b]*b|a"),)))
    async with other_turns() as turns:
        redacted = await redact_text(far, "a" * 10_000)
    assert redacted.count("[redacted:far]") > 100
    assert turns.count > 1
