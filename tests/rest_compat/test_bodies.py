"""Bodies, paths and queries that break a rule, and the published form of every error."""

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.services import Process
from tests.factories import (
    DATASET_URL,
    TWO_ROWS_URL,
    Tenant,
    make_candidate,
    make_leaderboard,
    make_ranked_run,
)

BOARD = {"name": "b", "system_prompt": "p", "dataset_url": DATASET_URL}
CUSTOM = {"provider": "custom", "endpoint_url": "http://127.0.0.1:9/x"}
INSTANT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
MAX_BODY_BYTES = 5 * 1024 * 1024


def assert_invalid(response: httpx2.Response, said: str) -> dict[str, Any]:
    body = response.json()
    assert (response.status_code, body["code"]) == (400, "invalid_input"), response.text
    assert body.keys() == {"error", "code", "details"}
    assert said in body["error"]
    return body  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nmae": "typo"}, "nmae: unknown field"),
        ({"evaluation": {"macth": "exact"}}, "evaluation.macth: unknown field"),
        ({"name": None}, "name: Input should be a valid string (got None)"),
        ({"name": ""}, "name: String should have at least 1 character (got '')"),
        ({"name": "x" * 201}, "name: String should have at most 200 characters"),
        ({"name": 7}, "name: Input should be a valid string (got 7)"),
        ({"name": "a\x00b"}, "name: must not contain NUL characters"),
        ({"system_prompt": ""}, "system_prompt: String should have at least 1 character"),
        ({"dataset_type": "FTP"}, "dataset_type: Input should be 'GET' (got 'FTP')"),
        ({"eval_type": "vibes"}, "eval_type: Input should be 'exact' (got 'vibes')"),
        ({"evaluation": {"match": "close"}}, "(got 'close')"),
        ({"evaluation": {"match": "close"}}, "evaluation.match: Input should be 'exact'"),
        ({"evaluation": {"extract": "("}}, "evaluation.extract: is not a valid regex"),
        ({"evaluation": "exact"}, "evaluation: "),
    ],
)
async def test_a_wrong_field_of_a_leaderboard_is_400_naming_it(
    client: httpx2.AsyncClient, change: dict[str, Any], said: str
) -> None:
    assert_invalid(await client.post("/api/leaderboards", json=BOARD | change), said)
    assert (await client.get("/api/leaderboards")).json()["total"] == 0


@pytest.mark.parametrize("missing", ["name", "dataset_url"])
async def test_a_missing_field_is_400_naming_it(client: httpx2.AsyncClient, missing: str) -> None:
    body = {name: value for name, value in BOARD.items() if name != missing}
    problem = assert_invalid(await client.post("/api/leaderboards", json=body), missing)
    assert problem["details"]["fields"] == [{"field": missing, "message": "is required"}]


