"""What a workspace never stores, as GraphQL sets, shows and tries it out."""

from typing import Any

import httpx2
import pytest

from app.services import Process
from engine.detectors import DETECTORS
from resolvers.redaction import MAX_PREVIEW_CHARACTERS
from schema.enums import RedactionDetector
from tests.app.test_secrets_in_storage import UPDATE, as_owner
from tests.conftest import ask
from tests.factories import Tenant, make_tenant

SHOW = "{ workspace { redaction { detectors patterns { name pattern } keys } } }"
PREVIEW = """query ($text: String!, $rules: RedactionInput) {
  redactionPreview(text: $text, redaction: $rules) { text counts { rule count } } }"""
NOTHING: dict[str, Any] = {"detectors": [], "patterns": [], "keys": []}
ORDERS = {"name": "order", "pattern": r"ORD-\d+"}


async def show(client: httpx2.AsyncClient) -> Any:
    return (await ask(client, SHOW))["data"]["workspace"]["redaction"]


async def preview(client: httpx2.AsyncClient, text: str, rules: Any = None) -> Any:
    answered = await ask(client, PREVIEW, text=text, rules=rules)
    assert "errors" not in answered, answered
    return answered["data"]["redactionPreview"]


def test_every_detector_can_be_named() -> None:
    assert [str(each.value) for each in RedactionDetector] == list(DETECTORS)


async def test_what_is_left_out_of_a_change_stays_and_an_empty_list_takes_rules_away(
    client: httpx2.AsyncClient, tenant: Tenant
) -> None:
    assert await show(client) == NOTHING
    await as_owner(client, tenant, UPDATE, input={"detectors": ["EMAIL"], "keys": ["ssn"]})
    await as_owner(client, tenant, UPDATE, input={"patterns": [ORDERS]})
    assert await show(client) == {"detectors": ["EMAIL"], "patterns": [ORDERS], "keys": ["ssn"]}
    answered = await as_owner(client, tenant, UPDATE, input=NOTHING)
    assert answered["data"]["updateRedaction"]["workspace"]["redaction"] == NOTHING
    assert await show(client) == NOTHING


async def test_a_preview_shows_what_would_be_stored_by_the_rules_there_are_or_by_others(
    client: httpx2.AsyncClient, tenant: Tenant
) -> None:
    text = "ORD-7 of a@b.example and c@d.example"
    assert await preview(client, text) == {"text": text, "counts": []}
    given = {"patterns": [ORDERS], "detectors": ["EMAIL"]}
    redacted = {
        "text": "[redacted:order] of [redacted:email] and [redacted:email]",
        "counts": [{"rule": "email", "count": 2}, {"rule": "order", "count": 1}],
    }
    assert await preview(client, text, given) == redacted
    assert await show(client) == NOTHING
    await as_owner(client, tenant, UPDATE, input=given)
    assert await preview(client, text) == redacted
    assert await preview(client, text, NOTHING) == {"text": text, "counts": []}


async def test_rules_of_one_workspace_are_no_rules_of_another(
    client: httpx2.AsyncClient, process: Process
) -> None:
    other = await make_tenant(process)
    await as_owner(client, other, UPDATE, input={"detectors": ["EMAIL"]})
    assert await show(client) == NOTHING
    assert (await preview(client, "a@b.example"))["counts"] == []


async def test_rules_are_changed_by_owners_and_admins_alone(client: httpx2.AsyncClient) -> None:
    answered = await ask(client, UPDATE, input={"detectors": ["EMAIL"]})
    assert answered["errors"][0]["extensions"]["code"] == "forbidden"
    assert answered["errors"][0]["extensions"]["details"]["required"] == "workspace:admin"
    assert await show(client) == NOTHING


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patterns": [{"name": "a", "pattern": "(a"}]}, "patterns.0.pattern: is not a valid"),
        ({"patterns": [{"name": "email", "pattern": "x"}]}, "patterns.0.name: is taken by a rule"),
        ({"keys": ["  "]}, "keys.0: "),
        ({"keys": None}, "keys: Input should be a valid list"),
        ({"patterns": [{"name": "a", "pattern": "(?=a)"}]}, "invalid perl operator"),
    ],
)  # fmt: skip
async def test_rules_that_can_t_be_used_are_refused_by_their_field(
    client: httpx2.AsyncClient, tenant: Tenant, wrong: Any, message: str
) -> None:
    answered = await as_owner(client, tenant, UPDATE, input=wrong)
    (error,) = answered["errors"]
    assert error["extensions"]["code"] == "invalid_input"
    assert message in error["message"]
    assert await show(client) == NOTHING


async def test_a_preview_has_a_bound(client: httpx2.AsyncClient) -> None:
    answered = await ask(client, PREVIEW, text="x" * (MAX_PREVIEW_CHARACTERS + 1))
    (error,) = answered["errors"]
    assert error["message"] == "text: must have at most 100,000 characters (has 100,001)"
