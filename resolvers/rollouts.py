"""Rollout use cases: sending a promotion out step by step, and what its arms do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from db.models import Candidate, Leaderboard, Rollout
from db.records import Row
from db.session import ReadSession, WriteSession
from engine.guardrails import ArmFigures, Decision, decide, error_of_each, figures_of
from engine.rollouts import Arm, ArmSums, read_settings
from resolvers.auth import Scope, requires
from resolvers.columns import Columns
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidInputError, NotFoundError
from resolvers.inputs import RolloutRollback, RolloutSettings, RuleError, check_score_guardrail
from resolvers.judge_models import fix_judge
from resolvers.leaderboards import fetch_leaderboard
from resolvers.loaders.rollouts import (
    ArmSumsByRollout,
    RolloutById,
    RolloutCountByLeaderboard,
    RolloutsByLeaderboard,
    RunningRolloutByLeaderboard,
)
from resolvers.paging import Page, PageRequest
from resolvers.rollout_lifecycle import Promoted, begin_rollout, cancel, go_on, judge_of, take_back
from resolvers.rollout_rows import lock_rollout
from resolvers.where import NOTHING


@dataclass(frozen=True, slots=True)
class StepArm:
    """What an arm did in one step."""

    step: int
    share: float
    arm: Arm
    figures: ArmFigures


@requires(Scope.LEADERBOARDS_READ)
async def find_rollouts(
    ctx: Context, rollout_ids: Sequence[UUID | None], columns: Columns = None
) -> list[Row | None]:
    """Return rollouts by their ids; None where there is none."""
    return await ctx.loaders.get(RolloutById).load_many(rollout_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def find_running_rollouts(
    ctx: Context, leaderboard_ids: Sequence[UUID], columns: Columns = None
) -> list[Row | None]:
    """Return each leaderboard's rollout; None where none runs."""
    return await ctx.loaders.get(RunningRolloutByLeaderboard).load_many(leaderboard_ids, columns)


@requires(Scope.LEADERBOARDS_READ)
async def list_rollouts(
    ctx: Context, leaderboard_ids: Sequence[UUID], request: PageRequest, columns: Columns = None
) -> list[Page[Row]]:
    """Return a slice of each leaderboard's rollouts."""
    loader = ctx.loaders.get(RolloutsByLeaderboard)
    return await loader.load_pages(leaderboard_ids, request, NOTHING, columns)


@requires(Scope.LEADERBOARDS_READ)
async def count_rollouts(ctx: Context, leaderboard_id: UUID) -> int:
    """Return how many rollouts a leaderboard has had, batched."""
    return await ctx.loaders.get(RolloutCountByLeaderboard).load((leaderboard_id, NOTHING))


@requires(Scope.LEADERBOARDS_READ)
async def list_arms(ctx: Context, rollouts: Sequence[Row | Rollout]) -> list[Sequence[StepArm]]:
    """Return what the arms of each rollout did, step by step; its settings are read."""
    found = await _read_sums(ctx, rollouts)
    return [_arms(rollout, sums) for rollout, sums in zip(rollouts, found, strict=True)]


def _arms(rollout: Row | Rollout, found: dict[tuple[int, Arm], ArmSums]) -> Sequence[StepArm]:
    settings = read_settings(rollout.settings)
    error = error_of_each(settings)
    return [
        StepArm(step, settings.steps[step], arm, figures_of(sums, error))
        for (step, arm), sums in sorted(found.items())
    ]


@requires(Scope.LEADERBOARDS_READ)
async def look_at_rollouts(
    ctx: Context, rollouts: Sequence[Row | Rollout]
) -> list[Decision | None]:
    """Return what would be decided of each rollout now; None of one that has ended.

    Args:
        ctx: Who asks.
        rollouts: With their `status`, `settings`, `step` and `step_started_at`.
    """
    found = await _read_sums(ctx, rollouts)
    now = datetime.now(UTC)
    return [
        _look(rollout, sums, now) if rollout.status == "running" else None
        for rollout, sums in zip(rollouts, found, strict=True)
    ]


def _look(rollout: Row | Rollout, found: dict[tuple[int, Arm], ArmSums], now: datetime) -> Decision:
    control, canary = (
        found.get((rollout.step, arm), ArmSums()) for arm in (Arm.CONTROL, Arm.CANARY)
    )
    minutes = (now - rollout.step_started_at).total_seconds() / 60
    return decide(read_settings(rollout.settings), rollout.step, control, canary, minutes=minutes)


async def _read_sums(
    ctx: Context, rollouts: Sequence[Row | Rollout]
) -> list[dict[tuple[int, Arm], ArmSums]]:
    return await ctx.loaders.get(ArmSumsByRollout).load_many([each.id for each in rollouts])


