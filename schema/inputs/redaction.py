"""Inputs about redaction."""

import strawberry

from schema.enums import RedactionDetector

DETECTORS = "What is found by itself."
PATTERNS = "What else is found in texts; 50 at most."
KEYS = (
    "Names of JSON keys whose values are replaced whole, whatever their letter case, at any depth; "
    "200 at most."
)


@strawberry.input(description="A pattern of your own.")
class RedactionPatternInput:
    """`resolvers.inputs.RedactionPattern`."""

    name: str = strawberry.field(
        description="What is found becomes [redacted:name]. Small letters, digits and "
        "underscores, 50 at most."
    )
    pattern: str = strawberry.field(description="In RE2 syntax, 500 characters at most.")


@strawberry.input(description="Rules to try out.")
class RedactionInput:
    """`resolvers.inputs.Redaction`."""

    detectors: list[RedactionDetector] = strawberry.field(
        default_factory=list, description=DETECTORS
    )
    patterns: list[RedactionPatternInput] = strawberry.field(
        default_factory=list, description=PATTERNS
    )
    keys: list[str] = strawberry.field(default_factory=list, description=KEYS)


@strawberry.input(
    description="What is taken out of traces before they are stored; what is left out stays, and "
    "an empty list takes its rules away."
)
class UpdateRedactionInput:
    """Fields of `resolvers.inputs.Redaction`."""

    detectors: list[RedactionDetector] | None = strawberry.field(
        default=strawberry.UNSET, description=DETECTORS
    )
    patterns: list[RedactionPatternInput] | None = strawberry.field(
        default=strawberry.UNSET, description=PATTERNS
    )
    keys: list[str] | None = strawberry.field(default=strawberry.UNSET, description=KEYS)
