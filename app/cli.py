"""The `gero` command."""

import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal, InvalidOperation
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec
from uuid import UUID

import click
import uvloop
from sqlalchemy import select
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from app.doctor import examine
from app.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from app.health import reason_of
from app.server import contract_text, create_app, create_operations
from app.services import Process
from app.serving import PortInUseError, listen, run_until_stopped, serving, working
from app.settings import Settings, SettingsError, load_settings
from app.up import DataDirInUseError, data_dir_lock, embedded_database, run_up
from app.version import VERSION
from app.worker import create_worker
from db.base import new_id
from db.migrations.runner import migrate_url
from db.models import Workspace
from engine.instants import rfc3339
from resolvers.errors import AppError
from resolvers.tokens import LIFETIMES, RESET_INTERVALS, create_api_token
from resolvers.workspaces import create_workspace

P = ParamSpec("P")

DEFAULT_DATA_DIR: Final = Path(".gero")
WRONG_SETTINGS: Final = 2
FAILED: Final = 1
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    default=lambda: Path(os.environ.get("GERO_DATA_DIR", DEFAULT_DATA_DIR)),
    show_default=str(DEFAULT_DATA_DIR),
    help="Where the embedded database, its secrets and connection.json are.",
)
# A table or a column that a migration makes.
MISSING: Final = {"42P01", "42703"}
# Enough for the commands that open no database.
NO_DATABASE: Final = {"database_url": "postgresql://unused", "secret_key": "A" * 43 + "="}


class CommandError(Exception):
    """A command can't do what it is asked; the message is one line that says why."""


EXPECTED: Final = (
    CommandError, DataDirInUseError, PortInUseError, EmbeddedPostgresError, AppError,
)  # fmt: skip


def command(
    run: Callable[P, Coroutine[Any, Any, int | None]],
) -> Callable[P, None]:
    """Run a command's coroutine, and turn expected failures into one line and an exit code."""

    @wraps(run)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = uvloop.run(run(*args, **kwargs))
        except SettingsError as error:
            _fail(str(error), WRONG_SETTINGS)
        except EXPECTED as error:
            _fail(str(error), FAILED)
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) not in MISSING:
                raise
            _fail("the database is not up to date: run `gero migrate`", FAILED)
        except (SQLAlchemyError, OSError) as error:
            _fail(f"the database can't be used: {reason_of(error)}", FAILED)
        else:
            sys.exit(code or 0)

    return wrapped


def _fail(message: str, code: int) -> None:
    print(f"gero: {message}", file=sys.stderr)
    sys.exit(code)


