"""The most that a call can cost: everything that is sent, times every answer that is asked for."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from providers.base import ChatTarget
from resolvers.call_bounds import BoundedCall, bound_call, size_call
from resolvers.errors import InvalidInputError, PriceUnknownError

MESSAGES = [{"role": "user", "content": "é"}]
SENT = '"messages":[{"content":"é","role":"user"}]'
PROMPT_USD, ANSWER_USD = Decimal("0.000002"), Decimal("0.000005")


def bounded(
    params: Mapping[str, Any],
    *,
    own: Mapping[str, Any] | None = None,
    messages: Sequence[Mapping[str, Any]] = MESSAGES,
    prices: tuple[Decimal | None, Decimal | None] = (Decimal(2), Decimal(5)),
) -> BoundedCall:
    target = ChatTarget(
        provider="custom", model_id=None, url="http://127.0.0.1:9/", headers={}, params=own or {},
        timeout_seconds=1.0, input_price_per_million_usd=prices[0],
        output_price_per_million_usd=prices[1],
    )  # fmt: skip
    size = size_call(target, messages, params, default_max_tokens=7)
    return bound_call(target, messages, params, size)


@pytest.mark.parametrize(
    ("params", "own", "sent", "generated"),
    [
        ({"max_tokens": 10}, {}, '"max_tokens":10,', 10),
        ({}, {"max_tokens": 20}, '"max_tokens":20,', 20),
        ({"max_tokens": 10}, {"max_tokens": 20}, '"max_tokens":10,', 10),
        (
            {"max_tokens": 1, "max_completion_tokens": 90}, {},
            '"max_completion_tokens":90,"max_tokens":1,', 90,
        ),
        (
            {"max_tokens": 90, "max_completion_tokens": 1}, {},
            '"max_completion_tokens":1,"max_tokens":90,', 90,
        ),
        ({"max_tokens": 10, "n": 5}, {}, '"max_tokens":10,"n":5,', 50),
        ({"max_tokens": 10, "n": 2, "best_of": 4}, {}, '"best_of":4,"max_tokens":10,"n":2,', 40),
        ({"max_tokens": 10, "n": None}, {}, '"max_tokens":10,"n":null,', 10),
        ({"max_tokens": 10, "user": "ééé"}, {}, '"max_tokens":10,"user":"ééé",', 10),
    ],
)  # fmt: skip
def test_all_that_is_sent_and_every_answer_is_counted(
    params: dict[str, Any], own: dict[str, Any], sent: str, generated: int
) -> None:
    call = bounded(params, own=own)
    sent_bytes = len(f"{{{sent}{SENT}}}".encode())
    assert call.most_usd == PROMPT_USD * (sent_bytes + 16) + ANSWER_USD * generated
    assert call.params == params


@pytest.mark.parametrize("params", [{}, {"max_tokens": None}, {"max_completion_tokens": None}])
def test_a_call_that_nothing_bounds_is_sent_with_a_bound(params: dict[str, Any]) -> None:
    call = bounded(params, own={"temperature": 0})
    assert call.params == {**params, "max_tokens": 7}
    assert call.most_usd == bounded({**params, "max_tokens": 7}, own={"temperature": 0}).most_usd


def test_tools_are_counted_with_the_instruction_that_goes_with_them() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    without = bounded({"max_tokens": 10}).most_usd
    added = len('"tools":[{"function":{"name":"f","parameters":{}},"type":"function"}],')
    assert bounded({"max_tokens": 10, "tools": tools}).most_usd == without + PROMPT_USD * (
        added + 1_000
    )


def test_the_bound_is_rounded_up_to_what_the_database_holds() -> None:
    call = bounded({"max_tokens": 1}, prices=(Decimal(0), Decimal("0.000000001")))
    assert call.most_usd == Decimal("0.000000000001")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n", "best_of"])
@pytest.mark.parametrize("value", [True, -1, 0, 1.5, "5", 10**9, [5]])
def test_what_can_not_bound_a_call_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name}: must be a whole number from 1 to"):
        bounded({}, own={name: value})


@pytest.mark.parametrize(
    ("params", "messages", "field"),
    [
        ({"models": ["a/b"]}, MESSAGES, "models"),
        ({"plugins": [{"id": "web"}]}, MESSAGES, "plugins"),
        ({"service_tier": "priority"}, MESSAGES, "service_tier"),
        ({"tools": [{"type": "web_search"}]}, MESSAGES, "tools"),
        (
            {},
            [*MESSAGES, {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            "messages.1.content",
        ),
        (
            {},
            [*MESSAGES, {"role": "user", "content": [{"type": "input_audio", "text": ""}]}],
            "messages.1.content",
        ),
    ],
)
def test_what_is_billed_by_other_rules_is_refused(
    params: dict[str, Any], messages: list[Any], field: str
) -> None:
    with pytest.raises(PriceUnknownError) as refused:
        bounded(params, messages=messages)
    assert refused.value.details == {"reason": "unbounded", "field": field}


@pytest.mark.parametrize(
    ("params", "content"),
    [
        ({"modalities": ["text"]}, "x"),
        ({"service_tier": "default"}, "x"),
        ({"modalities": None, "service_tier": None}, "x"),
        ({}, [{"type": "refusal", "refusal": "I can't."}, {"type": "text", "text": "Why?"}]),
    ],
)
def test_what_is_billed_as_any_other_text_is_bounded(params: dict[str, Any], content: Any) -> None:
    call = bounded(params, messages=[{"role": "assistant", "content": content}])
    assert call.most_usd > 7 * ANSWER_USD


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1/chat/completions", "max_completion_tokens"),
        ("https://API.openai.com:443/v1/chat/completions", "max_completion_tokens"),
        ("https://us.api.openai.com/v1/chat/completions", "max_completion_tokens"),
        ("https://notapi.openai.com/v1/chat/completions", "max_tokens"),
        ("https://api.openai.com.example.org/v1/chat/completions", "max_tokens"),
        (None, "max_tokens"),
    ],
)
def test_openai_is_told_the_bound_by_the_name_that_all_its_models_take(
    url: str | None, name: str
) -> None:
    target = ChatTarget(
        provider="custom", model_id="m", url=url, headers={}, params={}, timeout_seconds=1.0,
        input_price_per_million_usd=Decimal(2), output_price_per_million_usd=Decimal(5),
    )  # fmt: skip
    size = size_call(target, MESSAGES, {"user": "u"}, default_max_tokens=7)
    assert (size.params, size.most_completion_tokens) == ({"user": "u", name: 7}, 7)


@pytest.mark.parametrize("prices", [(None, Decimal(1)), (Decimal(1), None), (None, None)])
def test_a_model_of_unknown_price_is_refused(prices: tuple[Decimal | None, Decimal | None]) -> None:
    with pytest.raises(PriceUnknownError) as refused:
        bounded({"max_tokens": 1}, prices=prices)
    assert refused.value.details == {"reason": "price_unknown"}
