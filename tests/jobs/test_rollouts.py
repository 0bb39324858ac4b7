"""Rollouts from a ranking to production, with answers that a judge scores, over real HTTP."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import cast, func, select, update
from sqlalchemy.dialects.postgresql import JSONB

from app.services import Process
from db.base import new_id
from db.models import Candidate, Job, Leaderboard, Rollout, Trace, TraceScore
from engine.rollouts import Arm, increments_of
from resolvers.inputs import RolloutSettings
from resolvers.rollout_plan import RolloutPlan, load_plans
from resolvers.rollout_sums import add_increments, read_step_sums
from resolvers.rollout_sweep import advance_rollouts
from resolvers.rollouts import cancel_rollout, start_rollout
from resolvers.trace_judging import judge_traces
from resolvers.trace_sampling import JUDGE_TRACES, SETTLING
from tests.conftest import LONGEST_WAIT_SECONDS, ask
from tests.factories import Tenant, make_candidate, make_ranked_run, store_traces, trace_of
from tests.jobs.conftest import make_board
from tests.jobs.test_judging import judged_board
from tests.jobs.test_promotions import Models, look, rank
from tests.jobs.test_promotions import served as in_production
from tests.model_peer import ModelPeer

ROLLOUT = """query($id: ID!) { leaderboard(id: $id) { rollout {
  id status step share toCandidate { displayName } fromCandidate { displayName } run { id }
} rollouts { nodes { status reason toCandidate { displayName } } } } }"""
STEPS = {"steps": [0.1, 1], "min_minutes_per_step": 0, "sticky_by": "trace"}


async def rollouts_of(client: httpx2.AsyncClient, board: Leaderboard) -> Any:
    answer = await ask(client, ROLLOUT, id=str(board.id))
    assert "errors" not in answer, answer
    return answer["data"]["leaderboard"]


async def test_a_ranking_starts_a_rollout_where_one_is_wanted(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = models = Models(one=100, two=90, three=80)
    board, _ = await make_board(process, tenant, peer, "one", "two", "three")
    wanted = await client.patch(
        f"/api/leaderboards/{board.id}", json={"promotion": {"rollout": STEPS}}
    )
    assert wanted.json()["promotion"]["rollout"]["steps"] == [0.1, 1]
    await rank(client, board)  # nobody serves yet, so that there is nothing to compare with
    assert in_production(await look(client, board)) == "one"
    models.right = {"one": 80, "two": 100, "three": 90}
    second = await rank(client, board)
    assert second["ranking"]["verdict"] == "PROMOTE"
    assert in_production(await look(client, board)) == "one"
    seen = await rollouts_of(client, board)
    first_id = seen["rollout"].pop("id")
    assert seen["rollout"] == {
        "status": "RUNNING", "step": 0, "share": 0.1, "run": {"id": second["id"]},
        "fromCandidate": {"displayName": "one"}, "toCandidate": {"displayName": "two"},
    }  # fmt: skip
    await rank(client, board)  # which promotes the same, and changes nothing
    assert (await rollouts_of(client, board))["rollout"]["id"] == first_id
    models.right = {"one": 80, "two": 90, "three": 100}
    await rank(client, board)
    newest, oldest = (await rollouts_of(client, board))["rollouts"]["nodes"]
    assert (newest["status"], newest["toCandidate"]["displayName"]) == ("RUNNING", "three")
    assert oldest["status"] == "CANCELLED"
    assert oldest["reason"].endswith("took its place")
    seen = await look(client, board)
    assert (in_production(seen), seen["promotions"]["totalCount"]) == ("one", 1)


async def test_a_ranking_that_refuses_the_canary_takes_it_back(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = models = Models(one=100, two=90)
    board, _ = await make_board(process, tenant, peer, "one", "two")
    promotion = {"rule": "confident", "min_score": 0.5, "rollout": STEPS}
    await client.patch(f"/api/leaderboards/{board.id}", json={"promotion": promotion})
    await rank(client, board)
    models.right = {"one": 60, "two": 100}
    await rank(client, board)
    assert (await rollouts_of(client, board))["rollout"]["toCandidate"] == {"displayName": "two"}
    models.right = {"one": 60, "two": 61}  # which shows nothing, and refuses nobody
    assert (await rank(client, board))["ranking"]["verdict"] != "PROMOTE"
    assert (await rollouts_of(client, board))["rollout"]["status"] == "RUNNING"
    models.right = {"one": 60, "two": 40}
    last = await rank(client, board)
    assert last["ranking"]["verdict"] == "HOLD"
    seen = await rollouts_of(client, board)
    assert seen["rollout"] is None
    (ended,) = seen["rollouts"]["nodes"]
    assert ended["status"] == "ROLLED_BACK"
    why = f"the ranking of run {last['id']} keeps the canary from production: score 0.3333 is below"
    assert ended["reason"] == f"{why} 0.5"
    seen = await look(client, board)
    assert in_production(seen) == "one"
    assert seen["promotions"]["nodes"][0]["cause"] == "ROLLOUT_ROLLBACK"


JUDGED = RolloutSettings.model_validate(
    {
        **STEPS,
        "steps": [0.5, 1],
        "guardrails": {"min_score_difference": -0.05, "judge_share": 1},
    }
)


async def served_board(
    process: Process, tenant: Tenant, judge: str = "sandbox/fair-judge"
) -> tuple[Leaderboard, list[Candidate]]:
    """Store a judged leaderboard whose first of two models is in production."""
    board = await judged_board(process, tenant, "careful-large", "quick-small", judge=judge)
    async with process.database.read() as session:
        candidates = list(
            await session.scalars(
                select(Candidate).where(Candidate.leaderboard_id == board.id).order_by(Candidate.id)
            )
        )
    await make_ranked_run(process, board, candidates, rows=1)
    return board, candidates


async def serve(
    process: Process, board: Leaderboard, rollout: Rollout, count: int, **columns: Any
) -> list[tuple[UUID, Arm]]:
    """Store traces as the serving path does, of some time ago."""
    async with process.database.read() as session:
        plan, _ = await load_plans(session, board.id)
        ids = (rollout.from_candidate_id, rollout.to_candidate_id)
        control, canary = [await session.get_one(Candidate, each) for each in ids]
    assert isinstance(plan, RolloutPlan)
    at, made = datetime.now(UTC) - 2 * SETTLING, []
    for number in range(count):
        trace = trace_of(
            board, control, at, input=f"question {number}", output=f"answer {number}",
            messages=[{"role": "user", "content": f"Solve: question {number}"}],
        )  # fmt: skip
        arm = plan.assign(trace["id"], None)
        served_by = canary if arm is Arm.CANARY else control
        noted = {"candidate_id": served_by.id, "trace_metadata": plan.note(arm)}
        made.append((arm, trace | noted | columns))
    async with process.database.write() as session:
        await store_traces(session, [trace for _, trace in made])
        await session.execute(update(Rollout).values(judged_until=at - SETTLING))
    return [(trace["id"], arm) for arm, trace in made]


async def sweep(process: Process) -> None:
    await advance_rollouts(process.system_context())


async def jobs_of(process: Process) -> list[Job]:
    async with process.database.read() as session:
        return list(await session.scalars(select(Job).where(Job.kind == JUDGE_TRACES)))


async def await_jobs(process: Process) -> Sequence[str]:
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while True:
            statuses = [job.status for job in await jobs_of(process)]
            if not {"queued", "running"} & set(statuses):
                return statuses
            await asyncio.sleep(0.05)


async def read_rollout(process: Process, rollout: Rollout) -> Rollout:
    async with process.database.read() as session:
        return await session.get_one(Rollout, rollout.id)


async def scores_of(process: Process) -> list[TraceScore]:
    async with process.database.read() as session:
        return list(await session.scalars(select(TraceScore).order_by(TraceScore.trace_id)))


async def test_sampled_answers_of_both_arms_are_judged_once(
    worker: None, process: Process, tenant: Tenant
) -> None:
    board, (_, canary) = await served_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, JUDGED)
    assert rollout.judge is not None
    assert rollout.judge["model"] == "sandbox/fair-judge"
    made = await serve(process, board, rollout, 30)
    await serve(process, board, rollout, 3, status="error", output=None)
    await serve(process, board, rollout, 3, trace_metadata={})
    stand_in = await make_candidate(process, board)
    await serve(process, board, rollout, 3, candidate_id=stand_in.id)
    await sweep(process)
    await sweep(process)  # which has nothing new to look at
    assert set(await await_jobs(process)) == {"succeeded"}
    scores = await scores_of(process)
    assert [score.trace_id for score in scores] == sorted(trace_id for trace_id, _ in made)
    assert all(score.score is not None and score.reason for score in scores)
    async with process.database.read() as session:
        control, did = await read_step_sums(session, rollout.id, 0)
        calls = await session.scalar(
            select(func.count()).where(Trace.trace_metadata["role"].astext == "judge")
        )
    assert did.score.count == sum(arm is Arm.CANARY for _, arm in made) > 0
    assert control.score.count == len(made) - did.score.count > 0
    total = sum(score.score or 0 for score in scores)
    assert control.score.total + did.score.total == pytest.approx(total)
    assert calls == 30
    spent = sum((score.cost_usd or Decimal(0) for score in scores), Decimal(0))
    assert (await read_rollout(process, rollout)).committed_usd == spent > 0


async def test_answers_that_call_tools_are_not_judged(process: Process, tenant: Tenant) -> None:
    board, (_, canary) = await served_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, JUDGED)
    made = [trace_id for trace_id, _ in await serve(process, board, rollout, 6, output="")]
    async with process.database.write() as session:
        noted = Trace.trace_metadata.op("||")(cast({"tool_calls": ["pay"]}, JSONB))
        await session.execute(
            update(Trace).where(Trace.id.in_(made[:4])).values(trace_metadata=noted)
        )
    await sweep(process)
    (job,) = await jobs_of(process)
    assert {UUID(each) for each in job.arguments["trace_ids"]} == set(made[4:])


async def test_a_step_lasts_until_the_judge_has_had_its_share_of_it(
    process: Process, tenant: Tenant
) -> None:
    """Answers settle for longer than this step is long."""
    board, (_, canary) = await served_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    short = JUDGED.model_copy(update={"min_minutes_per_step": 2.0, "min_requests_per_step": 1})
    rollout = await start_rollout(ctx, board.id, canary.id, short)
    begun_at = datetime.now(UTC) - SETTLING - timedelta(minutes=1)
    async with process.database.write() as session:
        plan, _ = await load_plans(session, board.id)
        assert isinstance(plan, RolloutPlan)
        seen = [plan.observe(arm, is_error=False, latency_ms=9.0, cost_usd=None) for arm in Arm]
        await add_increments(session, increments_of(seen), writer=new_id())
        begun = {"step_started_at": begun_at, "judged_until": begun_at}
        await session.execute(update(Rollout).values(begun))
    for _ in range(2):
        await sweep(process)
        assert (await read_rollout(process, rollout)).status == "running"
    async with process.database.write() as session:
        before = begun_at - timedelta(minutes=1)
        await session.execute(update(Rollout).values(step_started_at=before))
    await sweep(process)
    assert (await read_rollout(process, rollout)).status == "completed"


async def test_a_job_that_is_done_again_judges_and_counts_nothing_again(
    process: Process, tenant: Tenant
) -> None:
    board, (_, canary) = await served_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, JUDGED)
    made = await serve(process, board, rollout, 6)
    await sweep(process)
    (job,) = await jobs_of(process)
    await asyncio.gather(judge_traces(ctx, job), judge_traces(ctx, job))
    await judge_traces(ctx, job)
    async with process.database.read() as session:
        arms = await read_step_sums(session, rollout.id, 0)
    assert sum(arm.score.count for arm in arms) == len(await scores_of(process)) == len(made)


async def test_the_judge_stops_before_its_ceiling_and_the_rollout_says_why(
    worker: None, process: Process, tenant: Tenant
) -> None:
    board, (_, canary) = await served_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    poor = JUDGED.model_copy(update={"max_judge_cost_usd": Decimal("0.004")})
    rollout = await start_rollout(ctx, board.id, canary.id, poor)
    await serve(process, board, rollout, 20)
    await sweep(process)
    assert await await_jobs(process) == ["failed"]
    now = await read_rollout(process, rollout)
    assert now.status == "running"
    assert now.judge_error is not None
    assert now.judge_error.startswith("the judge stopped before its ceiling of 0.004 USD")
    assert now.committed_usd <= now.max_cost_usd
    await serve(process, board, rollout, 5)
    await sweep(process)
    assert len(await jobs_of(process)) == 1


async def test_a_judge_that_can_t_be_read_gives_no_scores_and_is_paid(
    worker: None, process: Process, tenant: Tenant
) -> None:
    board, (_, canary) = await served_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, JUDGED)
    async with process.database.write() as session:
        broken = {**(rollout.judge or {}), "model": "sandbox/broken-judge"}
        await session.execute(update(Rollout).values(judge=broken))
    await serve(process, board, rollout, 4)
    await sweep(process)
    assert await await_jobs(process) == ["succeeded"]
    scores = await scores_of(process)
    assert {score.score for score in scores} == {None}
    assert all((score.error or "").startswith("unreadable_verdict: ") for score in scores)
    async with process.database.read() as session:
        arms = await read_step_sums(session, rollout.id, 0)
        calls = await session.scalar(
            select(func.count()).where(Trace.trace_metadata["role"].astext == "judge")
        )
    assert sum(arm.score.count for arm in arms) == 0
    assert calls == 3 * len(scores) == 12


async def test_nobody_is_judged_once_the_rollout_has_ended(
    process: Process, tenant: Tenant
) -> None:
    board, (_, canary) = await served_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    rollout = await start_rollout(ctx, board.id, canary.id, JUDGED)
    await serve(process, board, rollout, 4)
    await sweep(process)
    (job,) = await jobs_of(process)
    await cancel_rollout(ctx, rollout.id)
    await judge_traces(ctx, job)
    assert await scores_of(process) == []


async def test_about_as_many_answers_of_production_are_judged_as_of_a_small_canary(
    process: Process, tenant: Tenant
) -> None:
    board, (_, canary) = await served_board(process, tenant)
    ctx = process.system_context(tenant.workspace_id)
    small = JUDGED.model_copy(update={"steps": (0.1, 1.0)})
    rollout = await start_rollout(ctx, board.id, canary.id, small)
    arms = dict(await serve(process, board, rollout, 600))
    await sweep(process)
    chosen = [
        arms[UUID(each)] for job in await jobs_of(process) for each in job.arguments["trace_ids"]
    ]
    canaries, others = chosen.count(Arm.CANARY), chosen.count(Arm.CONTROL)
    assert canaries == sum(arm is Arm.CANARY for arm in arms.values())
    assert abs(others - 60) < 4 * 8
