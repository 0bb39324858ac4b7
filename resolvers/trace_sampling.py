"""Which answers of a rollout its judge scores: a sample of both arms, chosen by their ids."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select

from db.base import first_id_at
from db.models import Rollout, Trace
from db.session import ReadSession, WriteSession
from engine.rollouts import Arm, is_judged
from resolvers.context import Context
from resolvers.serving_calls import TOOL_CALLS

JUDGE_TRACES = "traces.judge"
# A trace is of the instant when its call began, and stored when it ends. What takes longer than
# this is not judged, whichever arm served it.
SETTLING = timedelta(minutes=3)
# Looked at in one sweep, the newest first: what is left out is left out of both arms.
MOST_LOOKED_AT = 5_000
MOST_JUDGED = 200
TRACES_A_JOB = 20


async def queue_judging(ctx: Context, session: WriteSession, rollout: Rollout) -> None:
    """Queue the judging of some of the answers since the last time, if somebody judges them.

    Args:
        ctx: The system's, within the rollout's workspace.
        session: Has locked the rollout's row, which says up to where traces were looked at.
        rollout: It runs.
    """
    if rollout.judge is None or rollout.judge_error is not None:
        return
    until = datetime.now(UTC) - SETTLING
    if until <= rollout.judged_until:
        return
    chosen = await _choose(session, rollout, until)
    rollout.judged_until = until
    batches = [
        chosen[start : start + TRACES_A_JOB] for start in range(0, len(chosen), TRACES_A_JOB)
    ]
    if batches:
        await ctx.services.queue.enqueue(
            session,
            JUDGE_TRACES,
            workspace_id=rollout.workspace_id,
            subject_id=rollout.id,
            arguments=[{"trace_ids": [str(each) for each in batch]} for batch in batches],
        )


async def _choose(session: ReadSession, rollout: Rollout, until: datetime) -> Sequence[UUID]:
    """Return a share of the canary's answers, and about as many of production's."""
    note = Trace.trace_metadata["rollout"]
    arm: ColumnElement[str] = note["arm"].astext
    statement = (
        select(Trace.id, arm)
        .where(
            Trace.leaderboard_id == rollout.leaderboard_id,
            Trace.id >= first_id_at(rollout.judged_until),
            Trace.id < first_id_at(until),
            Trace.status == "ok",
            # There is no text to judge, whichever arm it is.
            Trace.trace_metadata[TOOL_CALLS].is_(None),
            # What another model answered, when that one had failed, says nothing of it.
            or_(
                (arm == Arm.CANARY.value) & (Trace.candidate_id == rollout.to_candidate_id),
                (arm == Arm.CONTROL.value) & (Trace.candidate_id == rollout.from_candidate_id),
            ),
            note["id"].astext == str(rollout.id),
            note["step"].astext == str(rollout.step),
        )
        .order_by(Trace.id.desc())
        .limit(MOST_LOOKED_AT)
    )
    share = rollout.settings["guardrails"]["judge_share"]
    shares = {Arm.CANARY: share, Arm.CONTROL: share * rollout.share / (1 - rollout.share)}
    rows = await session.execute(statement)
    chosen = (
        trace_id for trace_id, name in rows if is_judged(trace_id, rollout.id, shares[Arm(name)])
    )
    return [trace_id for _, trace_id in zip(range(MOST_JUDGED), chosen, strict=False)]
