"""What schemathesis finds when it calls a server as openapi.yaml says, and as it does not."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.services import Process
from tests.contracts.audit_tools import ROOT, run
from tests.factories import (
    DATASET_URL,
    TWO_ROWS_URL,
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
    make_tenant,
)

pytestmark = pytest.mark.audit

OPERATOR_SECRET = "the operator of the examined server"
CONTRACTS = ROOT / "tests" / "contracts"


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    return {"cron_secret": OPERATOR_SECRET}


@pytest.fixture
async def examined(process: Process, tenant: Tenant, tmp_path: Path, sandbox_url: str) -> Path:
    """A folder with the configuration, and the names of what there is to call."""
    other = await make_tenant(process)
    users = [
        {"name": name, "fixedHeaders": [{"name": key, "value": value} for key, value in headers]}
        for name, headers in (("first", tenant.headers.items()), ("second", other.headers.items()))
    ]
    (tmp_path / "users.json").write_text(json.dumps({"auth": users}))
    boards = [await make_leaderboard(process, tenant.workspace_id) for _ in range(3)]
    candidates = [await make_candidate(process, board) for board in boards for _ in range(2)]
    for board, candidate in zip(boards[:2], candidates[::2], strict=False):
        await make_ranked_run(process, board, [candidate])
    values = {
        "leaderboards": [str(board.id) for board in boards],
        "candidates": [str(candidate.id) for candidate in candidates],
        "datasets": [DATASET_URL, TWO_ROWS_URL],
        "endpoints": [f"{sandbox_url}/endpoints/good", f"{sandbox_url}/endpoints/fault-500"],
    }
    for name, lines in values.items():
        (tmp_path / f"{name}.txt").write_text("".join(f'"{line}"\n' for line in lines))
    config = tmp_path / "schemathesis.toml"
    config.write_text((CONTRACTS / "schemathesis.toml").read_text())
    return config


@pytest.mark.timeout(400)  # thousands of requests
async def test_the_rest_api_is_as_its_contract_says(base_url: str, examined: Path) -> None:
    ended = await run(
        Path(sys.executable).parent / "schemathesis",
        "--config-file", examined, "--no-color", "run", f"{base_url}/openapi.yaml",
        "--url", base_url,
        environment={
            "GERO_AUDIT_HOOKS": str(CONTRACTS / "schemathesis_hooks.py"),
            "GERO_AUDIT_USERS": str(examined.parent / "users.json"),
            "GERO_AUDIT_OPERATOR": OPERATOR_SECRET,
        },
    )  # fmt: skip
    assert ended.code == 0, ended.said
    paths = yaml.safe_load((ROOT / "openapi.yaml").read_bytes())["paths"]
    del paths["/openapi.yaml"]  # it does not call the address at which it read the contract
    assert f"Tested: {sum(map(len, paths.values()))}\n" in ended.said