def _log(settings: Settings | None = None) -> None:
    level = settings.log_level if settings else os.environ.get("GERO_LOG_LEVEL", "warning")
    logging.basicConfig(level=level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    for name in ("pgqueuer", "httpx2"):  # a line for each job and call
        logging.getLogger(name).setLevel(logging.WARNING)


@click.group()
@click.version_option(VERSION, prog_name="gero")
def main() -> None:
    """Rank language models on your own task, and serve the winner."""


@main.command()
@click.option("--port", default=8000, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
@DATA_DIR
@click.option("--no-demo", is_flag=True, help="Leave the demo leaderboard out.")
@command
async def up(*, port: int, host: str, data_dir: Path, no_demo: bool) -> None:
    """Start everything: database, API, worker, offline sandbox and a ranked demo."""
    _log()
    await run_up(host=host, port=port, data_dir=data_dir, demo=not no_demo)


@main.command()
@click.option("--port", default=8000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@command
async def serve(*, port: int, host: str) -> None:
    """Serve the API alone; workers run elsewhere."""
    settings = load_settings()
    _log(settings)
    await run_until_stopped(serving(create_app(settings), listen(host, port)))


@main.command()
@command
async def worker() -> None:
    """Work on background jobs alone."""
    settings = load_settings()
    _log(settings)
    process = Process(settings)
    try:
        await run_until_stopped(working(create_worker(process, settings.database_url)))
    finally:
        await process.aclose()


@main.command(name="migrate")
@command
async def migrate_command() -> None:
    """Bring the database's schema up to date."""
    await migrate_url(load_settings().database_url)
    print("the database is up to date")


@main.group()
def workspace() -> None:
    """Workspaces."""


@workspace.command(name="create")
@DATA_DIR
@click.option("--name", required=True)
@click.option("--owner-id", type=click.UUID, help="The user who owns it; nobody when left out.")
@command
async def create_workspace_command(*, data_dir: Path, name: str, owner_id: UUID | None) -> None:
    """Create a workspace, and print its id."""
    async with data_dir_database(data_dir) as database:
        process = Process(load_settings(**_without_secret_key(), **database))
        workspace_id = new_id()
        try:
            await create_workspace(
                process.system_context(), id=workspace_id, name=name, owner_id=owner_id or new_id()
            )
        finally:
            await process.aclose()
    print(workspace_id)


@main.group()
def token() -> None:
    """API tokens."""


@token.command(name="create")
@DATA_DIR
@click.option("--name", required=True)
@click.option("--scope", "scopes", multiple=True, help="Repeat for several; * is all.")
@click.option("--expires-in", type=click.Choice(list(LIFETIMES)))
@click.option("--budget-usd", help="The most its calls may cost in one window.")
@click.option("--budget-reset", default="none", type=click.Choice(RESET_INTERVALS))
@click.option("--workspace-id", help="Needed when there are several workspaces.")
@click.option("--json", "as_json", is_flag=True)
@command
async def create_token(
    *,
    data_dir: Path,
    name: str,
    scopes: tuple[str, ...],
    expires_in: str | None,
    budget_usd: str | None,
    budget_reset: str,
    workspace_id: str | None,
    as_json: bool,
) -> None:
    """Create an API token; it is shown once."""
    async with data_dir_database(data_dir) as database:
        process = Process(load_settings(**_without_secret_key(), **database))
        try:
            made = await create_api_token(
                process.system_context(await _workspace(process, workspace_id)),
                name=name,
                scopes=list(scopes) or ["*"],
                expires_in=expires_in,
                budget_limit_usd=_usd(budget_usd),
                budget_reset_interval=budget_reset,
            )
        finally:
            await process.aclose()
    shown = {
        "id": str(made.id),
        "token": made.token,
        "expires_at": rfc3339(made.expires_at) if made.expires_at else None,
    }
    print(json.dumps(shown) if as_json else made.token)


@main.command(name="export-schema")
def export_schema() -> None:
    """Print schema.graphql."""
    print(create_operations(load_settings(**NO_DATABASE)).describe())


@main.command(name="export-openapi")
def export_openapi() -> None:
    """Print openapi.yaml."""
    settings = load_settings(**NO_DATABASE)
    print(contract_text(create_app(settings).api), end="")


@main.command()
@DATA_DIR
@command
async def doctor(*, data_dir: Path) -> int:
    """Check database, version, migrations, job engine and providers, and say what to do."""
    async with data_dir_database(data_dir) as database:
        settings = load_settings(**_without_secret_key(), **database)
        checks = await examine(settings)
    for check in checks:
        print(
            f"{'ok  ' if check.problem is None else 'FAIL'}  {check.name}: {check.problem or 'ok'}"
        )
    return 0 if all(check.problem is None for check in checks) else FAILED


@asynccontextmanager
async def data_dir_database(data_dir: Path) -> AsyncIterator[dict[str, str]]:
    """Yield the settings of a data directory's database, started for the time if it is not up.

    Raises:
        CommandError: Nothing was ever started there.
    """
    if "GERO_DATABASE_URL" in os.environ:
        yield {}
        return
    cluster = data_dir / "postgres"
    if not cluster.is_dir():
        raise CommandError(
            f"no database: GERO_DATABASE_URL is not set, and {data_dir} is not the data "
            "directory of a `gero up`"
        )
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(data_dir_lock(data_dir))
        except DataDirInUseError:
            # `gero up` runs there, and has the server up.
            yield {"database_url": EmbeddedPostgres(cluster).dsn}
        else:
            yield await stack.enter_async_context(embedded_database(data_dir))


def _without_secret_key() -> dict[str, str]:
    """Return a stand-in for the vault's key, for commands that open no secret."""
    return {} if "GERO_SECRET_KEY" in os.environ else {"secret_key": NO_DATABASE["secret_key"]}


async def _workspace(process: Process, wanted: str | None) -> UUID:
    """Return the workspace that is meant."""
    async with process.database.read() as session:
        present = list(await session.scalars(select(Workspace.id).order_by(Workspace.created_at)))
    if wanted is not None:
        match = [each for each in present if str(each) == wanted.casefold()]
        if not match:
            raise CommandError(f"--workspace-id: there is no workspace {wanted!r}")
        return match[0]
    if not present:
        raise CommandError(
            "there is no workspace: make one with `gero workspace create --name <name>`"
        )
    if len(present) > 1:
        raise CommandError(f"there are {len(present)} workspaces: name one with --workspace-id")
    return present[0]


def _usd(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise CommandError(f"--budget-usd: {text!r} is not an amount") from error
    if not amount.is_finite():
        raise CommandError(f"--budget-usd: {text!r} is not an amount")
    return amount
