"""Runs that a judge scores: over real HTTP, by the sandbox's judges."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from app.services import Process
from db.base import new_id
from db.models import (
    Candidate,
    JudgeVerdict,
    Leaderboard,
    Run,
    RunCandidate,
    RunComparison,
    RunResult,
    Trace,
)
from resolvers.run_lifecycle import PREPARE_RUN
from tests.conftest import ask, await_run
from tests.factories import DATASET_URL, Tenant, make_candidate, make_leaderboard
from tests.jobs.test_run_lifecycle import CANCEL, RESCORE, start
from tests.model_peer import ModelPeer

ROWS = {"mode": "LIMIT", "limit": {"rows": 20}}
RESULTS = """query($id: ID!) { run(id: $id) { costUsd evaluation results(first: 200) { nodes {
  score error judgement judgeCostUsd position candidate { modelId } } } } }"""

COMPARISONS = """query($id: ID!) { run(id: $id) { results(first: 200) { nodes {
  position candidate { id }
  comparisons { outcome isFirst judgement otherCandidate { id } } } } } }"""


async def judged_board(
    process: Process,
    tenant: Tenant,
    *models: str,
    judge: str = "sandbox/fair-judge",
    **evaluation: Any,
) -> Leaderboard:
    board = await make_leaderboard(
        process,
        tenant.workspace_id,
        url=DATASET_URL,
        eval_type="judge",
        judge_provider="openrouter",
        judge_model=judge,
        evaluation={"match": "exact", **evaluation},
    )
    for model in models:
        await make_candidate(process, board, model_id=f"sandbox/{model}", display_name=model)
    return board


async def results(client: httpx2.AsyncClient, run_id: str) -> Any:
    answer = await ask(client, RESULTS, id=run_id)
    assert "errors" not in answer, answer
    return answer["data"]["run"]


async def verdicts(process: Process) -> Sequence[JudgeVerdict]:
    async with process.database.read() as session:
        return (await session.scalars(select(JudgeVerdict).order_by(JudgeVerdict.id))).all()


async def test_a_judge_scores_answers_on_its_scale_and_says_why(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    scale = {"low": 1, "high": 5}
    board = await judged_board(
        process, tenant, "careful-large", "erratic-mini", rubric="Is it right?", scale=scale
    )
    run = await await_run(client, board.id, await start(client, board.id, dataset=ROWS))
    assert run["status"] == "completed", run["error"]
    assert run["progress"] == {"done": 40, "failed": 0, "total": 40}
    best, worst = run["ranking"]["entries"]
    assert best["score"] > worst["score"]
    seen = await results(client, run["id"])
    assert seen["evaluation"]["judge"]["model"] == "sandbox/fair-judge"
    for result in seen["results"]["nodes"]:
        (vote,) = result["judgement"]["votes"]
        assert result["score"] == pytest.approx((vote["score"] - 1) / 4)
        assert vote["prompt_version"] == "score-1"
        assert vote["reason"]
    stored = await verdicts(process)
    assert {each.prompt_version for each in stored} == {"score-1"}
    async with process.database.read() as session:
        judged = (
            await session.scalars(
                select(Trace).where(Trace.trace_metadata["role"].astext == "judge")
            )
        ).all()
        spent = await session.scalar(select(func.sum(Trace.cost_usd)))
    assert len(judged) == len(stored) <= 40
    assert float(spent or 0) == pytest.approx(run["cost_usd"])
    prompt = str(judged[0].messages)
    assert "erratic" not in prompt
    assert "careful" not in prompt


async def test_the_same_answer_is_judged_once_and_rescoring_asks_nobody(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large", "careful-large")
    first = await await_run(client, board.id, await start(client, board.id, dataset=ROWS))
    assert first["status"] == "completed", first["error"]
    assert len(await verdicts(process)) == 20
    again = await await_run(client, board.id, await start(client, board.id, dataset=ROWS))
    assert len(await verdicts(process)) == 20
    costs = [r["judgeCostUsd"] for r in (await results(client, again["id"]))["results"]["nodes"]]
    assert set(costs) == {"0"}
    async with process.database.read() as session:
        calls = await session.scalar(select(func.count()).select_from(Trace))
    rescored = (await ask(client, RESCORE, id=first["id"]))["data"]["rescoreRun"]["run"]
    ended = await await_run(client, board.id, rescored["id"])
    assert ended["status"] == "completed", ended["error"]
    assert [e["score"] for e in ended["ranking"]["entries"]] == [
        e["score"] for e in first["ranking"]["entries"]
    ]
    async with process.database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Trace)) == calls


async def test_scoring_again_asks_no_judge_and_so_needs_no_key_of_it(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large")
    run_id = await start(client, board.id, dataset=ROWS)
    await await_run(client, board.id, run_id)
    async with process.database.write() as session:
        run = await session.get_one(Run, run_id)
        # As if a model had judged it for which the workspace has no key any more.
        judge = {**run.evaluation["judge"], "model": "openai/gpt-5.2"}
        run.evaluation = {**run.evaluation, "judge": judge}
    rescored = (await ask(client, RESCORE, id=run_id))["data"]["rescoreRun"]["run"]
    ended = await await_run(client, board.id, rescored["id"])
    assert "verdict_missing" in ended["error"]


async def test_an_answer_without_a_verdict_to_be_had_is_an_error_when_it_is_scored_again(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large", "quick-small")
    first = await await_run(client, board.id, await start(client, board.id, dataset=ROWS))
    changed = {"match": "exact", "rubric": "Another one."}
    await client.patch(f"/api/leaderboards/{board.id}", json={"evaluation": changed})
    rescored = (await ask(client, RESCORE, id=first["id"]))["data"]["rescoreRun"]["run"]
    ended = await await_run(client, board.id, rescored["id"])
    assert ended["status"] == "failed"
    assert "verdict_missing" in ended["error"]


async def test_several_votes_are_asked_and_their_mean_counts(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large", judge_votes=3)
    rows = {"mode": "LIMIT", "limit": {"rows": 3}}
    run = await await_run(client, board.id, await start(client, board.id, dataset=rows))
    assert run["status"] == "completed", run["error"]
    assert sorted(each.vote for each in await verdicts(process)) == [0] * 3 + [1] * 3 + [2] * 3
    for result in (await results(client, run["id"]))["results"]["nodes"]:
        votes = [vote["score"] for vote in result["judgement"]["votes"]]
        assert len(votes) == 3
        assert result["score"] == pytest.approx(sum(votes) / 3 / 5)


async def test_a_judge_that_mumbles_is_asked_again_and_every_reply_is_paid_for(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, sandbox_url: str
) -> None:
    async with httpx2.AsyncClient(base_url=sandbox_url) as sandbox:
        await sandbox.delete("/stats")
    board = await judged_board(process, tenant, "careful-large", judge="sandbox/mumbling-judge")
    # It is not in the catalogue: the run is asked for as if it were.
    run_id = await _start_anyway(process, tenant, board)
    run = await await_run(client, board.id, run_id)
    assert (run["status"], run["progress"]["failed"]) == ("completed", 0)
    stored = await verdicts(process)
    attempts = [each.attempts for each in stored]
    assert set(attempts) == {1, 2}
    async with process.database.read() as session:
        calls = await session.scalar(
            select(func.count()).where(Trace.trace_metadata["role"].astext == "judge")
        )
    assert calls == sum(attempts)


async def test_a_judge_that_can_t_be_read_leaves_error_rows_and_no_ranking_of_them(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large", judge="sandbox/broken-judge")
    run_id = await _start_anyway(process, tenant, board)
    run = await await_run(client, board.id, run_id)
    assert run["status"] == "failed"
    assert "unreadable_verdict: none of 3 replies could be read" in run["error"]
    assert await verdicts(process) == []


async def _start_anyway(process: Process, tenant: Tenant, board: Leaderboard) -> str:
    """Queue a run whose judge is one of the sandbox's faults, which no catalogue lists."""
    ctx = process.system_context(tenant.workspace_id)
    judge = {
        "provider": "openrouter",
        "model": board.judge_model,
        "input_price_per_million_usd": "1",
        "output_price_per_million_usd": "1",
    }
    run_id = new_id()
    async with process.database.write() as session:
        candidates = await session.scalars(
            select(Candidate).where(Candidate.leaderboard_id == board.id)
        )
        session.add(
            Run(
                id=run_id, workspace_id=board.workspace_id, leaderboard_id=board.id,
                kind="ranking", status="queued", system_prompt=board.system_prompt,
                dataset_url=board.dataset_url, evaluation={**board.evaluation, "judge": judge},
                dataset_size={"algorithm": "LAST_N", "rows": 12, "seed": 1},
                promotion={"rule": "always"},
            )
        )  # fmt: skip
        await session.flush()
        session.add_all(
            RunCandidate(
                run_id=run_id, candidate_id=each.id, position=place, provider=each.provider,
                model_id=each.model_id, params={}, timeout_seconds=20.0,
            )
            for place, each in enumerate(candidates)
        )  # fmt: skip
        await ctx.services.queue.enqueue(
            session, PREPARE_RUN, workspace_id=board.workspace_id, subject_id=run_id, arguments=[{}]
        )
    return str(run_id)


