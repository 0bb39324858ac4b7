"""Rollouts and shadows as GraphQL shows and changes them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import pytest

from app.services import Process
from db.base import new_id
from db.models import Candidate, Leaderboard, Rollout
from engine.rollouts import Arm, score_increment
from resolvers.rollout_sums import JUDGE, add_increments
from tests.conftest import ask
from tests.factories import Tenant, make_candidate, make_tenant
from tests.resolvers.test_rollouts import make_served, observe, read_rollout, served, sweep

ROLLOUT = """id status step share reason numbers settings judgeModel judgeCostUsd maxJudgeCostUsd
  judgeError createdAt stepStartedAt finishedAt
  fromCandidate { id } toCandidate { id } leaderboard { id }
  arms { step share arm requestCount errorCount scoreCount
    errorRate { mean low high } latencyMs { mean low high } costUsd { mean low high }
    score { mean low high } }
  verdict { action reason comparisons { guardrail standing value low high limit } }"""
FRAGMENT = f"\nfragment AllOfIt on Rollout {{ {ROLLOUT} }}"
START = (
    """mutation($input: StartRolloutInput!) {
  startRollout(input: $input) { rollout { ...AllOfIt } } }"""
    + FRAGMENT
)
SEEN = (
    """query($id: ID!) { leaderboard(id: $id) { promotion
  rollout { ...AllOfIt } rollouts(first: 5) { totalCount nodes { id status } }
  promotions { nodes { cause numbers rollout { id status } toCandidate { id } } }
  shadow { id status share budgetUsd spentUsd heldUsd callCount errorCount reason endsAt finishedAt
    challenger { id } } } }"""
    + FRAGMENT
)
SETTINGS = {"steps": [0.1, 0.5, 1], "minRequestsPerStep": 100, "minMinutesPerStep": 0}


async def ask_well(client: httpx2.AsyncClient, query: str, **variables: Any) -> Any:
    answer = await ask(client, query, **variables)
    assert "errors" not in answer, answer
    return answer["data"]


async def look(client: httpx2.AsyncClient, board: Leaderboard) -> Any:
    return (await ask_well(client, SEEN, id=str(board.id)))["leaderboard"]


async def start(
    client: httpx2.AsyncClient, board: Leaderboard, candidate: Candidate, **settings: Any
) -> Any:
    given = {
        "leaderboardId": str(board.id),
        "candidateId": str(candidate.id),
        "settings": {**SETTINGS, **settings},
    }
    return (await ask_well(client, START, input=given))["startRollout"]["rollout"]


async def change(client: httpx2.AsyncClient, name: str, **fields: Any) -> Any:
    kind = f"{name[0].upper()}{name[1:]}Input"
    mutation = (
        f"mutation($input: {kind}!) {{ {name}(input: $input) {{ rollout {{ {ROLLOUT} }} }} }}"
    )
    return await ask(client, mutation, input=fields)


async def test_a_rollout_shows_its_arms_and_its_verdict(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, (serving, canary, _) = await make_served(process, tenant)
    begun = await start(client, board, canary)
    assert (begun["status"], begun["step"], begun["share"], begun["arms"]) == (
        "RUNNING",
        0,
        0.1,
        [],
    )
    assert begun["verdict"]["reason"] == "the canary has served 0 of the step's 100 requests"
    rollout = await read_rollout(process, Rollout(id=UUID(begun["id"])))
    await observe(
        process, served(rollout, Arm.CONTROL, 900, failing=9) + served(rollout, Arm.CANARY, 100)
    )
    async with process.database.write() as session:
        scored = score_increment(rollout.id, 0, Arm.CANARY, 0.75)
        await add_increments(session, [scored], writer=JUDGE)
    seen = (await look(client, board))["rollout"]
    assert (seen["fromCandidate"], seen["toCandidate"]) == (
        {"id": str(serving.id)}, {"id": str(canary.id)},
    )  # fmt: skip
    control, did = seen["arms"] if seen["arms"][0]["arm"] == "CONTROL" else seen["arms"][::-1]
    assert (control["requestCount"], control["errorCount"]) == (900, 9)
    assert control["errorRate"]["mean"] == pytest.approx(0.01)
    assert control["errorRate"]["low"] < 0.01 < control["errorRate"]["high"] < 0.04
    assert did["errorRate"]["low"] == 0
    assert did["latencyMs"]["mean"] == pytest.approx(119.1, abs=0.1)
    assert did["costUsd"]["mean"] == pytest.approx(0.001)
    assert (did["scoreCount"], did["score"]["mean"], control["score"]) == (1, 0.75, None)
    verdict = seen["verdict"]
    assert (verdict["action"], verdict["reason"]) == (
        "ADVANCE", "no guardrail holds it back from 0.5",
    )  # fmt: skip
    standings = {each["guardrail"]: each["standing"] for each in verdict["comparisons"]}
    assert standings == {"ERROR_RATE": "WITHIN", "LATENCY": "WITHIN", "COST": "WITHIN"}
    await sweep(process)
    assert (await look(client, board))["rollout"]["step"] == 1


async def test_its_end_is_an_event_that_leads_to_it(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, (serving, canary, _) = await make_served(process, tenant)
    begun = await start(client, board, canary)
    back = await change(client, "rollBackRollout", rolloutId=begun["id"], reason="too curt")
    ended = back["data"]["rollBackRollout"]["rollout"]
    assert (ended["status"], ended["reason"], ended["verdict"]) == ("ROLLED_BACK", "too curt", None)
    seen = await look(client, board)
    assert seen["rollout"] is None
    assert seen["rollouts"] == {
        "totalCount": 1, "nodes": [{"id": begun["id"], "status": "ROLLED_BACK"}],
    }  # fmt: skip
    (event,) = seen["promotions"]["nodes"]
    assert event == {
        "cause": "ROLLOUT_ROLLBACK",
        "numbers": {"reason": "too curt", "step": 0, "share": 0.1},
        "rollout": {"id": begun["id"], "status": "ROLLED_BACK"},
        "toCandidate": {"id": str(serving.id)},
    }
    again = await change(client, "cancelRollout", rolloutId=begun["id"])
    assert again["errors"][0]["extensions"]["code"] == "conflict"


async def test_it_is_advanced_and_cancelled_by_its_id(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, (_, canary, _) = await make_served(process, tenant)
    begun = await start(client, board, canary)
    await change(client, "advanceRollout", rolloutId=begun["id"], toStep=1)
    twice = await change(client, "advanceRollout", rolloutId=begun["id"], toStep=1)
    assert twice["errors"][0]["extensions"]["code"] == "conflict"
    cancelled = await change(client, "cancelRollout", rolloutId=begun["id"])
    assert cancelled["data"]["cancelRollout"]["rollout"]["status"] == "CANCELLED"
    missing = await change(client, "advanceRollout", rolloutId=str(new_id()))
    assert missing["errors"][0]["extensions"]["code"] == "not_found"


async def test_settings_are_those_of_the_promotion_when_none_are_given(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, (_, canary, _) = await make_served(process, tenant)
    update = """mutation($input: UpdateLeaderboardInput!) {
      updateLeaderboard(input: $input) { leaderboard { promotion } } }"""
    promotion = {
        "rollout": {
            "steps": [0.2, 1],
            "stickyBy": "TRACE",
            "guardrails": {"maxLatencyRatio": None, "maxCostRatio": 3},
        }
    }
    stored = await ask_well(client, update, input={"id": str(board.id), "promotion": promotion})
    rollout = stored["updateLeaderboard"]["leaderboard"]["promotion"]["rollout"]
    assert rollout["guardrails"] == {
        "judge_share": 0.05, "max_cost_ratio": 3.0, "max_error_rate_increase": 0.02,
    }  # fmt: skip
    rest = (await client.get(f"/api/leaderboards/{board.id}")).json()
    assert rest["promotion"]["rollout"]["guardrails"]["max_latency_ratio"] is None
    given = {"leaderboardId": str(board.id), "candidateId": str(canary.id)}
    begun = (await ask_well(client, START, input=given))["startRollout"]["rollout"]
    assert begun["settings"] == rollout
    bad = await ask(client, update, input={
        "id": str(board.id), "promotion": {"rollout": {"steps": [0.5, 0.2, 1]}},
    })  # fmt: skip
    assert "promotion.rollout: steps must ascend" in bad["errors"][0]["message"]
    guarded = await ask(client, update, input={
        "id": str(board.id),
        "promotion": {"rollout": {"guardrails": {"minScoreDifference": -0.1}}},
    })  # fmt: skip
    assert "goes with eval_type judge" in guarded["errors"][0]["message"]


async def test_a_shadow_is_begun_shown_and_stopped(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, _ = await make_served(process, tenant)
    challenger = await make_candidate(
        process, board, input_price_per_million_usd=Decimal(1),
        output_price_per_million_usd=Decimal(1),
    )  # fmt: skip
    begin = """mutation($input: StartShadowInput!) {
      startShadow(input: $input) { shadow { id status } } }"""
    ends_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    begun = await ask_well(client, begin, input={
        "leaderboardId": str(board.id), "challengerId": str(challenger.id), "share": 0.2,
        "budgetUsd": "2.5", "endsAt": ends_at.isoformat(),
    })  # fmt: skip
    shadow_id = begun["startShadow"]["shadow"]["id"]
    seen = (await look(client, board))["shadow"]
    assert datetime.fromisoformat(seen.pop("endsAt")) == ends_at
    assert seen == {
        "id": shadow_id, "status": "RUNNING", "share": 0.2, "budgetUsd": "2.5", "spentUsd": "0",
        "heldUsd": "0", "callCount": 0, "errorCount": 0, "reason": None, "finishedAt": None,
        "challenger": {"id": str(challenger.id)},
    }  # fmt: skip
    stop = """mutation($input: StopShadowInput!) {
      stopShadow(input: $input) { shadow { status reason } } }"""
    stopped = await ask_well(client, stop, input={"shadowId": shadow_id})
    assert stopped["stopShadow"]["shadow"] == {
        "status": "STOPPED", "reason": "somebody stopped it",
    }  # fmt: skip
    assert (await look(client, board))["shadow"]["status"] == "STOPPED"


async def test_what_can_t_be_stored_is_refused_by_its_field_and_its_value(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, (_, canary, _) = await make_served(process, tenant)
    begun = await start(client, board, canary)
    for reason in ("a\0b", "long" * 501):
        refused = (await change(client, "rollBackRollout", rolloutId=begun["id"], reason=reason))[
            "errors"
        ][0]
        assert refused["extensions"]["code"] == "invalid_input"
        assert refused["message"].startswith("reason: ")
        assert f"(got {reason[:8]!r}"[:10] in refused["message"]
    asked = {
        "leaderboardId": str(board.id), "challengerId": str(canary.id), "budgetUsd": "1",
        "endsAt": "9999-12-31T23:59:59-12:00",
    }  # fmt: skip
    begin = "mutation($input: StartShadowInput!) { startShadow(input: $input) { shadow { id } } }"
    (refused,) = (await ask(client, begin, input=asked))["errors"]
    assert refused["extensions"]["code"] == "invalid_input"
    expected = "ends_at: must be in the years 1970 to 9999 of UTC (got "
    assert refused["message"].startswith(expected)


async def test_another_workspace_s_rollouts_are_not_there(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board, (_, canary, _) = await make_served(process, tenant)
    begun = await start(client, board, canary)
    client.headers.update((await make_tenant(process)).headers)
    for name in ("advanceRollout", "cancelRollout", "rollBackRollout"):
        refused = await change(client, name, rolloutId=begun["id"])
        assert refused["errors"][0]["extensions"]["code"] == "not_found"
    assert (await read_rollout(process, Rollout(id=UUID(begun["id"])))).status == "running"
