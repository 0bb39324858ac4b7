"""People score a run's answers, compare them, and check a judge."""

import asyncio
from typing import Any

import httpx2
import pytest

from app.services import Process
from db.models import Run
from tests.conftest import ask, await_run
from tests.factories import Tenant, make_tenant, make_token
from tests.jobs.conftest import make_board
from tests.jobs.test_judging import judged_board
from tests.jobs.test_promotions import Models
from tests.jobs.test_run_lifecycle import RESCORE, start
from tests.model_peer import ModelPeer

ASSIGN = """mutation($input: AssignReviewInput!) { assignReview(input: $input) { review {
  id status output otherOutput row { input expected } candidate { id } isSampled } } }"""
SUBMIT = """mutation($input: SubmitReviewInput!) { submitReview(input: $input) { review {
  status score preferred comment candidate { displayName } run { id } } } }"""
SKIP = "mutation($id: ID!) { skipReview(input: {id: $id}) { review { status } } }"
RUN = """query($id: ID!) { run(id: $id) { status reviewProgress { needed done assigned skipped }
  reviews(first: 5) { totalCount nodes { status } }
  results(first: 1) { nodes { id score humanScore } }
  ranking { entries { score candidate { displayName } }
    humanCheck { kappa exactAgreement reviewedCount
      candidates { judgedMean candidate { displayName }
        corrected { mean low high weight reviewedCount } } } } } }"""
ROWS = {"mode": "LIMIT", "limit": {"rows": 6}}
EVALUATION = {"match": "exact", "review_mode": "score", "review_share": 1.0}


async def call(client: httpx2.AsyncClient, mutation: str, **variables: Any) -> Any:
    answer = await ask(client, mutation, **variables)
    assert "errors" not in answer, answer
    (payload,) = answer["data"].values()
    return payload


async def take(client: httpx2.AsyncClient, run_id: str, **options: Any) -> Any:
    return (await call(client, ASSIGN, input={"runId": run_id, **options}))["review"]


async def look(client: httpx2.AsyncClient, run_id: str) -> Any:
    return await call(client, RUN, id=run_id)


async def until_review(client: httpx2.AsyncClient, board_id: object, run_id: str) -> None:
    async with asyncio.timeout(20):
        while (await look(client, run_id))["status"] != "AWAITING_REVIEW":
            await asyncio.sleep(0.02)


async def test_a_run_that_people_score_waits_for_them_and_is_ranked_by_what_they_say(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=1000, two=117)
    board, _ = await make_board(
        process, tenant, peer, "one", "two", eval_type="human", evaluation=EVALUATION
    )
    run_id = await start(client, board.id, dataset=ROWS)
    await until_review(client, board.id, run_id)
    following = await start(client, board.id, dataset=ROWS)  # it does not have to wait for people
    await until_review(client, board.id, following)
    seen = await look(client, run_id)
    assert seen["reviewProgress"] == {"needed": 12, "done": 0, "assigned": 0, "skipped": 0}
    assert seen["ranking"] is None
    first = await take(client, run_id)
    assert (first["status"], first["candidate"], first["isSampled"]) == ("ASSIGNED", None, True)
    assert (await take(client, run_id))["id"] == first["id"]  # in hand already
    await call(client, SKIP, id=first["id"])
    other = await make_token(process, tenant.workspace_id)
    async with httpx2.AsyncClient(
        base_url=client.base_url, headers={"X-API-Key": other}, timeout=30
    ) as colleague:
        for reviewer, count in ((client, 11), (colleague, 1)):
            for _ in range(count):
                review = await take(reviewer, run_id)
                score = 5 if review["output"] == review["row"]["expected"] else 1
                said = {"id": review["id"], "score": score, "comment": "seen"}
                done = (await call(reviewer, SUBMIT, input=said))["review"]
                assert done["status"] == "DONE"
                assert done["candidate"]["displayName"] in {"one", "two"}
            assert await take(reviewer, run_id) is None or reviewer is colleague
    ended = await await_run(client, board.id, run_id)
    assert ended["status"] == "completed"
    seen = await look(client, run_id)
    assert [(e["candidate"]["displayName"], e["score"]) for e in seen["ranking"]["entries"]] == [
        ("one", 1.0), ("two", pytest.approx((3 + 3 * 0.2) / 6)),
    ]  # fmt: skip
    assert seen["reviewProgress"] == {"needed": 12, "done": 12, "assigned": 0, "skipped": 1}
    assert seen["reviews"]["totalCount"] == 13


