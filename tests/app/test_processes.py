"""The commands of a deployment, each a process of its own, on a plain database."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import pytest

from app.services import Process
from db.migrations.revisions import head_revision
from tests.app.test_up import GERO, LONGEST_SECONDS, environment, invoke
from tests.conftest import JWT_SECRET, SECRET_KEY, PostgresServer, await_run, session_token
from tests.factories import TWO_ROWS_URL, Tenant, make_tenant


@pytest.fixture
async def bare_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """Yield a database with nothing in it."""
    name = f"bare_{uuid4().hex}"
    await postgres_server.admin.execute(f"CREATE DATABASE {name}")
    yield postgres_server.postgres.dsn.replace("/gero?", f"/{name}?")
    await postgres_server.admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def variables(database_url: str, sandbox_url: str, **more: str) -> dict[str, str]:
    return {
        "GERO_DATABASE_URL": database_url.replace("+asyncpg", ""),
        "GERO_SECRET_KEY": SECRET_KEY,
        "GERO_JWT_SECRET": JWT_SECRET,
        "GERO_SANDBOX_URL": sandbox_url,
        "GERO_HUGGINGFACE_URL": sandbox_url,
        "GERO_OPENROUTER_URL": f"{sandbox_url}/api/v1",
        "GERO_ALLOW_PRIVATE_ENDPOINTS": "true",
        **more,
    }


@contextmanager
def running(command: str, *options: str, cwd: Path, **more: str) -> Iterator[None]:
    """Run a command until the block ends; it must then end cleanly on SIGTERM."""
    process = subprocess.Popen([GERO, command, *options], cwd=cwd, env=environment(**more))
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LONGEST_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


async def test_an_operator_goes_from_an_empty_database_to_a_ranking(
    bare_url: str, sandbox_url: str, tmp_path: Path
) -> None:
    given = variables(bare_url, sandbox_url)
    early = await invoke("token", "create", "--name", "x", **given)
    assert (early.exit_code, early.stderr) == (
        1, "gero: the database is not up to date: run `gero migrate`\n",
    )  # fmt: skip
    doctor = await invoke("doctor", **given)
    assert doctor.stdout.splitlines()[:4] == [
        "ok    database: ok",
        "ok    version: ok",
        f"FAIL  migrations: at none, not {head_revision()}: run `gero migrate`",
        "FAIL  job_engine: its tables are missing: run `gero migrate`",
    ]
    assert doctor.exit_code == 1
    migrated = await invoke("migrate", **given)
    assert (migrated.exit_code, migrated.stdout) == (0, "the database is up to date\n")
    doctor = await invoke("doctor", **given)
    names = ("database", "version", "migrations", "job_engine", "huggingface", "openrouter")
    assert doctor.stdout.splitlines() == [f"ok    {name}: ok" for name in (*names, "sandbox")]
    assert doctor.exit_code == 0

    early = await invoke("token", "create", "--name", "x", **given)
    assert (early.exit_code, early.stderr) == (
        1,
        "gero: there is no workspace: make one with `gero workspace create --name <name>`\n",
    )
    owner = uuid4()
    made = await invoke("workspace", "create", "--name", "ours", "--owner-id", str(owner), **given)
    workspace_id = UUID(made.stdout.strip())
    token = await invoke("token", "create", "--name", "x", **given)
    port = free_port()
    with (
        running("serve", "--port", str(port), cwd=tmp_path, **given, GERO_KEEP_ALIVE_SECONDS="1"),
        running("worker", cwd=tmp_path, **given),
    ):
        headers = {"Authorization": f"Bearer {token.stdout.strip()}"}
        url = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(base_url=url, headers=headers) as client:
            await until_ready(client)
            await rank_something(client, workspace_id)
            session = {"Authorization": f"Bearer {session_token(owner)}"}
            seen = await client.get("/api/leaderboards", headers=session)
            assert seen.json()["total"] == 1
        await until_unused_connection_is_closed(port)


async def until_unused_connection_is_closed(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: gero\r\n\r\n")
    async with asyncio.timeout(LONGEST_SECONDS):  # less than the 75 that nobody has set
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def until_ready(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            try:
                ready = await client.get("/readyz")
            except httpx2.ConnectError:
                await asyncio.sleep(0.05)
            else:
                assert ready.json()["status"] == "ok"
                return


async def rank_something(client: httpx2.AsyncClient, workspace_id: UUID) -> None:
    body = {"name": "n", "system_prompt": "p", "dataset_url": TWO_ROWS_URL}
    board = (await client.post("/api/leaderboards", json=body)).json()
    assert board["workspace_id"] == str(workspace_id)
    path = f"/api/leaderboards/{board['id']}"
    candidate = {"provider": "openrouter", "model_id": "sandbox/quick-small"}
    assert (await client.post(f"{path}/models", json=candidate)).status_code == 201
    started = (await client.post(f"{path}/run")).json()
    ended = await await_run(client, board["id"], started["id"])
    assert (ended["status"], ended["progress"]["done"]) == ("completed", 2)


async def test_doctor_says_what_can_not_be_reached(database_url: str, sandbox_url: str) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    ways = {
        "gone": variables("postgresql://gero@127.0.0.1:1/gero", sandbox_url),
        "unknown": variables(database_url.replace("/test_", "/no_test_"), sandbox_url),
        "provider": variables(
            database_url, sandbox_url, GERO_OPENROUTER_URL=closed, GERO_SANDBOX_URL=closed
        ),
    }
    ended = {name: await invoke("doctor", **way) for name, way in ways.items()}
    assert {each.exit_code for each in ended.values()} == {1}
    failed = {
        name: [line for line in each.stdout.splitlines() if line.startswith("FAIL")]
        for name, each in ended.items()
    }
    (gone,) = failed["gone"]
    assert gone == "FAIL  database: can't be used: [Errno 111] Connection refused"
    (unknown,) = failed["unknown"]
    assert unknown.startswith("FAIL  database: can't be used: database \"no_test_")
    assert unknown.endswith('" does not exist')
    hint = "can't be reached (ConnectError): check the network, or set"
    assert failed["provider"] == [
        f"FAIL  openrouter: {closed}/models {hint} GERO_OPENROUTER_URL",
        f"FAIL  sandbox: {closed} {hint} GERO_SANDBOX_URL",
    ]
    migrated = await invoke("migrate", **ways["gone"])
    assert (migrated.exit_code, migrated.stderr) == (
        1, "gero: the database can't be used: [Errno 111] Connection refused\n",
    )  # fmt: skip


async def test_token_create_makes_what_it_is_asked_for(
    database_url: str, sandbox_url: str, tenant: Tenant, anonymous: httpx2.AsyncClient
) -> None:
    given = variables(database_url, sandbox_url)
    before = datetime.now(UTC)
    ended = await invoke(
        "token", "create", "--json", "--name", "ci", "--scope", "leaderboards:read", "--scope",
        "models:*", "--expires-in", "7d", "--budget-usd", "1.50", "--budget-reset", "weekly",
        **given,
    )  # fmt: skip
    made = json.loads(ended.stdout)
    assert set(made) == {"id", "token", "expires_at"}
    assert made["expires_at"].endswith("Z")
    week = datetime.fromisoformat(made["expires_at"]) - before
    assert timedelta(days=7) - timedelta(seconds=1) < week < timedelta(days=7, seconds=60)
    headers = {"X-API-Key": made["token"]}
    assert (await anonymous.get("/api/leaderboards", headers=headers)).status_code == 200
    body = {"name": "n", "system_prompt": "p", "dataset_url": TWO_ROWS_URL}
    refused = await anonymous.post("/api/leaderboards", json=body, headers=headers)
    assert refused.status_code == 403


async def test_a_budget_of_nothing_is_one_however_it_is_written(
    database_url: str, sandbox_url: str, tenant: Tenant
) -> None:
    given = variables(database_url, sandbox_url)
    for amount in ("0", "0e-99999", "0.000000000000"):
        ended = await invoke("token", "create", "--name", "ci", "--budget-usd", amount, **given)
        assert (ended.exit_code, ended.stderr) == (0, "")


async def test_a_wrong_option_of_token_create_is_one_clear_line(
    database_url: str, sandbox_url: str, tenant: Tenant
) -> None:
    given = variables(database_url, sandbox_url)
    for options, code, said in (
        (["--scope", "all"], 1, "scopes: 'all' is not one of *, "),
        (["--budget-usd", "much"], 1, "--budget-usd: 'much' is not an amount"),
        (["--budget-usd", "-1"], 1, "--budget-usd: must be 0 to 1000000000 (got '-1')"),
        (["--budget-usd", "1e10"], 1, "--budget-usd: must be 0 to 1000000000 (got '1e10')"),
        (
            ["--budget-usd", "1e-13"],
            1,
            "budget_limit: must have 12 decimals at most (got 1E-13)",
        ),
        (["--budget-usd", "nan"], 1, "--budget-usd: 'nan' is not an amount"),
        (["--workspace-id", "x"], 1, "--workspace-id: there is no workspace 'x'"),
        (["--name", " "], 1, "name: must have 1 to 200 characters"),
        (["--expires-in", "2d"], 2, "Invalid value for '--expires-in': '2d' is not one of '1h'"),
        (["--budget-reset", "hourly"], 2, "Invalid value for '--budget-reset': 'hourly'"),
    ):
        ended = await invoke("token", "create", "--name", "ci", *options, **given)
        assert (ended.exit_code, ended.stdout) == (code, "")
        last = ended.stderr.splitlines()[-1]
        assert said in last
        if code == 1:
            assert ended.stderr == f"{last}\n"
            assert last.startswith("gero: ")


async def test_tokens_are_listed_without_secrets_and_revoked_within_a_second(
    database_url: str, sandbox_url: str, tenant: Tenant, anonymous: httpx2.AsyncClient
) -> None:
    given = variables(database_url, sandbox_url)
    options = ("--scope", "leaderboards:read", "--expires-in", "1d", "--budget-usd", "0.5")
    made = json.loads(
        (await invoke("token", "create", "--json", "--name", "ci", *options, **given)).stdout
    )
    own_id, public_id = tenant.token.split("_")[1], made["token"].split("_")[1]

    listed = json.loads((await invoke("token", "list", "--json", **given)).stdout)
    assert [each["public_id"] for each in listed] == [public_id, own_id]
    assert {name: listed[0][name] for name in listed[0] if name != "created_at"} == {
        "id": made["id"], "public_id": public_id, "name": "ci", "state": "active",
        "scopes": ["leaderboards:read"], "expires_at": made["expires_at"], "revoked_at": None,
        "budget_limit_usd": 0.5, "budget_used_usd": 0.0, "budget_reset_interval": "none",
    }  # fmt: skip
    table = (await invoke("token", "list", **given)).stdout
    assert [line.split()[:3] for line in table.splitlines()] == [
        ["PUBLIC", "ID", "NAME"], [public_id, "ci", "active"], [own_id, "test", "active"],
    ]  # fmt: skip
    assert "0.00 of 0.50 USD" in table
    for secret in (made["token"], tenant.token):
        assert secret.split("_", 2)[2] not in f"{listed}{table}"

    for reference, secret in ((public_id, made["token"]), (listed[1]["id"], tenant.token)):
        used = await anonymous.get("/api/leaderboards", headers={"X-API-Key": secret})
        assert used.status_code == 200
        ended = await invoke("token", "revoke", reference, **given)
        assert (ended.exit_code, ended.stdout.split()[0]) == (0, "revoked")
        async with asyncio.timeout(1):  # every server hears of it
            while used.status_code == 200:
                used = await anonymous.get("/api/leaderboards", headers={"X-API-Key": secret})
        refused = used
        assert refused.json()["error"] == "the API token was revoked"
    states = json.loads((await invoke("token", "list", "--json", **given)).stdout)
    assert [each["state"] for each in states] == ["revoked", "revoked"]


async def test_a_token_that_can_not_be_revoked_is_one_clear_line(
    database_url: str, sandbox_url: str, tenant: Tenant, process: Process
) -> None:
    given = variables(database_url, sandbox_url)
    public_id = tenant.token.split("_")[1]
    other = await make_tenant(process)
    mine = ("--workspace-id", str(tenant.workspace_id))
    assert (await invoke("token", "revoke", public_id, *mine, **given)).exit_code == 0
    for reference, options, said in (
        ("nobody", mine, "there is no token 'nobody' in this workspace"),
        (str(uuid4()), mine, "there is no token '"),
        (other.token.split("_")[1], mine, "there is no token '"),
        (public_id, mine, f"token {public_id} was revoked before, at 20"),
        (public_id, (), "there are 2 workspaces: name one with --workspace-id"),
    ):
        ended = await invoke("token", "revoke", reference, *options, **given)
        assert (ended.exit_code, ended.stdout) == (1, "")
        assert ended.stderr.startswith(f"gero: {said}")
