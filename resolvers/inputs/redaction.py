"""Inputs about redaction: what a workspace never stores."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from engine.detectors import DETECTORS
from engine.redaction import (
    NamedPattern,
    RedactionError,
    RedactionRules,
    check_pattern_name,
    check_redaction_pattern,
    compile_redactor,
)
from resolvers.inputs.base import NOT_BLANK, Input, RuleError

MAX_PATTERNS = 50
MAX_PATTERN_CHARACTERS = 500
MAX_KEYS = 200

Key = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), NOT_BLANK
]


class RedactionPattern(Input):
    """A pattern of the workspace's own."""

    name: str = Field(
        description="What is found becomes [redacted:name]. Small letters, digits and underscores,"
        " 50 at most."
    )
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATTERN_CHARACTERS)] = (
        Field(description="In RE2 syntax.")
    )

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        check_pattern_name(value)
        return value

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        check_redaction_pattern(value)
        return value


class Redaction(Input):
    """What is replaced in all that comes in, before it is stored."""

    detectors: Annotated[list[str], Field(max_length=len(DETECTORS))] = Field(
        default=[], description=f"What is found by itself: {', '.join(DETECTORS)}."
    )
    patterns: Annotated[list[RedactionPattern], Field(max_length=MAX_PATTERNS)] = Field(
        default=[], description="What else is found in texts."
    )
    keys: Annotated[list[Key], Field(max_length=MAX_KEYS)] = Field(
        default=[],
        description="Names of JSON keys whose values are replaced whole, whatever their letter"
        " case, at any depth.",
    )

    @field_validator("detectors")
    @classmethod
    def _are_known(cls, value: list[str]) -> list[str]:
        unknown = next((name for name in value if name not in DETECTORS), None)
        if unknown is not None:
            raise ValueError(f"{unknown} is no detector; there are {', '.join(DETECTORS)}")
        return value

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        try:
            compile_redactor(self.rules)  # a name may be taken
        except RedactionError as error:
            raise RuleError("patterns", f"can't be used: {error}") from error
        return self

    @property
    def rules(self) -> RedactionRules:
        """The same as the engine takes it."""
        return RedactionRules(
            detectors=frozenset(self.detectors),
            patterns=tuple(NamedPattern(each.name, each.pattern) for each in self.patterns),
            keys=frozenset(self.keys),
        )
