"""Values that can't be stored or sent on are refused before anything is spent."""

from typing import Any

import pytest
from pydantic import ValidationError

from resolvers.inference_request import InferenceRequest
from resolvers.inputs import NewCandidate

NESTED: list[Any] = []
for _ in range(300):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\x00b", "NUL"),
        ("\ud800", "lone surrogates"),
        (float("inf"), "numbers that are not finite"),
        (2**64, "integers of more than 64 bits"),
        (-(2**63) - 1, "integers of more than 64 bits"),
        (NESTED, "nested more than 100 deep"),
    ],
)
def test_what_json_or_postgresql_can_not_hold_is_refused_at_any_depth(
    value: object, said: str
) -> None:
    for make in (
        lambda: NewCandidate(provider="openrouter", model_id="m", params={"p": [{"q": value}]}),
        lambda: InferenceRequest.model_validate({"input": "x", "extra": {"q": value}}),
    ):
        with pytest.raises(ValidationError, match=said):
            make()


def test_the_largest_numbers_of_json_readers_pass() -> None:
    extra = {"a": 2**64 - 1, "b": -(2**63), "c": 1e308}
    assert InferenceRequest.model_validate({"input": "x", **extra}).params == extra
