"""Bodies that can't be stored, forwarded or sent on are refused, and say why."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from app.services import Process
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run

KIND = {"Content-Type": "application/json"}
CANDIDATE = {"provider": "custom", "endpoint_url": "http://127.0.0.1:9/"}


@pytest.fixture
async def path(process: Process, tenant: Tenant) -> str:
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_ranked_run(process, board, [await make_candidate(process, board)])
    return f"/api/leaderboards/{board.id}"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (str(2**64), "integers of more than 64 bits"),
        (str(-(2**63) - 1), "integers of more than 64 bits"),
        ("9" * 5_000, "the body"),
        ("1e999", "numbers that are not finite"),
        ("NaN", "numbers that are not finite"),
        ("[" * 101 + "]" * 101, "values nested more than 100 deep"),
        ("[" * 900 + "]" * 900, "values nested more than 100 deep"),
        ("[" * 100_000 + "]" * 100_000, "the body"),
    ],
    ids=["2^64", "-2^63-1", "5,000 digits", "1e999", "NaN", "101 deep", "900 deep", "100,000 deep"],
)
async def test_a_value_that_peers_can_not_read_is_400(
    client: httpx2.AsyncClient, path: str, value: str, said: str
) -> None:
    asked = f'{{"input": "x", "deep": [{{"er": {value}}}]}}'
    added = f'{{"provider": "openrouter", "model_id": "m", "params": {{"seed": {value}}}}}'
    for route, body in (("inference", asked), ("models", added)):
        answer = await client.post(f"{path}/{route}", content=body, headers=KIND)
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["error"]


async def test_a_blank_input_is_as_good_as_none(client: httpx2.AsyncClient, path: str) -> None:
    answered = await client.post(f"{path}/inference", json={"input": " ", "question": "x"})
    assert answered.status_code == 200, answered.text
    refused = await client.post(f"{path}/inference", json={"input": " ", "question": ""})
    assert refused.status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [{"auth_token": "t\n"}, {"auth_header_name": "X-Name\n"}],
    ids=lambda each: next(iter(each)),
)
async def test_a_line_end_never_gets_into_a_header(
    client: httpx2.AsyncClient, path: str, wrong: dict[str, Any]
) -> None:
    header = {"auth_method": "custom_header", "auth_header_name": "X-Name", "auth_token": "t"}
    answer = await client.post(f"{path}/models", json={**CANDIDATE, **header, **wrong})
    assert answer.status_code == 400
    assert next(iter(wrong)) in answer.json()["error"]


async def test_allow_names_every_method_of_a_path(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.put(path)).headers["Allow"] == "DELETE, GET, PATCH"
    assert (await client.put(f"{path}/models")).headers["Allow"] == "GET, POST"


async def in_pieces(count: int) -> AsyncIterator[bytes]:
    yield b'{"name": "'
    for _ in range(count):
        yield b"x" * 2**20
    yield b'"}'


@pytest.mark.parametrize("headers", [KIND, {**KIND, "Idempotency-Key": "one"}])
async def test_a_body_without_a_length_is_413_above_the_limit(
    client: httpx2.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    for route in (f"{path}/inference", f"{path}/models", "/api/leaderboards"):
        answer = await client.post(route, content=in_pieces(6), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert answer.headers["X-Request-Id"]
    graphql = await client.post("/graphql", content=in_pieces(6), headers=headers)
    (error,) = graphql.json()["errors"]
    assert (graphql.status_code, error["extensions"]["code"]) == (413, "body_too_large")
    short = await client.post("/api/leaderboards", content=in_pieces(0), headers=headers)
    assert short.status_code == 400
    assert short.json()["code"] == "invalid_input"