async def test_every_wrong_field_is_told_at_once(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/leaderboards", json=BOARD | {"name": "", "extra": 1})
    fields = assert_invalid(answer, "; ")["details"]["fields"]
    assert {each["field"] for each in fields} == {"name", "extra"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"provider": "acme"}, "provider: Input should be 'openrouter', 'huggingface' or 'custom'"),
        ({"provider": "acme"}, "(got 'acme')"),
        ({"provider": "openrouter"}, "model_id is required when provider is openrouter"),
        ({"provider": "custom"}, "endpoint_url is required when provider is custom"),
        ({**CUSTOM, "provider": "openrouter", "model_id": "a/b"}, "endpoint_url does not go with"),
        ({**CUSTOM, "timeout_seconds": 0}, "timeout_seconds: "),
        ({**CUSTOM, "timeout_seconds": 601}, "(got 601)"),
        ({**CUSTOM, "input_price_per_million_usd": -1}, "input_price_per_million_usd: "),
        ({**CUSTOM, "params": {"model": "x"}}, "params: model can't be set here"),
        ({**CUSTOM, "params": {"stream": True}}, "params: stream can't be set here"),
        ({**CUSTOM, "auth_method": "bearer"}, "auth_method and auth_token go together"),
        ({**CUSTOM, "auth_token": "s3cret"}, "auth_method and auth_token go together"),
        ({**CUSTOM, "auth_method": "digest", "auth_token": "s3cret"}, "(got 'digest')"),
        (
            {**CUSTOM, "auth_method": "custom_header", "auth_token": "s3cret"},
            "auth_header_name goes with auth_method custom_header",
        ),
        (
            {
                **CUSTOM,
                "auth_method": "custom_header",
                "auth_token": "s3cret",
                "auth_header_name": "Host",
            },
            "auth_header_name: is a header that can't be replaced",
        ),
        (
            {**CUSTOM, "auth_method": "bearer", "auth_token": "s3cret\r\nX-Evil: 1"},
            "auth_token: must be printable ASCII",
        ),
        ({**CUSTOM, "endpoint_url": "http://u:s3cret@127.0.0.1/"}, "must not carry a user name"),
        ({**CUSTOM, "endpoint_url": "ftp://127.0.0.1/"}, "endpoint_url: "),
        ({**CUSTOM, "endpoint_url": "not a url"}, "endpoint_url: "),
        ({**CUSTOM, "endpoint_url": "http://[::1"}, "endpoint_url"),
        ({**CUSTOM, "endpoint_url": "http://127.0.0.1:99999/"}, "endpoint_url"),
        ({"provider": "openrouter", "model_id": "sandbox/nobody"}, "model_id: OpenRouter has no"),
    ],
)
async def test_a_wrong_field_of_a_model_is_400_naming_it_and_no_secret(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, body: dict[str, Any], said: str
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    answer = await client.post(f"/api/leaderboards/{board.id}/models", json=body)
    assert_invalid(answer, said)
    assert "s3cret" not in answer.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"dataset": {"mode": "SOME"}}, "dataset.mode: Input should be 'ALL' or 'LIMIT'"),
        ({"dataset": {"mode": "LIMIT"}}, "limit goes with mode LIMIT"),
        ({"dataset": {"mode": "LIMIT", "limit": {}}}, "rows is required unless auto is true"),
        ({"dataset": {"mode": "LIMIT", "limit": {"rows": 0}}}, "dataset.limit.rows: "),
        (
            {"dataset": {"mode": "LIMIT", "limit": {"rows": 1, "algorithm": "BEST"}}},
            "(got 'BEST')",
        ),
        ({"leaderboard_model_ids": []}, "leaderboard_model_ids: "),
        ({"leaderboard_model_ids": ["x"]}, "leaderboard_model_ids.0: "),
        (
            {"leaderboard_model_ids": ["00000000-0000-7000-8000-000000000000"]},
            "is not a model of this leaderboard",
        ),
        ({"datasett": {}}, "datasett: unknown field"),
    ],
)
async def test_a_wrong_field_of_a_run_is_400_naming_it(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, body: dict[str, Any], said: str
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_candidate(process, board)
    assert_invalid(await client.post(f"/api/leaderboards/{board.id}/run", json=body), said)


async def test_a_run_without_models_is_409(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    answer = await client.post(f"/api/leaderboards/{board.id}/run")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "has no candidate models" in answer.json()["error"]


async def test_an_openrouter_model_without_a_key_is_409_integration_missing(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    body = {"provider": "openrouter", "model_id": "openai/gpt-5.2"}
    answer = await client.post(f"/api/leaderboards/{board.id}/models", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "integration_missing")
    assert answer.json()["details"] == {"provider": "openrouter"}


@pytest.mark.parametrize(
    ("content", "content_type", "said"),
    [
        (b"{", "application/json", "the body is not valid JSON"),
        (b"name=b", "application/json", "the body is not valid JSON"),
        (b"\xff\xfe{}", "application/json", ""),
        (b"[" * 100_000, "application/json", ""),
        (b"", "application/json", "the body must be a JSON object"),
        (b"[]", "application/json", "the body must be a JSON object"),
        (b'"text"', "application/json", "the body must be a JSON object"),
        (b"null", "application/json", "the body must be a JSON object"),
        (b"7", "application/json", "the body must be a JSON object"),
        (b"name=b", "application/x-www-form-urlencoded", "the body must be a JSON object"),
        (b"{}", "text/plain", "the body must be a JSON object"),
    ],
)
@pytest.mark.parametrize("path", ["/api/leaderboards", "/v1/leaderboard/{id}/inference"])
async def test_a_body_that_is_no_json_object_is_400(
    client: httpx2.AsyncClient, path: str, content: bytes, content_type: str, said: str
) -> None:
    answer = await client.post(
        path.format(id=uuid4()), content=content, headers={"Content-Type": content_type}
    )
    assert_invalid(answer, said)


@pytest.mark.parametrize("chunked", [False, True], ids=["Content-Length", "chunked"])
async def test_a_body_too_large_is_413(client: httpx2.AsyncClient, *, chunked: bool) -> None:
    large = b'{"name": "' + b"x" * MAX_BODY_BYTES + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 1 << 20):
            yield large[start : start + (1 << 20)]

    headers = {"Content-Type": "application/json"}
    content = chunks() if chunked else large
    answer = await client.post("/api/leaderboards", content=content, headers=headers)
    assert (answer.status_code, answer.json()) == (
        413,
        {
            "error": f"the body is over the limit of {MAX_BODY_BYTES} bytes",
            "code": "body_too_large",
            "details": {},
        },
    )
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/leaderboards/{id}"),
        ("PATCH", "/api/leaderboards/{id}"),
        ("DELETE", "/api/leaderboards/{id}"),
        ("GET", "/api/leaderboards/{id}/models"),
        ("GET", "/api/leaderboards/{id}/runs"),
        ("POST", "/api/leaderboards/{id}/run"),
        ("GET", "/v1/leaderboard/{id}/traces"),
    ],
)
async def test_a_malformed_uuid_is_400_naming_it(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    body = {} if method in {"PATCH", "POST"} else None
    answer = await client.request(method, path.format(id="not-a-uuid"), json=body)
    assert_invalid(answer, "leaderboard_id: ")
    assert "(got 'not-a-uuid')" in answer.json()["error"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "limit: Input should be greater than or equal to 1 (got '0')"),
        ("limit=201", "limit: Input should be less than or equal to 200 (got '201')"),
        ("limit=many", "limit: Input should be a valid integer"),
        ("offset=-1", "offset: Input should be greater than or equal to 0 (got '-1')"),
        ("offset=99999999999999999999", "offset: "),
    ],
)
async def test_a_wrong_query_is_400_naming_it(
    client: httpx2.AsyncClient, query: str, said: str
) -> None:
    assert_invalid(await client.get(f"/api/leaderboards?{query}"), said)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "not_found"),
        ("GET", "/api/leaderboards/", 404, "not_found"),
        ("GET", f"/api/leaderboards/{uuid4()}", 404, "not_found"),
        ("PUT", "/api/leaderboards", 405, "method_not_allowed"),
        ("GET", f"/v1/leaderboard/{uuid4()}/inference", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
    ],
)
async def test_an_unknown_path_or_method_answers_the_published_error(
    client: httpx2.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json().keys() == {"error", "code", "details"}
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"]
    if status == 405:
        assert answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/api/leaderboards"])
async def test_a_request_id_is_echoed(anonymous: httpx2.AsyncClient, path: str) -> None:
    answer = await anonymous.get(path, headers={"X-Request-Id": "order-7.a_b"})
    assert answer.headers.get_list("X-Request-Id") == ["order-7.a_b"]


@pytest.mark.parametrize("given", ["two words", "x" * 101, "<script>", "a\tb"])
async def test_an_unsafe_request_id_is_replaced(anonymous: httpx2.AsyncClient, given: str) -> None:
    answer = await anonymous.get("/healthz", headers={"X-Request-Id": given})
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["X-Request-Id"])


