"""Real peers for every test: PostgreSQL, the sandbox provider, the API over HTTP, a worker.

One server of each PostgreSQL version and one template database in it a session, one clone a test.
"""

import asyncio
import base64
import shutil
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import jwt
import pytest

from app.embedded_postgres import EmbeddedPostgres
from app.sandbox.server import create_sandbox
from app.server import create_app
from app.services import Process
from app.serving import listen, serving, url_of, working
from app.settings import Settings, load_settings
from app.worker import create_worker
from db.migrations.runner import migrate_url
from db.models import Candidate, Leaderboard
from tests.factories import Tenant, make_candidate, make_leaderboard, make_tenant

SECRET_KEY = base64.b64encode(bytes(range(32))).decode()
JWT_SECRET = "a secret of the tests, long enough for HS256"
# A test's database lives as long as the test: nothing of it must survive a crash.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
LONGEST_WAIT_SECONDS = 30
MEMORY_DIR = Path("/dev/shm")
MEMORY_NEEDED_BYTES = 2**30
# Clients speak plain HTTP: for those with the usual context, certificates are read each time.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# The oldest PostgreSQL that is supported, as Debian 12 installs it.
OLDEST_BIN_DIR = Path("/usr/lib/postgresql/15/bin")
ON_OLDEST_TOO = pytest.mark.parametrize(
    "postgres_bin_dir",
    [
        pytest.param(None, id="bundled"),
        pytest.param(
            OLDEST_BIN_DIR,
            id="oldest",
            marks=pytest.mark.skipif(
                not OLDEST_BIN_DIR.is_dir(), reason="Debian's postgresql-15 is not installed"
            ),
        ),
    ],
    indirect=True,
)


@contextmanager
def database_dir() -> Iterator[Path]:
    """Make a directory for databases: in memory where there is room, which is far faster."""
    is_roomy = MEMORY_DIR.is_dir() and shutil.disk_usage(MEMORY_DIR).free > MEMORY_NEEDED_BYTES
    with tempfile.TemporaryDirectory(
        prefix="gero-", dir=MEMORY_DIR if is_roomy else None, ignore_cleanup_errors=True
    ) as made:
        yield Path(made)


def plain_dsn(url: str, database: str) -> str:
    return url.replace("+asyncpg", "").replace("/gero?", f"/{database}?")


@dataclass(frozen=True)
class PostgresServer:
    """A running server, a connection to it, and the migrated database that tests clone."""

    postgres: EmbeddedPostgres
    admin: asyncpg.Connection
    template: str


class PostgresServers:
    """The session's servers, each started when a test first wants its version."""

    def __init__(self, data_dir: Path, stack: AsyncExitStack) -> None:
        self._data_dir = data_dir
        self._stack = stack
        self._running: dict[Path | None, PostgresServer] = {}

    async def of(self, bin_dir: Path | None) -> PostgresServer:
        if bin_dir not in self._running:
            data_dir = self._data_dir / str(len(self._running))
            postgres = EmbeddedPostgres(data_dir, bin_dir=bin_dir, settings=FAST)
            self._stack.enter_context(postgres)
            admin = await asyncpg.connect(plain_dsn(postgres.dsn, "postgres"))
            self._stack.push_async_callback(admin.close)
            template = f"template_{uuid4().hex}"
            await admin.execute(f"CREATE DATABASE {template}")
            await migrate_url(postgres.dsn.replace("/gero?", f"/{template}?"))
            self._running[bin_dir] = PostgresServer(postgres, admin, template)
        return self._running[bin_dir]


@pytest.fixture(scope="session")
def memory_dir() -> Iterator[Path]:
    with database_dir() as made:
        yield made


@pytest.fixture(scope="session")
async def postgres_servers(memory_dir: Path) -> AsyncIterator[PostgresServers]:
    async with AsyncExitStack() as stack:
        yield PostgresServers(memory_dir, stack)


@pytest.fixture
def postgres_bin_dir(request: pytest.FixtureRequest) -> Path | None:
    """Return where the server's programs are; None is the bundled ones. See ON_OLDEST_TOO."""
    return getattr(request, "param", None)


@pytest.fixture
async def postgres_server(
    postgres_servers: PostgresServers, postgres_bin_dir: Path | None
) -> PostgresServer:
    return await postgres_servers.of(postgres_bin_dir)


@pytest.fixture
async def database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    await postgres_server.admin.execute(
        f"CREATE DATABASE {name} TEMPLATE {postgres_server.template} STRATEGY FILE_COPY"
    )
    yield postgres_server.postgres.dsn.replace("/gero?", f"/{name}?")
    await postgres_server.admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
