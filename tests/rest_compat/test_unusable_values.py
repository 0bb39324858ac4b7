"""Values that JSON admits and nobody can store or forward are refused before anything is paid."""

import httpx2

from app.services import Process
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run

JSON = {"Content-Type": "application/json"}
DEEP = b"[" * 101 + b"]" * 101
UNUSABLE = {
    b"1180591620717411303424": "must not contain integers of more than 64 bits",
    b"-9223372036854775809": "must not contain integers of more than 64 bits",
    b"NaN": "must not contain numbers that are not finite",
    b"-1e999": "must not contain numbers that are not finite",
    b'"a\\u0000"': "must not contain NUL characters or lone surrogates",
    b'"\\ud800"': "must not contain NUL characters or lone surrogates",
    b'{"a\\u0000": 1}': "must not contain NUL characters or lone surrogates",
    DEEP: "must not contain values nested more than 100 deep",
}


async def test_an_unusable_value_is_told_and_sent_nowhere(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, sandbox_url: str
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_ranked_run(process, board, [await make_candidate(process, board)])
    infer = f"/v1/leaderboard/{board.id}/inference"
    models = f"/api/leaderboards/{board.id}/models"
    async with httpx2.AsyncClient(base_url=sandbox_url) as ledger:
        await ledger.delete("/stats")
        for value, said in UNUSABLE.items():
            for path, body in (
                (infer, b'{"input": "x", "extra": %s}'),
                (infer, b'{"messages": [{"role": "user", "content": "x", "extra": %s}]}'),
                (models, b'{"provider": "custom", "params": {"extra": %s}}'),
            ):
                answer = await client.post(path, content=body % value, headers=JSON)
                assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
                assert said in answer.json()["error"], (body, value)
        assert (await ledger.get("/stats")).json()["calls"] == {}
        largest = b'{"input": "x", "seed": 18446744073709551615}'
        answer = await client.post(infer, content=largest, headers=JSON)
        assert answer.status_code == 200


async def test_a_dataset_url_that_is_no_url_is_told(client: httpx2.AsyncClient) -> None:
    url = "https://[::1/datasets/a/b/resolve/main/x.jsonl"
    body = {"name": "n", "system_prompt": "p", "dataset_url": url}
    answer = await client.post("/api/leaderboards", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_dataset")
    assert answer.json()["error"].startswith(f"dataset_url: {url!r} is not a URL")
