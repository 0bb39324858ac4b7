"""What may be asked to be redacted, and how what may not be is told."""

from typing import Any

import pytest
from pydantic import ValidationError

from engine.detectors import DETECTORS
from engine.redaction import NamedPattern, RedactionRules
from resolvers.inputs import invalid_input
from resolvers.inputs.redaction import Redaction


def test_a_redaction_is_what_the_engine_takes() -> None:
    asked = Redaction.model_validate(
        {
            "detectors": ["email", "card", "email"],
            "patterns": [{"name": "order", "pattern": r"ORD-\d+"}],
            "keys": [" Password "],
        }
    )
    assert asked.rules == RedactionRules(
        frozenset({"email", "card"}), (NamedPattern("order", r"ORD-\d+"),), frozenset({"Password"})
    )
    assert Redaction().rules == RedactionRules()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            {"detectors": ["mail"]},
            f"detectors: mail is no detector; there are {', '.join(DETECTORS)}",
        ),
        (
            {"patterns": [{"name": "a", "pattern": "(a"}]},
            "patterns.0.pattern: is not a valid regex: missing ): (a (got '(a')",
        ),
        (
            {"patterns": [{"name": "a", "pattern": "(?=a)"}]},
            "patterns.0.pattern: is not a valid regex: invalid perl operator: (?= (got '(?=a)')",
        ),
        (
            {"patterns": [{"name": "a", "pattern": "x*"}]},
            "patterns.0.pattern: must not match the empty text, which is everywhere (got 'x*')",
        ),
        (
            {"patterns": [{"name": "a", "pattern": "x" * 501}]},
            f"patterns.0.pattern: String should have at most 500 characters (got '{'x' * 79}...)",
        ),
        (
            {"patterns": [{"name": "No", "pattern": "x"}]},
            (
                "patterns.0.name: must be a small letter and then at most 49 small letters, digits"
                " and underscores (got 'No')"
            ),
        ),
        (
            {"patterns": [{"name": "email", "pattern": "x"}]},
            "patterns.0.name: is taken by a rule of the product's own (got 'email')",
        ),
        (
            {"patterns": [{"name": "a", "pattern": "x"}, {"name": "a", "pattern": "y"}]},
            "patterns can't be used: a: there are 2 patterns of this name",
        ),
        (
            {"patterns": [{"name": f"a{n}", "pattern": "x"} for n in range(51)]},
            "patterns: List should have at most 50 items after validation, not 51",
        ),
        ({"keys": [" "]}, "keys.0: String should have at least 1 character"),
    ],
)
def test_what_can_not_be_used_is_told_by_field_and_value(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Redaction.model_validate(asked)
    assert str(invalid_input(refused.value.errors())) == told


def test_names_that_are_taken_twice_are_told_by_their_field() -> None:
    with pytest.raises(ValidationError) as refused:
        Redaction.model_validate({"patterns": [{"name": "a", "pattern": p} for p in "xy"]})
    (problem,) = invalid_input(refused.value.errors()).details["fields"]
    assert problem["field"] == "patterns"