async def sandbox_url() -> AsyncIterator[str]:
    listener = listen("127.0.0.1", 0)
    async with serving(create_sandbox(latency_scale=0), listener):
        yield url_of(listener)


@pytest.fixture
def setting_overrides() -> dict[str, Any]:
    """Override in a module or by indirect parametrisation to run with other settings."""
    return {}


@pytest.fixture
def object_dir(memory_dir: Path) -> Path:
    """Return where a test's snapshots are."""
    return memory_dir / uuid4().hex


@pytest.fixture
def settings(
    database_url: str, sandbox_url: str, object_dir: Path, setting_overrides: dict[str, Any]
) -> Settings:
    return load_settings(
        **{
            "database_url": database_url,
            "secret_key": SECRET_KEY,
            "jwt_secret": JWT_SECRET,
            "sandbox_url": sandbox_url,
            "openrouter_url": f"{sandbox_url}/api/v1",
            "huggingface_url": sandbox_url,
            "allow_private_endpoints": True,
            "database_pool_size": 10,
            "object_store_url": str(object_dir),
            **setting_overrides,
        }
    )


@pytest.fixture
async def process(settings: Settings) -> AsyncIterator[Process]:
    made = Process(settings)
    yield made
    await made.aclose()


@pytest.fixture
async def base_url(settings: Settings, process: Process) -> AsyncIterator[str]:
    listener = listen("127.0.0.1", 0)
    async with serving(create_app(settings, process), listener):
        yield url_of(listener)


@pytest.fixture
async def worker(settings: Settings, process: Process) -> AsyncIterator[None]:
    async with working(create_worker(process, settings)):
        yield


@pytest.fixture
async def tenant(process: Process) -> Tenant:
    return await make_tenant(process)


@pytest.fixture
async def board(process: Process, tenant: Tenant) -> Leaderboard:
    return await make_leaderboard(process, tenant.workspace_id)


@pytest.fixture
async def candidate(process: Process, board: Leaderboard) -> Candidate:
    return await make_candidate(process, board)


@pytest.fixture
async def anonymous(base_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=base_url, timeout=30, verify=NO_TLS) as client:
        yield client


@pytest.fixture
async def client(base_url: str, tenant: Tenant) -> AsyncIterator[httpx2.AsyncClient]:
    """A REST and GraphQL client of `tenant`, over real HTTP."""
    async with httpx2.AsyncClient(
        base_url=base_url, headers=tenant.headers, timeout=30, verify=NO_TLS
    ) as made:
        yield made


def session_token(user_id: object, **claims: Any) -> str:
    """Sign a session as Supabase would; a claim of None is left out."""
    now = int(time.time())
    body = {
        "iss": "gero",
        "aud": "authenticated",
        "sub": str(user_id),
        "iat": now,
        "exp": now + 600,
        **claims,
    }
    body = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(body, JWT_SECRET, algorithm="HS256")


async def ask(client: httpx2.AsyncClient, query: str, **variables: Any) -> Any:
    """POST a GraphQL operation and return its whole answer."""
    response = await client.post("/graphql", json={"query": query, "variables": variables})
    return response.json()


async def await_run(client: httpx2.AsyncClient, leaderboard_id: object, run_id: object) -> Any:
    """Poll REST until a run has ended, and return it."""
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while True:
            listed = (await client.get(f"/api/leaderboards/{leaderboard_id}/runs")).json()
            run = next(each for each in listed["runs"] if each["id"] == str(run_id))
            if run["status"] in {"completed", "failed", "cancelled"}:
                return run
            await asyncio.sleep(0.05)


@dataclass
class SqlLog:
    """The statements that a process's pool ran while recording."""

    statements: list[str] = field(default_factory=list)
    recording: bool = False

    @contextmanager
    def record(self) -> Iterator[list[str]]:
        self.statements, self.recording = [], True
        try:
            yield self.statements
        finally:
            self.recording = False


@pytest.fixture
def sql(process: Process) -> Iterator[SqlLog]:
    log = SqlLog()

    def note(statement: str, _seconds: float) -> None:
        # A token is remembered for a second, so that its own statement may or may not come.
        if log.recording and "FROM api_token" not in statement:
            log.statements.append(statement)

    process.database.watchers.append(note)
    yield log
    process.database.watchers.remove(note)


REPLAY_DATA = Path(__file__).parents[2] / "shared" / "data" / "gsm8k" / "recorded.jsonl"
