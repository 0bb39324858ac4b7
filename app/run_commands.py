"""The commands about runs."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text
from sqlalchemy import select

from app.commands import DATA_DIR, FAILED, CommandError, command, data_dir_process
from app.services import Process
from db.models import Candidate, Leaderboard, Run, RunCandidate
from engine.instants import rfc3339
from engine.money import plain_usd
from resolvers.run_progress import PartialScore, RunState, follow_run

NO_SUCH_RUN: Final = 2
INTERRUPTED: Final = 130  # what a shell says of whoever SIGINT ends
MAX_LISTED: Final = 50

Names: TypeAlias = Mapping[UUID, str]
Show: TypeAlias = Callable[[RunState], None]


@click.group()
def runs() -> None:
    """Runs."""


@runs.command(name="list")
@DATA_DIR
@click.option("--leaderboard", type=click.UUID, help="Its runs alone.")
@click.option("--workspace", type=click.UUID, help="Its runs alone.")
@command
async def list_runs(*, data_dir: Path, leaderboard: UUID | None, workspace: UUID | None) -> None:
    """List the newest runs: id, status, when they were asked for, and leaderboard."""
    statement = (
        select(Run.id, Run.status, Run.created_at, Leaderboard.name)
        .join(Leaderboard, Leaderboard.id == Run.leaderboard_id)
        .order_by(Run.id.desc())
        .limit(MAX_LISTED)
    )
    for column, wanted in ((Run.leaderboard_id, leaderboard), (Run.workspace_id, workspace)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    async with data_dir_process(data_dir) as process, process.database.read() as session:
        found = (await session.execute(statement)).all()
    for run_id, status, created_at, name in found:
        print(f"{run_id}  {status:<15}  {rfc3339(created_at)}  {_printable(name)}")


@runs.command(name="watch")
@click.argument("run_id", type=click.UUID)
@DATA_DIR
@command
async def watch_run(*, run_id: UUID, data_dir: Path) -> int:
    """Follow a run until it has ended; Ctrl-C leaves, and the run goes on.

    Exits with 0 when the run completed, 1 when it failed or was cancelled.
    """
    try:
        async with data_dir_process(data_dir) as process:
            state = await _follow(process, run_id)
    except asyncio.CancelledError:  # by Ctrl-C: nobody else cancels a command
        return INTERRUPTED
    if state is None:
        print(f"gero: run {run_id} does not exist", file=sys.stderr)
        return NO_SUCH_RUN
    if state.status != "completed":
        failed = f"failed: {_printable(state.error or '')}"
        ending = "was cancelled" if state.status == "cancelled" else failed
        raise CommandError(f"run {run_id} {ending}")
    return 0


async def _follow(process: Process, run_id: UUID) -> RunState | None:
    """Show a run's states, and return its last; None when there is no such run."""
    entrants = (
        select(Candidate.id, Candidate.display_name)
        .join(RunCandidate, RunCandidate.candidate_id == Candidate.id)
        .where(RunCandidate.run_id == run_id)
    )
    async with process.database.read() as session:
        workspace_id = await session.scalar(select(Run.workspace_id).where(Run.id == run_id))
        names = {row.id: _printable(row.display_name) for row in await session.execute(entrants)}
    if workspace_id is None:
        return None
    state = None
    with _showing(names) as show:
        async for state in await follow_run(process.system_context(workspace_id), run_id):
            show(state)
    return state


def _showing(names: Names) -> AbstractContextManager[Show]:
    console = Console()
    # rich takes a pipe for a terminal where FORCE_COLOR is set.
    is_terminal = sys.stdout.isatty() and console.is_interactive
    return _drawing(console, names) if is_terminal else _printing(names)


@contextmanager
def _drawing(console: Console, names: Names) -> Iterator[Show]:
    """Yield what draws each state in the place of the one before."""
    with Live(console=console, auto_refresh=False) as live:
        yield lambda state: live.update(_picture(state, names), refresh=True)


@contextmanager
def _printing(names: Names) -> Iterator[Show]:
    """Yield what prints a line at each change of a whole percent or of the status."""
    said = ""

    def show(state: RunState) -> None:
        nonlocal said
        reached = f"{state.status}  {_percent(state)}"
        if state.has_ended:
            for score in state.scores:
                name, mean, row_count, failed = _cells(score, names)
                _print_line(f"{name}: mean {mean}, {row_count} rows, {failed} failed")
        if reached != said:
            _print_line(f"{reached}  {_summary(state)}")
        said = reached

    yield show


def _print_line(line: str) -> None:
    """Print a line for whoever reads on.

    Raises:
        click.exceptions.Exit: Nobody does.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError as error:
        # What could not be written would be tried again at the end, and complained about.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(FAILED) from error


def _picture(state: RunState, names: Names) -> Group:
    progress = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=state.total or 1, completed=state.done)
    progress.add_row(Text(state.status, style="bold"), bar, Text(_percent(state)))
    counts = [Column(heading, justify="right") for heading in ("MEAN", "ROWS", "FAILED")]
    scores = Table(Column("CANDIDATE", no_wrap=True), *counts, box=None, pad_edge=False)
    for score in state.scores:
        scores.add_row(*map(Text, _cells(score, names)))
    return Group(progress, Text(_summary(state)), scores)


def _cells(score: PartialScore, names: Names) -> tuple[str, str, str, str]:
    mean = "-" if score.score is None else f"{score.score:.4f}"
    return names[score.candidate_id], mean, str(score.row_count), str(score.failed)


def _percent(state: RunState) -> str:
    return f"{100 * state.done // state.total}%" if state.total else "-"


def _summary(state: RunState) -> str:
    total = "?" if state.total is None else state.total
    parts = [f"{state.done} of {total} calls", f"{state.failed} failed"]
    if not state.has_ended:
        parts.append(f"{state.calls_per_second} calls/s")
        if state.seconds_left is not None:
            parts.append(f"{timedelta(seconds=round(state.seconds_left))} left")
    return ", ".join([*parts, f"{plain_usd(state.cost_usd)} USD"])


def _printable(text: str) -> str:
    """Return *text* without what moves a cursor: names and errors are other people's."""
    return "".join(character if character.isprintable() else " " for character in text)