async def test_answers_compared_in_pairs_have_wins_strengths_and_an_order(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(
        process, tenant, "erratic-mini", "careful-large", "quick-small", judge_mode="pairwise"
    )
    run = await await_run(client, board.id, await start(client, board.id, dataset=ROWS))
    assert run["status"] == "completed", run["error"]
    entries = run["ranking"]["entries"]
    strengths = [entry["strength"] for entry in entries]
    assert strengths == sorted(strengths, reverse=True)
    assert sum(strengths) == pytest.approx(0, abs=1e-9)
    assert all(e["strength_low"] < e["strength"] < e["strength_high"] for e in entries)
    assert sum(entry["score"] for entry in entries) == pytest.approx(1.5)
    async with process.database.read() as session:
        compared = (await session.scalars(select(RunComparison))).all()
        scores = await session.execute(
            select(RunResult.position, func.sum(RunResult.score)).group_by(RunResult.position)
        )
        assert {round(row[1], 9) for row in scores} == {1.5}
    assert len(compared) == 20 * 3
    assert {each.outcome for each in compared} == {"first", "second", "tie"}
    for each in compared:
        forward, backward = (order["preferred"] for order in each.judgement["orders"])
        agreed = {("first", "second"): "first", ("second", "first"): "second"}
        assert each.outcome == agreed.get((forward, backward), "tie")
    answer = await ask(client, COMPARISONS, id=run["id"])
    told = {
        (node["candidate"]["id"], each["otherCandidate"]["id"], node["position"]): each
        for node in answer["data"]["run"]["results"]["nodes"]
        for each in node["comparisons"]
    }
    assert len(told) == 2 * len(compared)
    for each in compared:
        first, second = str(each.first_candidate_id), str(each.second_candidate_id)
        one, other = (told[*pair, each.position] for pair in ((first, second), (second, first)))
        outcomes = {"first": ("WON", "LOST"), "second": ("LOST", "WON"), "tie": ("TIE", "TIE")}
        assert (one["outcome"], other["outcome"]) == outcomes[each.outcome]
        assert (one["isFirst"], other["isFirst"]) == (True, False)
        assert one["judgement"] == other["judgement"] == each.judgement
    stored = await verdicts(process)
    assert {each.prompt_version for each in stored} == {"pairwise-1"}
    assert len(stored) <= 2 * 60
    rescored = (await ask(client, RESCORE, id=run["id"]))["data"]["rescoreRun"]["run"]
    ended = await await_run(client, board.id, rescored["id"])
    assert ended["status"] == "completed", ended["error"]
    assert [e["strength"] for e in ended["ranking"]["entries"]] == strengths
    assert len(await verdicts(process)) == len(stored)


async def test_a_judged_run_that_is_cancelled_leaves_what_was_judged(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large", "quick-small", judge_votes=5)
    run_id = await start(client, board.id)
    async with asyncio.timeout(20):
        while len(await verdicts(process)) < 30:
            await asyncio.sleep(0.02)
    await ask(client, CANCEL, id=run_id)
    await asyncio.sleep(1.0)
    stored = len(await verdicts(process))
    await asyncio.sleep(0.5)
    assert len(await verdicts(process)) == stored < 2 * 288 * 5


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"eval_type": "judge"}, "judge_model is required for eval_type judge"),
        ({"judge_model": "sandbox/fair-judge"}, "judge_model goes with eval_type judge"),
        (
            {"eval_type": "judge", "judge_auto": True, "judge_model": "sandbox/fair-judge"},
            "judge_model and judge_auto exclude each other",
        ),
        ({"eval_type": "judge", "judge_model": "sandbox/nobody"}, "judge_model: OpenRouter has no"),
        ({"eval_type": "oracle"}, "eval_type: "),
        ({"evaluation": {"scale": {"low": 3, "high": 3}}}, "evaluation.scale: low must be below"),
        ({"evaluation": {"judge_votes": 0}}, "evaluation.judge_votes: "),
    ],
)
async def test_a_judge_that_does_not_fit_is_refused_by_its_field(
    client: httpx2.AsyncClient, fields: dict[str, object], said: str
) -> None:
    body = {"name": "x", "system_prompt": "{input}", "dataset_url": DATASET_URL, **fields}
    answer = await client.post("/api/leaderboards", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


async def test_a_judge_of_another_family_is_picked_or_there_is_none(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large")
    changed = await client.patch(
        f"/api/leaderboards/{board.id}", json={"judge_auto": True, "judge_model": None}
    )
    assert changed.status_code == 200, changed.text
    refused = await client.post(f"/api/leaderboards/{board.id}/run")
    # The first strong model by name is at OpenRouter, for which no key is saved here.
    assert (refused.status_code, refused.json()["code"]) == (409, "integration_missing")


@pytest.mark.parametrize("setting_overrides", [{"judge_models": ["sandbox/fair-judge"]}])
async def test_a_run_picks_its_judge_and_is_judged_by_it(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    board = await judged_board(process, tenant)
    changed = await client.patch(
        f"/api/leaderboards/{board.id}", json={"judge_auto": True, "judge_model": None}
    )
    assert changed.status_code == 200, changed.text
    # An endpoint that names no model is nobody's relative.
    await make_candidate(process, board, endpoint_url=peer.endpoint("one"))
    run = await await_run(client, board.id, await start(client, board.id, dataset=ROWS))
    assert run["status"] == "completed", run["error"]
    seen = await results(client, run["id"])
    assert seen["evaluation"]["judge"]["model"] == "sandbox/fair-judge"
    assert all(node["judgement"]["votes"] for node in seen["results"]["nodes"])
    assert {each.judge_model for each in await verdicts(process)} == {"sandbox/fair-judge"}
    await make_candidate(process, board, model_id="sandbox/quick-small")
    refused = await client.post(f"/api/leaderboards/{board.id}/run")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


async def test_a_pair_takes_two_and_reviews_don_t_check_pairs(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large", judge_mode="pairwise")
    refused = await client.post(f"/api/leaderboards/{board.id}/run")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    await make_candidate(process, board, model_id="sandbox/quick-small")
    run = await await_run(client, board.id, await start(client, board.id, dataset=ROWS))
    mutation = "mutation($id: ID!) { assignReview(input: {runId: $id}) { review { id } } }"
    answer = await ask(client, mutation, id=run["id"])
    assert answer["errors"][0]["extensions"]["code"] == "conflict"


async def test_a_rescore_with_missing_verdicts_counts_those_that_are_known(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large", "quick-small")
    run = await await_run(client, board.id, await start(client, board.id, dataset=ROWS))
    async with process.database.write() as session:
        known = (await session.scalars(select(JudgeVerdict).order_by(JudgeVerdict.id))).all()
        for verdict in known[::2]:
            await session.delete(verdict)
    again = (await ask(client, RESCORE, id=run["id"]))["data"]["rescoreRun"]["run"]["id"]
    ended = await await_run(client, board.id, again)
    assert ended["status"] == "completed", ended["error"]
    counted = sum(entry["row_count"] for entry in ended["ranking"]["entries"])
    assert 0 < counted < 40
    assert sum(entry["error_count"] for entry in ended["ranking"]["entries"]) == 40 - counted
    assign = "mutation($id: ID!) { assignReview(input: {runId: $id}) { review { id } } }"
    submit = """mutation($id: ID!) {
      submitReview(input: {id: $id, score: 5}) { review { status } } }"""
    for _ in range(12):
        review = (await ask(client, assign, id=again))["data"]["assignReview"]["review"]
        await ask(client, submit, id=review["id"])
    check = await ask(
        client,
        "query($id: ID!) { run(id: $id) { ranking { humanCheck { reviewedCount } } } }",
        id=again,
    )
    assert 0 < check["data"]["run"]["ranking"]["humanCheck"]["reviewedCount"] <= 12
