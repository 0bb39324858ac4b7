"""Whole answers as endpoints write them: what is their output, and what is none."""

from decimal import Decimal

import orjson
import pytest

from providers.answer_json import load_json
from providers.base import ChatTarget, ProviderError, ProviderErrorCode
from providers.chat_answers import read_answer, read_as_chunk
from tests.providers.http_peer import target_at

CODE = ProviderErrorCode
TARGET: ChatTarget = target_at("http://127.0.0.1:1/x")
USAGE = b'"usage": {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.5}'


def choosing(choice: bytes) -> bytes:
    return b'{"choices": [' + choice + b"], " + USAGE + b"}"


@pytest.mark.parametrize(
    ("message", "output"),
    [
        (b'{"content": null, "reasoning": "hmm"}', ""),
        (b'{"content": null, "function_call": {"name": "f", "arguments": "{}"}}', ""),
        (b'{"content": null, "audio": {"id": "a", "data": ""}}', ""),
        (b'{"content": [{"text": "Hel"}, {"text": "lo"}, {"type": "image_url"}]}', "Hello"),
        (b'{"content": "half \\ud83d"}', "half \ufffd"),
    ],
)  # fmt: skip
def test_what_a_message_says_is_found_with_its_usage(message: bytes, output: str) -> None:
    answer = read_answer(choosing(b'{"message": ' + message + b', "logprob": -Infinity}'), TARGET)
    assert answer.output == output
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)
    assert (answer.cost_usd, answer.cost_source) == (Decimal("0.5"), "provider")
    assert orjson.loads(orjson.dumps(answer.completion))["choices"][0]["logprob"] is None


def test_an_answer_that_ended_without_a_word_is_empty() -> None:
    ended = b'{"message": {"role": "assistant", "content": null}, "finish_reason": "length"}'
    assert read_answer(choosing(ended), TARGET).output == ""
    with pytest.raises(ProviderError, match="no output in the answer"):
        read_answer(choosing(b'{"message": {"role": "assistant", "content": null}}'), TARGET)


@pytest.mark.parametrize(
    "body",
    [
        choosing(b'{"message": {"content": "Hello"}}')[:-30],
        b'[{"generated_text": "Hel',
        b'{"a":' * 100_000,
        b'{"choices": [{"message": {"content": "Hello"}, "x": ' + b"[" * 300 + b"]" * 300 + b"}]}",
    ],
    ids=["cut off", "a list cut off", "too deep to read", "too deep to write"],
)
def test_json_that_is_broken_is_no_text(body: bytes) -> None:
    with pytest.raises(ProviderError) as failed:
        read_answer(body, TARGET, "application/json")
    assert failed.value.code == CODE.INVALID_RESPONSE
    assert str(failed.value).startswith("the answer is not the JSON that it begins as: ")


@pytest.mark.parametrize(
    ("body", "media_type", "output"),
    [
        (b"[1] says so", "text/plain; charset=utf-8", "[1] says so"),
        (b"42", "text/plain", "42"),
        (b"NaN", None, "NaN"),
        (b'"quoted"', "application/json", "quoted"),
        (b'"quoted" and not', None, '"quoted" and not'),
        (b'{"output": "Hello"}', "text/plain", "Hello"),
        (b'\xef\xbb\xbf{"output": "Hello"}', "application/json", "Hello"),
    ],
)
def test_a_text_is_an_answer(body: bytes, media_type: str | None, output: str) -> None:
    assert read_answer(body, TARGET, media_type).output == output


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"object": "error", "message": "no room", "code": 400}', CODE.REJECTED, "no room"),
        (
            choosing(b'{"message": {"content": "Hal"}, "error": {"code": 502, "message": "gone"}}'),
            CODE.INVALID_RESPONSE,
            "the answer broke off: gone",
        ),
    ],
)
def test_a_success_that_tells_of_a_failure_is_one(body: bytes, code: str, message: str) -> None:
    with pytest.raises(ProviderError, match=message) as failed:
        read_answer(body, TARGET)
    assert (failed.value.code, failed.value.is_retryable) == (code, False)


def test_integers_of_more_than_64_bits_can_be_written_again() -> None:
    read = load_json(b'{"a": [123456789012345678901234567890, 18446744073709551615, NaN]}')
    assert orjson.loads(orjson.dumps(read)) == {"a": [1.2345678901234568e29, 2**64, None]}


def test_a_caller_s_bound_takes_the_place_of_the_candidate_s_by_either_name() -> None:
    target = target_at("http://127.0.0.1:1/x", params={"max_tokens": 400, "top_p": 1})
    assert target.merge({"max_completion_tokens": 9}) == {"top_p": 1, "max_completion_tokens": 9}
    assert target.merge({"max_tokens": 9}) == {"top_p": 1, "max_tokens": 9}
    assert target.merge({"max_completion_tokens": None}) == {
        "max_tokens": 400, "top_p": 1, "max_completion_tokens": None,
    }  # fmt: skip


def test_an_answer_whose_choices_are_no_list_is_no_completion() -> None:
    body = b'{"choices": "x", "output": "y"}'
    answer = read_answer(body, TARGET)
    assert (answer.output, answer.completion) == ("y", None)
    (choice,) = read_as_chunk(body, TARGET)["choices"]
    assert choice["delta"]["content"] == "y"