async def test_a_share_of_reviews_is_enough_when_the_run_says_so(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=1000)
    evaluation = {**EVALUATION, "review_share": 0.4}
    board, _ = await make_board(
        process, tenant, peer, "one", eval_type="human", evaluation=evaluation
    )
    run_id = await start(client, board.id, dataset=ROWS)
    await until_review(client, board.id, run_id)
    assert (await look(client, run_id))["reviewProgress"]["needed"] == 3
    for score in (5, 4, 3):
        review = await take(client, run_id)
        await call(client, SUBMIT, input={"id": review["id"], "score": score})
    ended = await await_run(client, board.id, run_id)
    (entry,) = ended["ranking"]["entries"]
    assert (entry["score"], entry["row_count"]) == (pytest.approx(0.8), 3)


async def test_people_may_prefer_one_of_two_answers_instead(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=1000, two=117, three=0)
    evaluation = {**EVALUATION, "review_mode": "prefer"}
    board, _ = await make_board(
        process, tenant, peer, "one", "two", "three", eval_type="human", evaluation=evaluation
    )
    run_id = await start(client, board.id, dataset=ROWS)
    await until_review(client, board.id, run_id)
    assert (await look(client, run_id))["reviewProgress"]["needed"] == 18
    for _ in range(18):
        review = await take(client, run_id)
        right = review["row"]["expected"]
        said = {(True, False): "FIRST", (False, True): "SECOND"}.get(
            (review["output"] == right, review["otherOutput"] == right), "TIE"
        )
        await call(client, SUBMIT, input={"id": review["id"], "preferred": said})
    ended = await await_run(client, board.id, run_id)
    entries = ended["ranking"]["entries"]
    assert [entry["score"] for entry in entries] == [
        pytest.approx((3 * 0.75 + 3 * 1.0) / 6),
        pytest.approx((3 * 0.75 + 3 * 0.25) / 6),
        pytest.approx((3 * 0.0 + 3 * 0.25) / 6),
    ]
    assert entries[0]["strength"] > entries[1]["strength"] > entries[2]["strength"]


