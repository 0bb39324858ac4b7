"""What operators are shown, and that nobody else is."""

from typing import Any

import httpx2
import pytest

from tests.conftest import ask
from tests.schema.test_timing import UNCOMPILED

SECRET = "the operator's own secret"
BEFORE = """\
# HELP gero_graphql_compiled_total GraphQL operations that the compiled executor was given, by plan.
# TYPE gero_graphql_compiled_total counter
gero_graphql_compiled_total{plan="cached"} %.1f
gero_graphql_compiled_total{plan="new"} %.1f
# HELP gero_graphql_fallbacks_total GraphQL operations that were left to graphql-core, by reason.
# TYPE gero_graphql_fallbacks_total counter
"""


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"cron_secret": SECRET}


def about_graphql(text: str) -> str:
    """Return the lines that tell of GraphQL."""
    return "".join(line for line in text.splitlines(keepends=True) if "gero_graphql_" in line)


async def test_an_operator_sees_how_operations_were_executed(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient
) -> None:
    for headers in ({"X-Cron-Secret": SECRET}, {"Authorization": f"Bearer {SECRET}"}):
        answer = await anonymous.get("/metrics", headers=headers)
        assert (answer.status_code, about_graphql(answer.text)) == (200, BEFORE % (0, 0))
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    for _ in range(3):
        await ask(client, "{ __typename }")
    for _ in range(2):
        await ask(client, UNCOMPILED[0], **UNCOMPILED[1])
    answer = await anonymous.get("/metrics", headers={"X-Cron-Secret": SECRET})
    assert about_graphql(answer.text) == BEFORE % (2, 1) + (
        'gero_graphql_fallbacks_total{reason="a condition that has no value"} 2.0\n'
    )


async def test_nobody_else_does(client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient) -> None:
    for answer in (
        await client.get("/metrics"),
        await anonymous.get("/metrics"),
        await anonymous.get("/metrics", headers={"X-Cron-Secret": "another"}),
        await client.get("/metrics", headers={b"X-Cron-Secret": "é".encode()}),
    ):
        assert answer.status_code == 401
        assert answer.json() == {
            "error": (
                "this needs the operator's secret, as 'Authorization: Bearer' or 'X-Cron-Secret'"
            ),
            "code": "unauthenticated",
            "details": {},
        }
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("setting_overrides", [{}, {"cron_secret": ""}])
async def test_a_deployment_without_a_secret_shows_nothing(anonymous: httpx2.AsyncClient) -> None:
    for headers in ({}, {"X-Cron-Secret": ""}, {"Authorization": "Bearer x"}):
        answer = await anonymous.get("/metrics", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert answer.json()["error"] == "operators' routes are off: GERO_CRON_SECRET is not set"


@pytest.mark.parametrize("setting_overrides", [{"cron_secret": SECRET, "graphql_compiled": False}])
async def test_without_the_compiled_executor_nothing_is_counted(
    anonymous: httpx2.AsyncClient,
) -> None:
    await ask(anonymous, "{ __typename }")
    answer = await anonymous.get("/metrics", headers={"X-Cron-Secret": SECRET})
    assert about_graphql(answer.text) == BEFORE % (0, 0)
