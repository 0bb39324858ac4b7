"""Runs are listed and followed from a terminal, from a pipe, and after their end."""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE
from asyncio.subprocess import Process as Watcher
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.responses import Response

from app.services import Process
from app.settings import Settings
from engine.instants import rfc3339
from resolvers.following import SHORTEST_WAIT_SECONDS
from resolvers.inputs import NewRun
from resolvers.run_lifecycle import notify_run
from resolvers.run_progress import RunState, follow_run
from resolvers.run_requests import cancel_run, start_run
from tests.app.test_processes import variables
from tests.app.test_up import GERO, LONGEST_SECONDS, environment, invoke
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run
from tests.model_peer import ModelPeer, model_peer

ROWS = 10
HIDDEN_CURSOR, SHOWN_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(ROWS) as made:
        yield made


@pytest.fixture
async def held_peer() -> AsyncIterator[ModelPeer]:
    """Yield a peer that answers nothing until it is opened."""
    async with model_peer(ROWS) as made:
        made.open.clear()
        yield made
        made.open.set()


@pytest.fixture
def setting_overrides(peer: ModelPeer) -> dict[str, Any]:
    """Read datasets from the peer, with room for all calls that are held."""
    return {"huggingface_url": peer.url, "run_concurrency": 5 * ROWS}


@pytest.fixture
def given(settings: Settings, peer: ModelPeer) -> dict[str, str]:
    """Return what the command's environment says."""
    return variables(settings.database_url, peer.url)


@pytest.fixture
async def run_id(process: Process, tenant: Tenant, peer: ModelPeer, held_peer: ModelPeer) -> UUID:
    """Ask for a run of two candidates: one answers at once and rightly, one is held and wrong."""
    held_peer.answer = lambda _name, _question: "wrong"
    board = await make_leaderboard(
        process, tenant.workspace_id, url=peer.dataset_url, system_prompt="{input}",
        evaluation={"match": "exact"},
    )  # fmt: skip
    for name, url in (("quick", peer.endpoint("q")), ("held", held_peer.endpoint("h"))):
        await make_candidate(process, board, endpoint_url=url, display_name=name)
    context = process.system_context(tenant.workspace_id)
    return (await start_run(context, board.id, NewRun())).id


async def await_end(process: Process, tenant: Tenant, run_id: UUID) -> RunState:
    context = process.system_context(tenant.workspace_id)
    states = [state async for state in await follow_run(context, run_id)]
    return states[-1]


