"""Users' endpoints are at public addresses over https, or are refused by name before any call."""

from typing import Any

import httpx2
import pytest

from app.services import Process
from db.models import Leaderboard
from tests.factories import (
    TWO_ROWS_URL,
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
)

ELSEWHERE = [
    "http://93.184.215.14/v1",
    "ftp://93.184.215.14/v1",
    "93.184.215.14/v1",
    "https:///v1",
    "https://127.0.0.1/v1",
    "https://0.0.0.0/v1",
    "https://10.1.2.3/v1",
    "https://172.16.0.1/v1",
    "https://192.168.1.1/v1",
    "https://100.64.0.1/v1",
    "https://169.254.169.254/latest/meta-data",
    "https://224.0.0.1/v1",
    "https://255.255.255.255/v1",
    "https://[::1]/v1",
    "https://[::]/v1",
    "https://[fe80::1]/v1",
    "https://[fe80::1%25eth0]/v1",
    "https://[fc00::1]/v1",
    "https://[fec0::1]/v1",
    "https://[fd00:ec2::254]/v1",
    "https://[ff02::1]/v1",
    "https://[::ffff:127.0.0.1]/v1",
    "https://[::ffff:a9fe:a9fe]/v1",
    "https://[::127.0.0.1]/v1",
    "https://[64:ff9b::7f00:1]/v1",
    "https://[64:ff9b:1::7f00:1]/v1",
    "https://[2002:7f00:1::]/v1",
    "https://[2001:db8::1]/v1",
    "https://2130706433/v1",
    "https://0x7f000001/v1",
    "https://0x7f.1/v1",
    "https://017700000001/v1",
    "https://0177.0.0.1/v1",
    "https://127.1/v1",
    "https://127.0.0.1./v1",
    "https://\uff11\uff12\uff17.0.0.1/v1",
    "https://localhost/v1",
    "https://LOCALHOST/v1",
    "https://localhost./v1",
    "https://nowhere.invalid/v1",
    "https://93.184.215.14:99999/v1",
    "https://93.184.215.14:http/v1",
    "https://[::1/v1",
    "https://exa mple.com/v1",
    "https://" + "a" * 70 + ".com/v1",
]


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"allow_private_endpoints": False}


async def add(client: httpx2.AsyncClient, board: Leaderboard, url: str) -> httpx2.Response:
    return await client.post(
        f"/api/leaderboards/{board.id}/models", json={"provider": "custom", "endpoint_url": url}
    )


async def test_an_endpoint_elsewhere_is_refused_and_named(
    client: httpx2.AsyncClient, board: Leaderboard
) -> None:
    for url in ELSEWHERE:
        answer = await add(client, board, url)
        assert (answer.status_code, answer.json().get("code")) == (400, "invalid_input"), url
        assert answer.json()["error"].startswith("endpoint_url: ")
        assert answer.json()["error"].endswith(f"(got {url!r})")
    listed = await client.get(f"/api/leaderboards/{board.id}/models")
    assert listed.json()["total"] == 0


async def test_a_url_with_a_credential_is_refused_without_repeating_it(
    client: httpx2.AsyncClient, board: Leaderboard
) -> None:
    for credential in ("user:hunter2", "hunter2", "user:hunt@er2"):
        answer = await add(client, board, f"https://{credential}@93.184.215.14/v1")
        assert answer.status_code == 400
        assert answer.json()["error"] == (
            "endpoint_url: must not carry a credential; use auth_method and auth_token "
            "(got 'https://***@93.184.215.14/v1')"
        )
        assert "er2" not in answer.text


async def test_a_public_endpoint_is_taken(client: httpx2.AsyncClient, board: Leaderboard) -> None:
    for url in (
        "https://93.184.215.14/v1/chat",
        "https://93.184.215.14:8443/v1",
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/v1",
    ):
        answer = await add(client, board, url)
        assert (answer.status_code, answer.json()["endpoint_url"]) == (201, url)


async def test_an_endpoint_that_is_stored_is_checked_again_at_each_call(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    for host in (
        "https://127.0.0.1", "https://127.1", "https://localhost", "https://2130706433",
        "https://[::1]", "http://127.0.0.1", "https://\uff11\uff12\uff17.0.0.1",
    ):  # fmt: skip
        board = await make_leaderboard(process, tenant.workspace_id)
        candidate = await make_candidate(process, board, endpoint_url=f"{host}:9/v1")
        await make_ranked_run(process, board, [candidate])
        answer = await client.post(f"/v1/leaderboard/{board.id}/inference", json={"input": "x"})
        assert answer.status_code == 502
        assert answer.json()["details"]["reason"] == "refused_address", host


async def test_datasets_still_come_from_the_operators_own_hub(client: httpx2.AsyncClient) -> None:
    body = {"name": "n", "system_prompt": "p", "dataset_url": TWO_ROWS_URL}
    assert (await client.post("/api/leaderboards", json=body)).status_code == 201
