"""`gero up`: everything in one process tree, on a data directory of its own."""

import asyncio
import fcntl
import ipaddress
import json
import os
import secrets
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jwt

from app.demo import (
    LEADERBOARD_ID,
    OWNER_ID,
    WORKSPACE_ID,
    await_demo_ranking,
    create_demo_leaderboard,
    create_demo_workspace,
)
from app.embedded_postgres import EmbeddedPostgres
from app.sandbox.server import create_sandbox
from app.server import create_app
from app.services import Process
from app.serving import listen, serving, stop_signal, url_of, working
from app.settings import Settings, load_settings
from app.worker import create_worker
from db.migrations.runner import migrate_url
from resolvers.tokens import create_api_token

SESSION_SECONDS = 30 * 24 * 3600
SECRET_NAMES = ("secret_key", "jwt_secret", "cron_secret")


class DataDirInUseError(Exception):
    """Another `gero up` runs on the data directory."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What `connection.json` tells programs on the same machine."""

    base_url: str
    graphql_url: str
    api_token: str
    session_token: str
    cron_secret: str
    workspace_id: str
    demo_leaderboard_id: str | None
    sandbox_url: str | None
    pid: int


@contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Hold *data_dir* for this process; a killed process holds nothing.

    Raises:
        DataDirInUseError: Another process holds it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataDirInUseError(f"{data_dir} is in use by another `gero up`") from error
        yield


def write_private(path: Path, text: str) -> None:
    """Replace *path* by *text* in one step, readable by its owner alone."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def local_secrets(data_dir: Path) -> dict[str, str]:
    """Return the data directory's own secrets, made at its first start."""
    path = data_dir / "secrets.json"
    if not path.exists():
        made = {
            "secret_key": b64encode(secrets.token_bytes(32)).decode(),
            "jwt_secret": secrets.token_urlsafe(48),
            "cron_secret": secrets.token_urlsafe(32),
        }
        write_private(path, json.dumps(made, indent=2) + "\n")
    kept: dict[str, str] = json.loads(path.read_text())
    return {name: kept[name] for name in SECRET_NAMES if f"GERO_{name.upper()}" not in os.environ}


def session_token(settings: Settings) -> str:
    """Return a session of the demo's owner, as Supabase would sign it."""
    if settings.jwt_secret is None:
        raise RuntimeError("gero up always has a jwt_secret")
    now = int(time.time())
    claims = {
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "sub": str(OWNER_ID),
        "role": "authenticated",
        "iat": now,
        "exp": now + SESSION_SECONDS,
    }
    return jwt.encode(claims, settings.jwt_secret.get_secret_value(), algorithm="HS256")


