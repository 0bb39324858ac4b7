"""Requests and tokens a minute: refused with the wait, told in headers, shared by servers."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, update

from app.services import Process
from db.base import new_id
from db.models import ApiToken, Leaderboard
from resolvers.reservations import Reservation, store_reservations
from tests.conftest import ON_OLDEST_TOO
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run, make_token


async def make_limited(process: Process, tenant: Tenant, **limits: Any) -> dict[str, str]:
    token = await make_token(process, tenant.workspace_id, name="limited", **limits)
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def board(process: Process, tenant: Tenant) -> Leaderboard:
    board = await make_leaderboard(process, tenant.workspace_id)
    candidate = await make_candidate(process, board, params={"max_tokens": 50})
    await make_ranked_run(process, board, [candidate])
    return board


async def infer(
    client: httpx2.AsyncClient, board: Leaderboard, headers: dict[str, str], **fields: Any
) -> httpx2.Response:
    return await client.post(
        f"/v1/leaderboard/{board.id}/inference",
        json={"input": "hello", **fields},
        headers=headers,
    )


async def let_pass(process: Process, seconds: float) -> None:
    """Have the limits believe that *seconds* have passed."""
    ago = timedelta(seconds=seconds)
    async with process.database.write() as session:
        await session.execute(
            update(ApiToken).values(
                requests_free_at=ApiToken.requests_free_at - ago,
                tokens_free_at=ApiToken.tokens_free_at - ago,
            )
        )


async def test_requests_beyond_a_minutes_are_429_until_some_are_free_again(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, board: Leaderboard
) -> None:
    headers = await make_limited(process, tenant, requests_per_minute=3)
    answers = [await infer(anonymous, board, headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    left = [answer.headers["X-RateLimit-Remaining-Requests"] for answer in answers[:3]]
    assert left == ["2", "1", "0"]
    assert answers[0].headers["X-RateLimit-Limit-Requests"] == "3"
    assert answers[0].headers["X-RateLimit-Reset-Requests"] == "20.000s"
    assert "X-RateLimit-Limit-Tokens" not in answers[0].headers
    refused = answers[3]
    assert refused.json()["code"] == "rate_limited"
    assert refused.json()["details"] == {
        "limit": "requests", "per_minute": 3, "left": 0, "needed": 1,
    }  # fmt: skip
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert refused.headers["X-RateLimit-Limit-Requests"] == "3"
    assert refused.headers["X-RateLimit-Remaining-Requests"] == "0"
    assert float(refused.headers["X-RateLimit-Reset-Requests"].rstrip("s")) > 0
    await let_pass(process, 21)
    assert (await infer(anonymous, board, headers)).status_code == 200
    assert (await infer(anonymous, board, headers)).status_code == 429


async def test_tokens_are_held_as_they_may_be_and_given_back_when_they_were_not(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant, board: Leaderboard
) -> None:
    headers = await make_limited(process, tenant, tokens_per_minute=1_000)
    first = await infer(anonymous, board, headers)
    held = 1_000 - int(first.headers["X-RateLimit-Remaining-Tokens"])
    used = first.json()["usage"]["total_tokens"]
    assert held > 50 > used - held
    second = await infer(anonymous, board, headers)
    left = int(second.headers["X-RateLimit-Remaining-Tokens"])
    assert abs(1_000 - used - held - left) <= 2  # some time has passed
    over = await infer(anonymous, board, headers, max_tokens=990)
    assert (over.status_code, over.json()["details"]["limit"]) == (429, "tokens")
    never = await infer(anonymous, board, headers, max_tokens=5_000)
    assert "more than a minute ever has" in never.json()["error"]
    assert "Retry-After" not in never.headers


@ON_OLDEST_TOO
async def test_a_crowd_over_two_servers_gets_what_a_minute_has_and_no_more(
    process: Process, tenant: Tenant
) -> None:
    await make_limited(
        process, tenant, requests_per_minute=50, budget_limit_usd=Decimal("0.4"),
    )  # fmt: skip
    async with process.database.read() as session:
        token = (await session.scalars(select(ApiToken).where(ApiToken.name == "limited"))).one()

    def ask() -> Reservation:
        later = datetime.now(UTC) + timedelta(seconds=60)
        return Reservation(new_id(), token.id, Decimal("0.01"), 1, 0, "none", later)

    asked = [ask() for _ in range(120)]
    writers = process.writers
    await asyncio.gather(
        *(
            store_reservations(writers[place % 2], asked[start : start + 12])
            for place, start in enumerate(range(0, 120, 12))
        )
    )
    admitted = [each for each in asked if each.refused is None]
    assert len(admitted) == 40  # by the budget
    async with process.database.read() as session:
        after = (await session.scalars(select(ApiToken).where(ApiToken.name == "limited"))).one()
    assert after.budget_held_usd == Decimal("0.4")
    assert {each.refused for each in asked} == {None, "budget"}
