"""The Redaction object type, and what trying it out shows."""

import strawberry

from resolvers.redaction import RedactionPreview as Preview
from schema.enums import RedactionDetector
from schema.fields import resolved


@strawberry.type(description="A pattern of the workspace's own.")
class RedactionPattern:
    """Over `resolvers.inputs.RedactionPattern`."""

    name: str = strawberry.field(description="What is found becomes [redacted:name].")
    pattern: str = strawberry.field(description="In RE2 syntax.")


@strawberry.type(description="What is taken out of traces before they are stored.")
class Redaction:
    """Over `resolvers.inputs.Redaction`."""

    detectors: list[RedactionDetector] = strawberry.field(description="What is found by itself.")
    patterns: list[RedactionPattern] = strawberry.field(description="What else is found in texts.")
    keys: list[str] = strawberry.field(
        description="Names of JSON keys whose values are replaced whole, at any depth."
    )


@strawberry.type(description="How much a rule replaced.")
class RedactionCount:
    """Over an item of `resolvers.redaction.RedactionPreview.counts`."""

    rule: str = strawberry.field(
        description="A detector, a pattern's name, `key`, or `depth` of what is nested too deep."
    )
    count: int = strawberry.field(description="In how many places.")


def counts(root: strawberry.Parent[Preview]) -> list[RedactionCount]:
    """Return how much each rule replaced."""
    return [RedactionCount(rule=rule, count=count) for rule, count in sorted(root.counts.items())]


@strawberry.type(description="What rules make of a text.")
class RedactionPreview:
    """Over `resolvers.redaction.RedactionPreview`."""

    text: str = strawberry.field(description="As it would be stored.")
    counts: list[RedactionCount] = resolved(
        counts, "How much was replaced, by rule; empty when nothing was."
    )
