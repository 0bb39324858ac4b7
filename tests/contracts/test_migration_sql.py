"""What squawk says of the SQL that each migration runs."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory

from db.migrations.runner import alembic_config

pytestmark = pytest.mark.audit

SCRIPTS = ScriptDirectory.from_config(alembic_config())
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()][::-1]
OLDEST_POSTGRESQL = "15.0"
# A revision may break these rules, and has to: an exception that is not needed fails as well.
EXCEPTIONS = {
    "0001": {
        "prefer-text-field",  # Alembic's own table, which says at which revision a database is
        "prefer-bigint-over-int",  # HTTP statuses and attempts
    },
    "0002": {
        "prefer-bigint-over-int",  # rows of datasets, which have at most 10,000,000
    },
    "0003": {
        "prefer-bigint-over-int",  # such rows, ranks of 200 candidates, and tokens of one call
    },
    "0004": {
        "prefer-bigint-over-int",  # the job engine's own statements, which have to be as
        "prefer-identity",  # it installs them
    },
    "0020": {
        "prefer-bigint-over-int",  # steps, of which there are at most 20
        "ban-drop-constraint",  # it makes room, in the same transaction, for one that admits more
    },
    "0025": {
        "ban-drop-constraint",  # it makes room, in the same transaction, for one that admits more
    },
    "0022": {
        # A partitioned table's index can't be built concurrently: see its docstring
        "require-concurrent-index-creation",
        "prefer-bigint-over-int",  # buckets of latency
    },
    "0017": {
        "prefer-bigint-over-int",  # versions, and requests and tokens a minute
    },
    "0016": {
        # The table is replaced by a partitioned one of its name, in one transaction
        "renaming-table",
        "renaming-object",
        "ban-drop-table",
        "prefer-bigint-over-int",  # tokens of one call, versions and buckets of latency
    },
    "0015": {
        "prefer-bigint-over-int",  # rows, replies, and tokens of one call
    },
    "0011": {
        "ban-drop-constraint",  # two snapshots may hold the same rows now; nothing relied on it
    },
    "0013": {
        "prefer-bigint-over-int",  # rows
        "ban-drop-constraint",  # it makes room, in the same transaction, for one that admits more
    },
    "0010": {
        "prefer-bigint-over-int",  # rows
    },
    "0009": {
        "prefer-bigint-over-int",  # slots, failures and openings
    },
    "0008": {
        "prefer-bigint-over-int",  # rows, votes and attempts
    },
    "0006": {
        "prefer-bigint-over-int",  # rows and calls of a run, and bands of 200 candidates
        "ban-drop-constraint",  # two make room, in the same transaction, for one that admits more
    },
}


def sql_of(revision: str) -> str:
    """Return what `alembic upgrade --sql` prints for one revision."""
    script = SCRIPTS.get_revision(revision)
    config = alembic_config()
    config.output_buffer = io.StringIO()
    command.upgrade(config, f"{script.down_revision or 'base'}:{revision}", sql=True)
    return config.output_buffer.getvalue()


@pytest.mark.parametrize("revision", REVISIONS)
def test_squawk_finds_nothing_wrong_in_a_migration(revision: str, tmp_path: Path) -> None:
    squawk = shutil.which("squawk", path=Path(sys.executable).parent)
    assert squawk is not None, "squawk is not installed: run `make setup`"
    path = tmp_path / f"{revision}.sql"
    path.write_text(sql_of(revision))
    ended = subprocess.run(
        [squawk, "--pg-version", OLDEST_POSTGRESQL, "--reporter", "json", path],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(ended.stdout)
    exceptions = EXCEPTIONS.get(revision, set())
    unexpected = [
        f"line {problem['line']}: {problem['rule_name']}: {problem['message']}"
        for problem in found
        if problem["rule_name"] not in exceptions
    ]
    assert not unexpected, "\n".join(unexpected)
    assert {problem["rule_name"] for problem in found} == exceptions
