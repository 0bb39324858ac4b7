"""What a request to the model in production may say."""

import pytest
from pydantic import ValidationError

from resolvers.inference_request import InferenceRequest
from resolvers.inputs import invalid_input


def test_a_whole_number_is_an_integer_however_it_is_written() -> None:
    params = InferenceRequest.model_validate({"input": "x", "max_tokens": 50.0, "n": None}).params
    assert params == {"max_tokens": 50, "n": None}
    assert type(params["max_tokens"]) is int


def test_what_can_not_be_sent_is_told_by_its_place() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a\x00"}]}]
    with pytest.raises(ValidationError) as refused:
        InferenceRequest.model_validate({"messages": messages})
    told = invalid_input(refused.value.errors())
    place = "messages.0.content.0.text"
    assert str(told) == f"{place} must not contain NUL characters or lone surrogates"
    assert [problem["field"] for problem in told.details["fields"]] == [place]