@asynccontextmanager
async def watching(
    run_id: UUID, given: dict[str, str], stdout: int = PIPE, **more: str
) -> AsyncIterator[Watcher]:
    """Run the real command while the block runs."""
    env = environment(**given, **more)
    started = await asyncio.create_subprocess_exec(
        GERO, "runs", "watch", str(run_id), stdout=stdout, stderr=PIPE, env=env,
        # A shell's job in the background, as a suite may be, passes on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def read_line(watcher: Watcher) -> str:
    assert watcher.stdout is not None
    return (await watcher.stdout.readline()).decode()


async def test_a_pipe_gets_a_plain_line_at_each_change_until_the_run_has_ended(
    worker: None, process: Process, held_peer: ModelPeer, run_id: UUID, given: dict[str, str]
) -> None:
    async with watching(run_id, given, FORCE_COLOR="1") as watcher:
        lines = [await read_line(watcher)]
        while not lines[-1].startswith("running  50%"):
            lines.append(await read_line(watcher))
        # It looks again and finds another speed, which is no reason for a line.
        async with process.database.write() as session:
            await notify_run(session, run_id)
        await asyncio.sleep(2 * SHORTEST_WAIT_SECONDS)
        held_peer.open.set()
        rest, errors = await watcher.communicate()
    assert (watcher.returncode, errors) == (0, b"")
    half = (
        r"running  50%  10 of 20 calls, 0 failed, \d+\.\d calls/s(, \d:\d\d:\d\d left)?, 0\.01 USD"
    )
    assert re.fullmatch(half, lines[-1].rstrip("\n"))
    lines += rest.decode().splitlines(keepends=True)
    assert [line.rstrip("\n") for line in lines[-3:]] == [
        "quick: mean 1.0000, 10 rows, 0 failed",
        "held: mean 0.0000, 10 rows, 0 failed",
        "completed  100%  20 of 20 calls, 0 failed, 0.02 USD",
    ]
    reached = [tuple(line.split()[:2]) for line in [*lines[:-3], lines[-1]]]
    assert len(set(reached)) == len(reached)
    percents = [int(percent.rstrip("%")) for _, percent in reached if percent != "-"]
    assert percents == sorted(percents)
    assert all(line[:-1].isprintable() and line.endswith("\n") for line in lines)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Yield a terminal: the side of whoever looks at it, and the side of what it runs."""
    outside, inside = os.openpty()
    yield outside, inside
    os.close(inside)
    os.close(outside)


async def read_until(outside: int, pattern: bytes) -> bytes:
    seen = b""
    while not re.search(pattern, seen, re.DOTALL):
        seen += await asyncio.to_thread(os.read, outside, 65_536)
    return seen


async def test_a_terminal_shows_a_bar_and_scores_and_ctrl_c_leaves_the_run_alone(
    worker: None, process: Process, tenant: Tenant, held_peer: ModelPeer, run_id: UUID,
    given: dict[str, str], terminal: tuple[int, int],
) -> None:  # fmt: skip
    outside, inside = terminal
    async with watching(run_id, given, inside, TERM="xterm") as watcher:
        seen = await read_until(outside, b"50%.*held ")
        watcher.send_signal(signal.SIGINT)
        seen += await read_until(outside, re.escape(SHOWN_CURSOR))
        _, errors = await watcher.communicate()
    assert (watcher.returncode, errors) == (130, b"")
    assert seen.count(HIDDEN_CURSOR) == 1
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode().replace("\r\n", "\n"))
    last = last[last.rindex("running") :]
    assert re.match(r"running ━+╺━+ 50% *\n10 of 20 calls, 0 failed, .* 0\.01 USD *\n", last)
    table = [line.split() for line in last.splitlines()[2:5]]
    assert table == [
        ["CANDIDATE", "MEAN", "ROWS", "FAILED"], ["quick", "1.0000", "10", "0"],
        ["held", "-", "0", "0"],
    ]  # fmt: skip
    held_peer.open.set()
    ended = await await_end(process, tenant, run_id)
    assert (ended.status, ended.done) == ("completed", 2 * ROWS)


async def test_a_terminal_is_left_with_the_final_state(
    process: Process, tenant: Tenant, given: dict[str, str], terminal: tuple[int, int]
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    # A name is somebody's text: no markup, no control sequence.
    candidate = await make_candidate(process, board, display_name="[red]x\x1b[31m\ny")
    run = await make_ranked_run(process, board, [candidate])
    outside, inside = terminal
    async with watching(run.id, given, inside, TERM="xterm", NO_COLOR="1") as watcher:
        seen = await read_until(outside, re.escape(SHOWN_CURSOR))
        assert await watcher.wait() == 0
    assert b"100%" in seen
    assert b"2 of 2 calls, 0 failed, 0.01 USD" in seen
    assert b"[red]x [31m y  1.0000     2       0" in seen


async def test_a_run_that_has_ended_prints_its_final_state(
    process: Process, tenant: Tenant, given: dict[str, str]
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    names = ("first\n\x1b[31m", "second")
    candidates = [await make_candidate(process, board, display_name=name) for name in names]
    run = await make_ranked_run(process, board, candidates)
    ended = await invoke("runs", "watch", str(run.id), **given)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "first  [31m: mean 1.0000, 2 rows, 0 failed",
        "second: mean 0.5000, 2 rows, 0 failed",
        "completed  100%  4 of 4 calls, 0 failed, 0.02 USD",
    ]


async def test_a_failed_run_is_an_error(
    worker: None, process: Process, tenant: Tenant, peer: ModelPeer, held_peer: ModelPeer,
    run_id: UUID, given: dict[str, str],
) -> None:  # fmt: skip
    for each in (peer, held_peer):
        each.answer = lambda _name, _question: Response(status_code=401)
    held_peer.open.set()
    ended = await invoke("runs", "watch", str(run_id), **given)
    refused = "all 20 calls failed with credential_refused: the endpoint answered 401"
    assert (ended.exit_code, ended.stderr) == (1, f"gero: run {run_id} failed: {refused}\n")
    last = ended.stdout.splitlines()[-1]
    assert last.startswith("failed  100%  20 of 20 calls, 20 failed, ")


async def test_a_cancelled_run_is_an_error(
    process: Process, tenant: Tenant, run_id: UUID, given: dict[str, str]
) -> None:
    await cancel_run(process.system_context(tenant.workspace_id), run_id)
    ended = await invoke("runs", "watch", str(run_id), **given)
    assert (ended.exit_code, ended.stderr) == (1, f"gero: run {run_id} was cancelled\n")
    last = ended.stdout.splitlines()[-1]
    assert last == "cancelled  -  0 of ? calls, 0 failed, 0.00 USD"


async def test_it_ends_quietly_when_nobody_reads_on(
    process: Process, tenant: Tenant, run_id: UUID, given: dict[str, str]
) -> None:
    reading, writing = os.pipe()
    async with watching(run_id, given, writing, PYTHONUNBUFFERED="") as watcher:
        os.close(writing)
        with os.fdopen(reading) as lines:
            begun = "queued  -  0 of ? calls, 0 failed, 0.0 calls/s, 0.00 USD\n"
            assert await asyncio.to_thread(lines.readline) == begun
        await cancel_run(process.system_context(tenant.workspace_id), run_id)
        _, errors = await watcher.communicate()
    assert (watcher.returncode, errors) == (1, b"")


async def test_what_can_not_be_watched_is_named_and_ends_with_2(
    process: Process, given: dict[str, str]
) -> None:
    missing = str(uuid4())
    ended = await invoke("runs", "watch", missing, **given)
    said = f"gero: run {missing} does not exist\n"
    assert (ended.exit_code, ended.stdout, ended.stderr) == (2, "", said)
    ended = await invoke("runs", "watch", "latest", **given)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "Invalid value for 'RUN_ID': 'latest' is not a valid UUID" in ended.stderr


async def test_without_a_database_watching_is_an_error(tmp_path: Path) -> None:
    ended = await invoke("runs", "watch", str(uuid4()), "--data-dir", str(tmp_path))
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("gero: no database: ")


async def test_runs_are_listed_newest_first_and_by_leaderboard_and_workspace(
    process: Process, tenant: Tenant, run_id: UUID, given: dict[str, str]
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id, name="the\nother")
    later = await make_ranked_run(process, board, [])

    async def listed(*options: str) -> list[str]:
        ended = await invoke("runs", "list", *options, **given)
        assert (ended.exit_code, ended.stderr) == (0, "")
        return ended.stdout.splitlines()

    newest, oldest = await listed()
    assert newest == f"{later.id}  completed        {rfc3339(later.created_at)}  the other"
    assert oldest.split()[:2] == [str(run_id), "queued"]
    assert await listed("--workspace", str(tenant.workspace_id)) == [newest, oldest]
    assert await listed("--workspace", str(uuid4())) == []
    assert await listed("--leaderboard", str(board.id)) == [newest]
