"""The `gero` command."""

from pathlib import Path
from uuid import UUID

import click

from app.commands import (
    DATA_DIR,
    FAILED,
    NO_DATABASE,
    command,
    data_dir_database,
    data_dir_process,
    without_secret_key,
)
from app.doctor import examine
from app.logs import configure_logs
from app.metrics import create_worker_app
from app.run_commands import runs
from app.server import contract_text, create_app, create_operations
from app.services import Process
from app.serving import listen, run_until_stopped, serving, working
from app.settings import load_settings
from app.token_commands import token
from app.up import run_up
from app.version import VERSION
from app.worker import create_worker
from db.base import new_id
from db.migrations.runner import migrate_url
from resolvers.workspaces import create_workspace


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
    settings = load_settings(**NO_DATABASE)
    is_set = "log_level" in settings.model_fields_set
    configure_logs(settings.log_level if is_set else "warning", settings.log_format)
    await run_up(host=host, port=port, data_dir=data_dir, demo=not no_demo)


@main.command()
@click.option("--port", default=8000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@command
async def serve(*, port: int, host: str) -> None:
    """Serve the API alone; workers run elsewhere."""
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format)
    app, listener = create_app(settings), listen(host, port)
    await run_until_stopped(serving(app, listener, keep_alive_seconds=settings.keep_alive_seconds))


@main.command()
@click.option("--metrics-port", type=int, help="Serve /metrics there.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where they are served.")
@command
async def worker(*, metrics_port: int | None, host: str) -> None:
    """Work on background jobs alone."""
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format)
    process = Process(settings)
    parts = [working(create_worker(process, settings))]
    if metrics_port is not None:
        parts.append(serving(create_worker_app(settings, process), listen(host, metrics_port)))
    process.changes.start()
    try:
        await run_until_stopped(*parts)
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
    workspace_id = new_id()
    async with data_dir_process(data_dir) as process:
        await create_workspace(
            process.system_context(), id=workspace_id, name=name, owner_id=owner_id or new_id()
        )
    print(workspace_id)


main.add_command(runs)
main.add_command(token)


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
        settings = load_settings(**without_secret_key(), **database)
        checks = await examine(settings)
    for check in checks:
        print(
            f"{'ok  ' if check.problem is None else 'FAIL'}  {check.name}: {check.problem or 'ok'}"
        )
    return 0 if all(check.problem is None for check in checks) else FAILED