async def test_people_check_a_judge_and_its_means_are_corrected(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large", "erratic-mini")
    rows = {"mode": "LIMIT", "limit": {"rows": 40}}
    run = await await_run(client, board.id, await start(client, board.id, dataset=rows))
    before = await look(client, run["id"])
    assert before["ranking"]["humanCheck"] is None
    for _ in range(30):
        review = await take(client, run["id"])
        answer = review["row"]["expected"]
        score = 5 if review["output"].endswith(f"Answer: {answer}") else 0
        await call(client, SUBMIT, input={"id": review["id"], "score": score})
    check = (await look(client, run["id"]))["ranking"]["humanCheck"]
    assert check["reviewedCount"] == 30
    assert 0 <= check["exactAgreement"] <= 1
    assert -1 <= check["kappa"] <= 1
    assert sum(each["corrected"]["reviewedCount"] for each in check["candidates"]) == 30
    for each in check["candidates"]:
        corrected = each["corrected"]
        assert corrected["low"] <= corrected["mean"] <= corrected["high"]
    best, worst = sorted(check["candidates"], key=lambda each: -each["corrected"]["mean"])
    assert best["candidate"]["displayName"] == "careful-large"
    assert worst["corrected"]["mean"] < best["corrected"]["low"]


async def test_a_result_that_is_chosen_corrects_itself_and_counts_for_no_other(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant
) -> None:
    board = await judged_board(process, tenant, "careful-large")
    run = await await_run(client, board.id, await start(client, board.id, dataset=ROWS))
    result = (await look(client, run["id"]))["results"]["nodes"][0]
    review = await take(client, run["id"], resultId=result["id"])
    assert review["isSampled"] is False
    await call(client, SUBMIT, input={"id": review["id"], "score": 2})
    seen = await look(client, run["id"])
    (corrected,) = [each for each in seen["results"]["nodes"] if each["id"] == result["id"]]
    assert (corrected["score"], corrected["humanScore"]) == (result["score"], 0.4)
    assert seen["ranking"]["humanCheck"] is None
    again = await ask(client, ASSIGN, input={"runId": run["id"], "resultId": result["id"]})
    assert again["errors"][0]["extensions"]["code"] == "conflict"


async def test_what_does_not_fit_is_refused_and_strangers_have_no_part_in_it(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=1000)
    board, _ = await make_board(
        process, tenant, peer, "one", eval_type="human", evaluation=EVALUATION
    )
    run_id = await start(client, board.id, dataset=ROWS)
    await until_review(client, board.id, run_id)
    review = await take(client, run_id)
    for said, code, message in (
        ({"score": 6}, "invalid_input", "score: must be from 0 to 5 (got 6)"),
        ({"preferred": "FIRST"}, "invalid_input", "score: is asked in run"),
        ({}, "invalid_input", "score or preferred is required"),
        ({"score": 1, "preferred": "TIE"}, "invalid_input", "and not both"),
    ):
        answer = await ask(client, SUBMIT, input={"id": review["id"], **said})
        error = answer["errors"][0]
        assert (error["extensions"]["code"], message in error["message"]) == (code, True), error
    stranger = await make_tenant(process)
    client.headers.update(stranger.headers)
    for mutation, variables in (
        (ASSIGN, {"input": {"runId": run_id}}),
        (SUBMIT, {"input": {"id": review["id"], "score": 1}}),
        (SKIP, {"id": review["id"]}),
    ):
        missing = await ask(client, mutation, **variables)
        assert missing["errors"][0]["extensions"]["code"] == "not_found"
    client.headers.update(tenant.headers)
    await call(client, SUBMIT, input={"id": review["id"], "score": 3})
    twice = await ask(client, SUBMIT, input={"id": review["id"], "score": 3})
    assert twice["errors"][0]["extensions"]["code"] == "conflict"


async def test_scoring_again_what_people_have_scored_asks_nobody(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=1000, two=117)
    for mode, said in (("score", {"score": 4}), ("prefer", {"preferred": "FIRST"})):
        evaluation = {**EVALUATION, "review_mode": mode}
        board, _ = await make_board(
            process, tenant, peer, "one", "two", eval_type="human", evaluation=evaluation
        )
        run_id = await start(client, board.id, dataset=ROWS)
        await until_review(client, board.id, run_id)
        while (review := await take(client, run_id)) is not None:
            await call(client, SUBMIT, input={"id": review["id"], **said})
        first = await await_run(client, board.id, run_id)
        again = (await ask(client, RESCORE, id=run_id))["data"]["rescoreRun"]["run"]["id"]
        ended = await await_run(client, board.id, again)
        assert ended["status"] == "completed", ended["error"]
        assert [e["score"] for e in ended["ranking"]["entries"]] == [
            e["score"] for e in first["ranking"]["entries"]
        ]
        assert ended["cost_usd"] == 0


async def test_a_named_result_in_hand_is_given_again_and_a_comment_is_checked(
    client: httpx2.AsyncClient, worker: None, process: Process, tenant: Tenant, peer: ModelPeer
) -> None:
    peer.answer = Models(one=1000)
    board, _ = await make_board(
        process, tenant, peer, "one", eval_type="human", evaluation=EVALUATION
    )
    run_id = await start(client, board.id, dataset=ROWS)
    await until_review(client, board.id, run_id)
    result = (await look(client, run_id))["results"]["nodes"][0]
    assert result["score"] is None
    first = await take(client, run_id, resultId=result["id"])
    assert (await take(client, run_id, resultId=result["id"]))["id"] == first["id"]
    skip = "mutation($input: SkipReviewInput!) { skipReview(input: $input) { review { id } } }"
    for comment in ("a\x00b", "x" * 10_001):
        answer = await ask(client, skip, input={"id": first["id"], "comment": comment})
        error = answer["errors"][0]
        assert (error["extensions"]["code"], "comment" in error["message"]) == (
            "invalid_input", True,
        )  # fmt: skip
    await client.delete(f"/api/leaderboards/{board.id}")
    async with process.database.read() as session:
        run = await session.get_one(Run, run_id)
    assert (run.status, run.error) == ("failed", "the leaderboard was deleted")
    gone = await ask(client, SUBMIT, input={"id": first["id"], "score": 1})
    assert gone["errors"][0]["extensions"]["code"] == "not_found"
