"""The sandbox's own keys are checked at the sandbox; all others at the providers that are set."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.conftest import ask, session_token
from tests.factories import Tenant

# Nobody listens there, as nothing of the real providers can be reached offline.
AWAY = "http://127.0.0.1:9"
GATED = "https://huggingface.co/datasets/gero-sandbox/gated/resolve/main/tasks.jsonl"
SAVE = """mutation($input: SaveIntegrationInput!) {
  saveIntegration(input: $input) { integration { provider } } }"""


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"huggingface_url": AWAY, "openrouter_url": f"{AWAY}/api/v1"}


@pytest.fixture
async def owner(base_url: str, tenant: Tenant) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {session_token(tenant.owner_id)}"}
    async with httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=30) as client:
        yield client


async def save(owner: httpx2.AsyncClient, provider: str, token: str) -> Any:
    return await ask(owner, SAVE, input={"provider": provider, "token": token})


async def test_the_sandboxs_gated_dataset_opens_with_a_token_of_the_sandbox(
    owner: httpx2.AsyncClient,
) -> None:
    board = {"name": "n", "system_prompt": "p", "dataset_url": GATED}
    refused = await owner.post("/api/leaderboards", json=board)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_dataset")
    saved = await save(owner, "HUGGINGFACE", "hf_sandbox_1")
    assert saved == {"data": {"saveIntegration": {"integration": {"provider": "HUGGINGFACE"}}}}
    opened = await owner.post("/api/leaderboards", json=board)
    assert opened.status_code == 201, opened.text


async def test_a_key_of_the_sandbox_is_good_for_openrouter_too(owner: httpx2.AsyncClient) -> None:
    saved = await save(owner, "OPENROUTER", "sk-sandbox-mine")
    assert saved == {"data": {"saveIntegration": {"integration": {"provider": "OPENROUTER"}}}}


@pytest.mark.parametrize(
    ("provider", "key"), [("HUGGINGFACE", "hf_real"), ("OPENROUTER", "sk-or-v1-real")]
)
async def test_any_other_key_is_checked_at_the_provider(
    owner: httpx2.AsyncClient, provider: str, key: str
) -> None:
    (error,) = (await save(owner, provider, key))["errors"]
    assert error["extensions"]["code"] == "upstream_error"
    assert error["message"].startswith(f"{provider.lower()} can't be asked: can't connect")


@pytest.mark.parametrize(
    "setting_overrides",
    [{"sandbox_url": None, "huggingface_url": AWAY, "openrouter_url": f"{AWAY}/api/v1"}],
)
@pytest.mark.parametrize(
    ("provider", "key"), [("HUGGINGFACE", "hf_sandbox"), ("OPENROUTER", "sk-sandbox")]
)
async def test_without_a_sandbox_its_keys_are_keys_as_any_other(
    owner: httpx2.AsyncClient, provider: str, key: str
) -> None:
    (error,) = (await save(owner, provider, key))["errors"]
    assert error["extensions"]["code"] == "upstream_error"