@requires(Scope.LEADERBOARDS_WRITE)
async def start_rollout(
    ctx: Context, leaderboard_id: UUID, candidate_id: UUID, settings: RolloutSettings | None
) -> Rollout:
    """Promote a candidate step by step; a rollout that runs gives way to it.

    Args:
        ctx: Who promotes.
        leaderboard_id: Where.
        candidate_id: Whom.
        settings: None for those of the leaderboard's promotion, or else the default ones.

    Raises:
        NotFoundError: The workspace has no such leaderboard.
        InvalidInputError: The candidate is not on it; or scores are guarded, and nobody judges.
        ConflictError: Nobody is in production, or that candidate is; or `judge_auto` finds no
            judge.
        IntegrationMissingError: The judge needs a key, and none is saved.
        UpstreamError: The catalogue can't be read.
    """
    async with ctx.database.read() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id)
        canary = await fetch_entrant(session, leaderboard_id, candidate_id, field="candidate_id")
        serving = board.production_candidate_id
        others = [] if serving is None else [await session.get_one(Candidate, serving)]
    if settings is not None:
        _check_judge(board, settings)
        chosen = settings.stored()
    else:
        chosen = board.promotion.get("rollout") or RolloutSettings().stored()
    judge = None
    if "min_score_difference" in chosen["guardrails"]:
        judge = judge_of(board.evaluation, await fix_judge(ctx, board, [canary, *others]))
    async with ctx.database.write() as session:
        board = await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        await fetch_entrant(session, leaderboard_id, candidate_id, field="candidate_id")
        promoted = Promoted(candidate_id=candidate_id, judge=judge)
        rollout = await begin_rollout(session, ctx, board, promoted, chosen)
        await session.refresh(rollout)
    return rollout


def _check_judge(board: Leaderboard, settings: RolloutSettings) -> None:
    try:
        check_score_guardrail(board.eval_type, settings, within="settings")
    except RuleError as error:
        raise error.told() from error


async def fetch_entrant(
    session: ReadSession, leaderboard_id: UUID, candidate_id: UUID, *, field: str
) -> Candidate:
    """Return a candidate that is to be tried in production.

    Raises:
        InvalidInputError: It is not on the leaderboard; the text names *field*.
    """
    row = await session.get(Candidate, candidate_id, populate_existing=True)
    if row is None or row.leaderboard_id != leaderboard_id or row.removed_at is not None:
        raise InvalidInputError(f"{field}: {candidate_id} is not a model of this leaderboard")
    return row


@requires(Scope.LEADERBOARDS_WRITE)
async def advance_rollout(ctx: Context, rollout_id: UUID, *, to_step: int | None = None) -> Rollout:
    """Take a rollout's next step now, whatever its requests and its minutes.

    Args:
        ctx: Who asks.
        rollout_id: Which rollout.
        to_step: Which step that must be, from 0; so a request that is sent twice takes one.

    Raises:
        NotFoundError: The workspace has no such rollout.
        ConflictError: It has ended, or its next step is another one.
    """
    async with ctx.database.write() as session:
        board, rollout = await _lock_running(ctx, session, rollout_id)
        if to_step is not None and to_step != rollout.step + 1:
            raise ConflictError(
                f"rollout {rollout_id} is at step {rollout.step}, so that its next one is not "
                f"{to_step}"
            )
        await go_on(session, ctx, board, rollout, why="somebody had it go on")
    return rollout


@requires(Scope.LEADERBOARDS_WRITE)
async def cancel_rollout(ctx: Context, rollout_id: UUID) -> Rollout:
    """End a rollout for no fault of its canary: production serves everybody again.

    Raises:
        NotFoundError: The workspace has no such rollout.
        ConflictError: It has ended.
    """
    async with ctx.database.write() as session:
        _, rollout = await _lock_running(ctx, session, rollout_id)
        await cancel(session, rollout, why="somebody cancelled it")
    return rollout


@requires(Scope.LEADERBOARDS_WRITE)
async def roll_back_rollout(ctx: Context, rollout_id: UUID, asked: RolloutRollback) -> Rollout:
    """Take a canary back, which is recorded as an event of the leaderboard.

    Args:
        ctx: Who asks.
        rollout_id: Which rollout.
        asked: With the reason, for those who read the event.

    Raises:
        NotFoundError: The workspace has no such rollout.
        ConflictError: It has ended.
    """
    async with ctx.database.write() as session:
        _, rollout = await _lock_running(ctx, session, rollout_id)
        await take_back(session, ctx, rollout, why=asked.reason or "somebody rolled it back")
    return rollout


async def _lock_running(
    ctx: Context, session: WriteSession, rollout_id: UUID
) -> tuple[Leaderboard, Rollout]:
    """Return a rollout that runs and its leaderboard, both locked."""
    found = await session.get(Rollout, rollout_id)
    if found is None or found.workspace_id != ctx.workspace_id:
        raise NotFoundError(f"rollout {rollout_id} does not exist")
    board = await fetch_leaderboard(
        session, ctx.workspace_id, found.leaderboard_id, for_update=True
    )
    rollout = await lock_rollout(session, rollout_id)
    if rollout.status != "running":
        raise ConflictError(
            f"rollout {rollout_id} is {rollout.status}: {rollout.reason}",
            details={"status": rollout.status},
        )
    return board, rollout