def is_loopback(host: str) -> bool:
    """Tell whether *host* is reachable from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def embedded_database(data_dir: Path) -> AsyncIterator[dict[str, str]]:
    """Start the embedded server, unless the environment names another."""
    if "GERO_DATABASE_URL" in os.environ:
        yield {}
        return
    server = EmbeddedPostgres(data_dir / "postgres")
    await asyncio.to_thread(server.start)
    try:
        yield {"database_url": server.dsn}
    finally:
        await asyncio.to_thread(server.stop)


def data_dir_objects(data_dir: Path) -> dict[str, str]:
    """Return where *data_dir* keeps snapshots, unless the environment says otherwise."""
    if "GERO_OBJECT_STORE_URL" in os.environ:
        return {}
    return {"object_store_url": str((data_dir / "objects").resolve())}


async def run_up(*, host: str, port: int, data_dir: Path, demo: bool) -> None:
    """Run everything until a signal comes.

    Raises:
        DataDirInUseError: Another `gero up` runs on *data_dir*.
        PortInUseError: Another process listens on *port*.
        EmbeddedPostgresError: The embedded server can't be started.
        SettingsError: A setting is wrong.
    """
    stopping = stop_signal()
    async with AsyncExitStack() as stack:
        stack.enter_context(data_dir_lock(data_dir))
        listener = listen(host, port)
        stack.callback(listener.close)
        overrides: dict[str, Any] = dict(local_secrets(data_dir))
        overrides |= await stack.enter_async_context(embedded_database(data_dir))
        overrides |= data_dir_objects(data_dir)
        if "GERO_SANDBOX_URL" not in os.environ:
            sandbox = listen("127.0.0.1", 0)
            stack.callback(sandbox.close)
            await stack.enter_async_context(serving(create_sandbox(), sandbox))
            overrides["sandbox_url"] = url_of(sandbox)
        if "GERO_ALLOW_PRIVATE_ENDPOINTS" not in os.environ:
            overrides["allow_private_endpoints"] = is_loopback(host)
        settings = load_settings(**overrides)
        process = Process(settings)
        stack.push_async_callback(process.aclose)
        await migrate_url(settings.database_url)
        await create_demo_workspace(process)
        await stack.enter_async_context(working(create_worker(process, settings)))
        connection = await _connect(process, settings, url_of(listener), data_dir, demo=demo)
        app = create_app(settings, process)
        await stack.enter_async_context(
            serving(app, listener, keep_alive_seconds=settings.keep_alive_seconds)
        )
        path = data_dir / "connection.json"
        write_private(path, json.dumps(asdict(connection), indent=2) + "\n")
        stack.callback(path.unlink, missing_ok=True)
        if demo:
            await _rank_demo(process)
        _welcome(connection, path)
        await stopping.wait()


async def _connect(
    process: Process, settings: Settings, base_url: str, data_dir: Path, *, demo: bool
) -> Connection:
    """Make the credentials that are printed; the API token stays the same from start to start."""
    kept = data_dir / "api_token"
    if not kept.exists():
        made = await create_api_token(
            process.system_context(WORKSPACE_ID),
            name="gero up",
            scopes=["*"],
            expires_in=None,
            budget_limit_usd=None,
            budget_reset_interval="none",
        )
        write_private(kept, made.token)
    cron_secret = settings.cron_secret.get_secret_value() if settings.cron_secret else ""
    return Connection(
        base_url=base_url,
        graphql_url=f"{base_url}/graphql",
        api_token=kept.read_text(),
        session_token=session_token(settings),
        cron_secret=cron_secret,
        workspace_id=str(WORKSPACE_ID),
        demo_leaderboard_id=str(LEADERBOARD_ID) if demo else None,
        sandbox_url=settings.sandbox_url,
        pid=os.getpid(),
    )


async def _rank_demo(process: Process) -> None:
    """Make the demo; a demo that can't be made is said, and leaves the rest working."""
    try:
        await create_demo_leaderboard(process)
        status = await await_demo_ranking(process)
    except Exception as error:  # noqa: BLE001 - whatever it is, the user's own work goes on
        print(f"the demo leaderboard could not be made: {error}", file=sys.stderr)
        return
    if status != "completed":
        print("the demo leaderboard's run failed; see its error in GraphiQL", file=sys.stderr)


def _welcome(connection: Connection, path: Path) -> None:
    board = connection.demo_leaderboard_id or "<leaderboard id>"
    base, token = connection.base_url, connection.api_token
    authorization = f"-H 'Authorization: Bearer {token}'"
    json_type = "-H 'Content-Type: application/json'"
    print(
        f"""
Gero is ready.

  GraphiQL       {connection.graphql_url}#token={token}
  REST           {base}/api/leaderboards
  Contract       {base}/openapi.yaml

  API token      {token}
  Session token  {connection.session_token}
  (also in {path})

Three calls to try:

  curl -s {authorization} {base}/api/leaderboards/{board}/runs
  curl -s {authorization} {json_type} \\
    -d '{{"input": "What is 17 + 25?"}}' {base}/v1/leaderboard/{board}/inference
  curl -s {authorization} '{base}/v1/leaderboard/{board}/traces?limit=1'

The demo's models are simulations, named sandbox/...; their answers are made up.
""",
        flush=True,
    )