@pytest.mark.parametrize(
    "body",
    [
        {
            "name": "b",
            "system_prompt": "p",
            "dataset_url": TWO_ROWS_URL,
            "dataset_type": "GET",
            "eval_type": "exact",
        },
        {
            "name": "b",
            "systemPrompt": "p",
            "datasetUrl": TWO_ROWS_URL,
            "datasetType": "GET",
            "evalType": "exact",
        },
        {"name": "b", "model_prompt": "p", "dataset_url": TWO_ROWS_URL},
        {"name": "b", "modelPrompt": "p", "datasetUrl": TWO_ROWS_URL},
    ],
    ids=["snake_case", "camelCase", "model_prompt", "modelPrompt"],
)
async def test_names_are_taken_in_both_cases_and_answered_in_snake_case(
    client: httpx2.AsyncClient, tenant: Tenant, body: dict[str, Any]
) -> None:
    answer = await client.post("/api/leaderboards", json=body)
    assert answer.status_code == 201, answer.text
    board = answer.json()
    assert INSTANT.match(board.pop("created_at"))
    assert INSTANT.match(board.pop("updated_at"))
    assert board == {
        "id": board["id"],
        "workspace_id": str(tenant.workspace_id),
        "name": "b",
        "system_prompt": "p",
        "dataset_type": "GET",
        "dataset_url": TWO_ROWS_URL,
        "eval_type": "exact",
        "evaluation": {"match": "exact", "extract": None},
        "model_selection": "ranking_winner",
        "selected_leaderboard_model_id": None,
    }


async def test_a_model_in_camel_case_is_shown_without_its_credential(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    answer = await client.post(
        f"/api/leaderboards/{board.id}/models",
        json={
            "provider": "custom",
            "endpointUrl": "http://127.0.0.1:9/mine",
            "displayName": "Mine",
            "authMethod": "custom_header",
            "authHeaderName": "X-Mine",
            "authToken": "s3cret",
            "inputPricePerMillionUsd": 0.5,
            "timeoutSeconds": 3,
            "params": {"max_tokens": 5},
        },
    )
    assert answer.status_code == 201, answer.text
    assert "s3cret" not in answer.text
    model = answer.json()
    assert INSTANT.match(model.pop("created_at"))
    assert model == {
        "id": model["id"],
        "leaderboard_id": str(board.id),
        "provider": "custom",
        "model_id": None,
        "display_name": "Mine",
        "endpoint_url": "http://127.0.0.1:9/mine",
        "auth_method": "custom_header",
        "auth_header_name": "X-Mine",
        "has_auth_token": True,
        "params": {"max_tokens": 5},
        "input_price_per_million_usd": 0.5,
        "output_price_per_million_usd": None,
        "timeout_seconds": 3.0,
    }


async def test_every_time_of_an_answer_has_milliseconds_and_z(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    await make_ranked_run(process, board, [await make_candidate(process, board)])
    (run,) = (await client.get(f"/api/leaderboards/{board.id}/runs")).json()["runs"]
    listing = await client.get(f"/v1/leaderboard/{board.id}/traces?format=json")
    times = [
        *(run[name] for name in ("created_at", "started_at", "finished_at")),
        run["ranking"]["completed_at"],
        *(row["created_at"] for row in listing.json()["rows"]),
    ]
    assert len(times) == 6
    assert all(INSTANT.match(each) for each in times)
