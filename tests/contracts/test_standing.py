"""Things that must stay true of the whole code base."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest

import resolvers
from app.version import VERSION
from resolvers.errors import AppError, ErrorCode
from rest_compat.problems import STATUS

ROOT = Path(__file__).parents[2]
ROOMS = (
    "app",
    "compiled_graphql",
    "db",
    "engine",
    "jobs",
    "providers",
    "resolvers",
    "rest_compat",
    "schema",
)


def ours(rooms: Iterable[str], pattern: str) -> list[Path]:
    found = (path for room in rooms for path in (ROOT / room).rglob(pattern))
    return sorted(path for path in found if "node_modules" not in path.parts)


SOURCES = ours(ROOMS, "*.py")
TESTS = ours(("tests", "bench"), "*.py")
VAGUE_NAMES = {"utils", "helpers", "common", "misc", "manager", "data", "info", "tmp"}
# What use cases are made of; an edge never calls these by itself.
PLUMBING = {
    "budgets.find_budget",
    "call_storage.store_calls",
    "candidates.chat_target",
    "catalogue.model_headers",
    "catalogue.require_model",
    "ceilings.commit_cost",
    "ceilings.release_costs",
    "datasets.check_dataset",
    "datasets.take_snapshot",
    "edit_storage.edits_by_key",
    "edit_storage.lock_dataset",
    "edit_storage.store_edits",
    "improvement_proposals.write_proposal",
    "improvements.complete_improvement",
    "improvements.settle_improvement",
    "integrations.find_integration_key",
    "integrations.get_integration_key",
    "judge_models.fix_judge",
    "judging.find_verdict",
    "label_lifecycle.finish_job",
    "label_lifecycle.lock_job",
    "label_lifecycle.notify_job",
    "label_rows.choose_rows",
    "label_rows.label_target",
    "label_storage.find_open_fields",
    "label_storage.store_replies",
    "leaderboards.fetch_leaderboard",
    "leakage.read_leakage",
    "model_calls.call_model",
    "patience.retry_outage",
    "production.change_production",
    "production.find_winner",
    "production.production_candidates",
    "production.select_production",
    "push_storage.store_pushes",
    "redactors.redact_text",
    "reservations.store_reservations",
    "review_counts.count_reviews",
    "review_counts.settle_preferences",
    "rollout_lifecycle.begin_rollout",
    "rollout_lifecycle.cancel",
    "rollout_lifecycle.go_on",
    "rollout_lifecycle.promote",
    "rollout_lifecycle.take_back",
    "rollout_plan.load_plans",
    "rollout_rows.cancel_running_rollout",
    "rollout_rows.end_trials",
    "rollout_rows.let_go_of_candidate",
    "rollout_rows.lock_rollout",
    "rollout_sums.add_increments",
    "rollout_sums.read_step_sums",
    "rollout_sweep.look_at",
    "rollouts.fetch_entrant",
    "row_selection.select_rows",
    "run_costs.estimate_calls",
    "run_costs.estimate_entrants",
    "run_judging.find_judge",
    "run_judging.list_pending",
    "run_judging.score_result",
    "run_lifecycle.await_review",
    "run_lifecycle.finish_run",
    "run_lifecycle.has_to_wait",
    "run_lifecycle.let_next_begin",
    "run_lifecycle.lock_leaderboard",
    "run_lifecycle.lock_run",
    "run_lifecycle.notify_run",
    "run_lifecycle.queue_step",
    "run_preparation.choose_positions",
    "run_preparation.enqueue_shards",
    "run_preparation.read_positions",
    "run_progress.read_state",
    "run_ranking.store_ranking",
    "run_rescoring.rescore_rows",
    "run_storage.store_call_results",
    "run_storage.store_patiently",
    "shadow_budget.charge_expired_holds",
    "shadow_budget.hold_shadow",
    "shadow_budget.settle_shadow",
    "shards.count_unfinished_shards",
    "shards.end_shard",
    "shards.note_progress",
    "slugs.name_leaderboard",
    "snapshot_storage.bring_rows",
    "snapshot_storage.latest_snapshot",
    "snapshot_storage.read_inputs",
    "snapshot_storage.read_snapshot",
    "snapshot_storage.require_snapshot",
    "snapshot_storage.store_snapshot",
    "stored_rows.ask_index",
    "stored_rows.few_at_once",
    "stored_rows.find_index",
    "stored_rows.read_rows",
    "token_room.reserve",
    "trace_intake.store_batches",
    "trace_sampling.queue_judging",
    "trace_search.read_in_spans",
    "waiting.wait_for_event",
}


def resolver_modules() -> Iterator[tuple[str, ModuleType]]:
    for module in pkgutil.iter_modules(resolvers.__path__):
        yield module.name, import_module(f"resolvers.{module.name}")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_use_case_says_what_it_requires() -> None:
    undeclared = {
        f"{name}.{function_name}"
        for name, module in resolver_modules()
        for function_name, function in vars(module).items()
        if inspect.iscoroutinefunction(function)
        and function.__module__ == module.__name__
        and not function_name.startswith("_")
        and not hasattr(function, "required_grant")
    }
    assert undeclared == PLUMBING


def test_every_error_code_has_a_status_and_one_error() -> None:
    raised = Counter(error.code for error in AppError.__subclasses__())
    assert set(STATUS) == set(ErrorCode)
    assert raised == Counter(ErrorCode)


def test_no_installed_distribution_claims_our_folder_names() -> None:
    claimed = {name: found for name, found in packages_distributions().items() if name in ROOMS}
    assert claimed == {}


def test_imports_point_one_way() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    ended = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout


def test_statements_are_written_in_the_use_cases_and_below() -> None:
    builds = re.compile(
        r"^from sqlalchemy import .*\b(select|insert|update|delete)\b", re.MULTILINE
    )
    offenders = [
        relative(path)
        for path in SOURCES
        if path.parts[len(ROOT.parts)] in {"schema", "rest_compat", "engine", "providers"}
        and builds.search(path.read_text())
    ]
    assert offenders == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=relative)
def test_a_file_is_small_and_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    lines = len(path.read_text().splitlines())
    assert lines <= 600
    assert path.stem not in VAGUE_NAMES
    assert ast.get_docstring(tree) is not None
    migration = "versions" in path.parts
    longest = 90 if path in TESTS else 50
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert migration or length <= longest, f"{node.name} has {length} lines"
            imports = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert imports == [], f"{node.name} imports inside"


def test_every_pin_has_a_hash_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index" not in lock
    pins = re.findall(r"^[a-z0-9._-]+==", lock, re.MULTILINE)
    entries = re.split(r"^(?=[a-z0-9._-]+==)", lock, flags=re.MULTILINE)[1:]
    assert len(pins) == len(entries) > 50
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_npm_locks_hold_no_address() -> None:
    locks = ours(("app", "tests"), "package-lock.json")
    assert [relative(lock) for lock in locks if '"resolved"' in lock.read_text()] == []
    assert len(locks) == 2


def test_the_version_is_written_alike() -> None:
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()
