"""The `gero` command as a user runs it: processes, signals, files and exit codes."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.conftest import SECRET_KEY, database_dir

# An ordinary user, who may read what is root's (the interpreter may lie there) and change nothing.
AS_NOBODY = [
    "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs",
    "--securebits=+no_setuid_fixup", "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search", "--",
]  # fmt: skip
GERO = Path(sys.executable).parent / "gero"
LONGEST_SECONDS = 60


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GERO_")}
    return {**kept, **more}


def gero(*arguments: str, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [GERO, *arguments], cwd=cwd, env=environment(**more), capture_output=True, text=True,
        timeout=LONGEST_SECONDS, check=False,
    )  # fmt: skip


async def invoke(*arguments: str, **more: str) -> Result:
    """Run a command in a thread of this process, which costs no start."""
    return await asyncio.to_thread(CliRunner(env=more).invoke, main, arguments)


class Up:
    """A `gero up` in a process group of its own."""

    def __init__(self, data_dir: Path, *options: str, run_as: Sequence[str] = ()) -> None:
        self.data_dir = data_dir
        self.output = (data_dir.parent / "up.log").open("a+")
        self.process = subprocess.Popen(
            [*run_as, GERO, "up", "--port", "0", "--data-dir", data_dir, *options],
            cwd=data_dir.parent, env=environment(GERO_RUN_CONCURRENCY="100"),
            stdout=self.output, stderr=self.output, start_new_session=True,
        )  # fmt: skip

    def connection(self) -> dict[str, Any]:
        """Wait until it is ready, and return what connection.json says."""
        deadline = time.monotonic() + LONGEST_SECONDS
        path = self.data_dir / "connection.json"
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.said()
            if path.exists():
                found: dict[str, Any] = json.loads(path.read_text())
                if found["pid"] == self.process.pid:
                    return found
            time.sleep(0.05)
        raise AssertionError(self.said())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while text not in self.said():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return Path(self.output.name).read_text()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=LONGEST_SECONDS)
        self.output.close()
        return code


def servers_in(data_dir: Path) -> list[int]:
    """Return the postgres processes whose working directory lies in *data_dir*."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and data_dir in (entry / "cwd").resolve().parents:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with database_dir() as made:
        yield made / "data"


async def test_up_ranks_the_demo_and_survives_being_killed(data_dir: Path) -> None:
    up = Up(data_dir)
    connection = up.connection()
    up.wait_for("Three calls to try")
    assert set(connection) == {
        "base_url", "graphql_url", "api_token", "session_token", "cron_secret", "workspace_id",
        "demo_leaderboard_id", "sandbox_url", "pid",
    }  # fmt: skip
    assert (data_dir / "connection.json").stat().st_mode & 0o777 == 0o600
    headers = {"Authorization": f"Bearer {connection['api_token']}"}
    runs = f"/api/leaderboards/{connection['demo_leaderboard_id']}/runs"
    async with httpx2.AsyncClient(base_url=connection["base_url"], headers=headers) as client:
        before = (await client.get(runs)).json()["runs"]
        assert [run["status"] for run in before] == ["completed"]
        session = {"Authorization": f"Bearer {connection['session_token']}"}
        assert (await client.get("/api/leaderboards", headers=session)).status_code == 200
    second = await asyncio.to_thread(
        gero, "up", "--port", "0", "--data-dir", str(data_dir), cwd=data_dir.parent
    )
    assert second.returncode == 1
    assert second.stderr == f"gero: {data_dir} is in use by another `gero up`\n"
    token = await invoke(
        "token", "create", "--data-dir", str(data_dir), "--name", "ci",
        "--scope", "leaderboards:read", "--budget-usd", "1", "--budget-reset", "daily", "--json",
    )  # fmt: skip
    assert token.exit_code == 0, (token.output, token.exception)
    made = json.loads(token.stdout)["token"]
    up.end(signal.SIGKILL)

    again = Up(data_dir)
    connection = again.connection()
    async with httpx2.AsyncClient(base_url=connection["base_url"]) as client:
        after = await client.get(runs, headers={"X-API-Key": made})
        assert after.json()["runs"] == before
    again.wait_for("Gero is ready")
    assert again.end(signal.SIGTERM) == 0
    assert servers_in(data_dir) == []
    assert not (data_dir / "connection.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="everything runs as an ordinary user already")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="util-linux is not installed")
async def test_up_runs_as_an_ordinary_user(data_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home = data_dir.with_name("home")
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    up = Up(home / "data", "--no-demo", run_as=AS_NOBODY)
    connection = up.connection()
    headers = {"Authorization": f"Bearer {connection['api_token']}"}
    async with httpx2.AsyncClient(base_url=connection["base_url"], headers=headers) as client:
        assert (await client.get("/readyz")).json()["status"] == "ok"
        assert (await client.get("/api/leaderboards")).json()["total"] == 0
    owners = {path.stat().st_uid for path in (home / "data").rglob("*")}
    assert owners == {nobody.pw_uid}
    assert up.end(signal.SIGTERM) == 0
    assert servers_in(home / "data") == []


def test_a_port_in_use_is_said_and_ends_with_1(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = gero("up", "--port", port, "--data-dir", str(data_dir), cwd=data_dir.parent)
    assert ended.returncode == 1
    assert ended.stderr == f"gero: can't listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "GERO_DATABASE_URL is not set"),
        ({"GERO_DATABASE_URL": "mysql://x"}, "GERO_DATABASE_URL: must start with postgresql://"),
        (
            {"GERO_DATABASE_URL": "postgresql://x/y", "GERO_SECRET_KEY": "short"},
            "GERO_SECRET_KEY: must be base64",
        ),
        (
            {
                "GERO_DATABASE_URL": "postgresql://x/y",
                "GERO_SECRET_KEY": SECRET_KEY,
                "GERO_BUDGET_HOLD_SECONDS": "5",
            },
            "GERO_BUDGET_HOLD_SECONDS: Input should be greater than or equal to 10 (got '5')",
        ),
        (
            {"GERO_DATABSE_URL": "x"},
            "GERO_DATABSE_URL is not a setting; did you mean GERO_DATABASE_URL?",
        ),
    ],
)
async def test_a_wrong_setting_is_one_line_and_exit_2(
    variables: dict[str, str], message: str
) -> None:
    ended = await invoke("serve", **variables)
    assert (ended.exit_code, ended.stderr) == (2, f"gero: {message}\n")
