"""What a request to the model in production may say."""

from resolvers.inference_request import InferenceRequest


def test_a_whole_number_is_an_integer_however_it_is_written() -> None:
    params = InferenceRequest.model_validate({"input": "x", "max_tokens": 50.0, "n": None}).params
    assert params == {"max_tokens": 50, "n": None}
    assert type(params["max_tokens"]) is int
