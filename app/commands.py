"""What the commands of `gero` share: their errors, their data directory, their database."""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec

import click
import uvloop
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from app.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from app.health import reason_of
from app.services import Process
from app.serving import PortInUseError
from app.settings import DEFAULT_DATA_DIR, SettingsError, load_settings
from app.up import DataDirInUseError, data_dir_lock, data_dir_objects, embedded_database
from resolvers.errors import AppError

P = ParamSpec("P")

WRONG_SETTINGS: Final = 2
FAILED: Final = 1
DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    default=lambda: Path(os.environ.get("GERO_DATA_DIR", DEFAULT_DATA_DIR)),
    show_default=str(DEFAULT_DATA_DIR),
    help="Where the embedded database, its secrets and connection.json are.",
)
# A table or a column that a migration makes.
MISSING: Final = {"42P01", "42703"}
# Enough for the commands that open neither the database nor a snapshot.
NO_DATABASE: Final = {
    "database_url": "postgresql://unused",
    "secret_key": "A" * 43 + "=",
    "object_store_url": tempfile.gettempdir(),  # it is there, and nothing is written to it
}


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
        except BrokenPipeError:
            raise  # nobody reads what is printed any longer
        except (SQLAlchemyError, OSError) as error:
            _fail(f"the database can't be used: {reason_of(error)}", FAILED)
        else:
            sys.exit(code or 0)

    return wrapped


def _fail(message: str, code: int) -> None:
    print(f"gero: {message}", file=sys.stderr)
    sys.exit(code)


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


@asynccontextmanager
async def data_dir_process(data_dir: Path) -> AsyncIterator[Process]:
    """Yield the services of a process on a data directory's database."""
    async with data_dir_database(data_dir) as database:
        objects = data_dir_objects(data_dir)
        process = Process(load_settings(**without_secret_key(), **database, **objects))
        try:
            yield process
        finally:
            await process.aclose()


def without_secret_key() -> dict[str, str]:
    """Return a stand-in for the vault's key, for commands that open no secret."""
    return {} if "GERO_SECRET_KEY" in os.environ else {"secret_key": NO_DATABASE["secret_key"]}
