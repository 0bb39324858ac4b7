"""The check of a Hugging Face URL, over HTTP and against real hubs: good, faulty and hostile."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from app.sandbox.hub_files import repo_commit, tasks_jsonl, tasks_jsonl_gz
from app.server import create_app
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from resolvers.hub_check import READ_BYTES, SAMPLED_ROWS, HubCheck, check_hub_file
from resolvers.inputs import HubFile
from tests.conftest import ask, session_token
from tests.factories import DATASET_URL, TWO_ROWS_URL, Tenant, make_tenant, make_token

MEBIBYTE = 1024 * 1024
PATH = "/api/datasets/huggingface/check"
HUB = "https://huggingface.co/datasets/gero-sandbox"
FAULTS = f"{HUB}/faults/resolve/main"
GATED = f"{HUB}/gated/resolve/main/tasks.jsonl"
OWN = "https://huggingface.co/datasets/o/n/resolve/main"
GOOD_LINE = b'{"id":"row-1","question":"What is two plus two?","answer":"4"}\n'
MAPPED = {"id": "id", "input": "question", "expected": "answer"}
CHECK = """query($url: String!) { checkHuggingFaceDataset(url: $url) {
  valid url format compressed fields mappedFields { field name }
  sampleRows { externalId input expected messages rubric metadata tags }
  checkedRowCount checkedWholeFile sizeBytes revision needsCredential
  problems { code message line } } }"""
SAVE = """mutation($input: SaveIntegrationInput!) {
  saveIntegration(input: $input) { integration { provider } } }"""


async def check(client: httpx2.AsyncClient, url: str) -> Any:
    answer = await client.post(PATH, json={"url": url})
    assert answer.status_code == 200, answer.text
    return answer.json()


def told(found: Any) -> list[tuple[str, int | None]]:
    return [(problem["code"], problem["line"]) for problem in found["problems"]]


async def test_a_good_file_is_valid_and_shows_what_runs_would_read(
    client: httpx2.AsyncClient,
) -> None:
    row: dict[str, Any] = {"messages": None, "rubric": None, "metadata": {}, "tags": []}
    assert await check(client, TWO_ROWS_URL) == {
        "valid": True,
        "url": TWO_ROWS_URL,
        "format": "jsonl",
        "compressed": False,
        "fields": ["id", "question", "answer"],
        "mapped_fields": MAPPED,
        "sample_rows": [
            {"id": "row-1", "input": "What is two plus two?", "expected": "4", **row},
            {"id": "row-2", "input": "What is three plus three?", "expected": "6", **row},
        ],
        "checked_row_count": 2,
        "checked_whole_file": True,
        "bytes": 130,
        "revision": repo_commit(),
        "needs_credential": False,
        "problems": [],
    }


async def test_a_compressed_file_has_the_size_that_it_is_stored_in(
    client: httpx2.AsyncClient,
) -> None:
    plain, packed = await check(client, DATASET_URL), await check(client, f"{DATASET_URL}.gz")
    assert (plain["compressed"], plain["bytes"]) == (False, len(tasks_jsonl()))
    assert (packed["compressed"], packed["bytes"]) == (True, len(tasks_jsonl_gz()))
    assert plain["sample_rows"] == packed["sample_rows"]
    assert (plain["valid"], packed["valid"], len(packed["sample_rows"])) == (True, True, 5)


async def test_a_file_behind_a_redirect_of_the_hub_is_told_of_alike(
    client: httpx2.AsyncClient,
) -> None:
    direct = await check(client, DATASET_URL)
    redirected = await check(client, DATASET_URL.replace("tasks.jsonl", "redirected.jsonl"))
    assert {**redirected, "url": DATASET_URL} == direct


async def test_of_a_long_file_the_first_rows_are_read(client: httpx2.AsyncClient) -> None:
    found = await check(client, f"{HUB}/sized/resolve/main/rows-20000.jsonl")
    assert (found["valid"], found["checked_whole_file"]) == (True, False)
    assert found["checked_row_count"] == SAMPLED_ROWS


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{FAULTS}/missing.jsonl", [("not_found", None)]),
        (f"{HUB}/tasks/resolve/dev/tasks.jsonl", [("not_found", None)]),
        (f"{HUB}/none/resolve/main/tasks.jsonl", [("not_found", None)]),
        (f"{FAULTS}/page.jsonl", [("not_jsonl", None)]),
        (f"{FAULTS}/not-gzip.jsonl.gz", [("not_jsonl", None)]),
        (f"{FAULTS}/truncated.jsonl.gz", [("truncated", None)]),
        (f"{FAULTS}/bad-line.jsonl", [("bad_line", 3)]),
        (f"{FAULTS}/latin1.jsonl", [("bad_line", 2)]),
        (f"{FAULTS}/no-usable-field.jsonl", [("no_usable_field", 1), ("no_usable_field", 2)]),
        (f"{FAULTS}/empty.jsonl", [("empty", None)]),
        (f"{FAULTS}/blank-lines.jsonl", [("empty", None)]),
        (f"{FAULTS}/huge-line.jsonl", [("too_large", 1)]),
        (f"{FAULTS}/server-error.jsonl", [("unreachable", None)]),
        (f"{FAULTS}/cut.jsonl", [("unreachable", None)]),
        (GATED, [("needs_credential", None)]),
        ("https://example.com/datasets/o/n/resolve/main/f.jsonl", [("invalid_url", None)]),
        (f"{HUB}/tasks/blob/main/tasks.jsonl", [("invalid_url", None)]),
        (f"{HUB}/tasks/resolve/main/tasks.csv", [("invalid_url", None)]),
        ("https://[::1", [("invalid_url", None)]),
        ("no url", [("invalid_url", None)]),
    ],
)
async def test_what_keeps_runs_from_reading_a_file_is_told_by_a_code(
    client: httpx2.AsyncClient, url: str, expected: list[tuple[str, int | None]]
) -> None:
    found = await check(client, url)
    assert (found["valid"], found["url"], told(found)) == (False, url, expected)
    assert found["needs_credential"] == (url == GATED)
    assert all(problem["message"] for problem in found["problems"])


async def test_a_faulty_file_still_shows_what_could_be_read(client: httpx2.AsyncClient) -> None:
    found = await check(client, f"{FAULTS}/bad-line.jsonl")
    assert (found["format"], found["mapped_fields"]) == ("jsonl", MAPPED)
    assert [row["id"] for row in found["sample_rows"]] == ["row-1", "row-2", "row-1", "row-2"]
    unusable = await check(client, f"{FAULTS}/no-usable-field.jsonl")
    assert (unusable["fields"], unusable["mapped_fields"]) == (["alpha", "beta"], {})
    assert unusable["sample_rows"] == []
    page = await check(client, f"{FAULTS}/page.jsonl")
    assert (page["format"], page["fields"], page["revision"]) == (None, [], None)


async def test_a_gated_file_is_read_with_the_workspaces_own_credential(
    client: httpx2.AsyncClient, base_url: str, tenant: Tenant, process: Process
) -> None:
    headers = {"Authorization": f"Bearer {session_token(tenant.owner_id)}"}
    async with httpx2.AsyncClient(base_url=base_url, headers=headers) as owner:
        await ask(owner, SAVE, input={"provider": "HUGGINGFACE", "token": "hf_sandbox_1"})
        assert (await check(owner, GATED))["valid"] is True  # a session will do
    found = await check(client, GATED)
    assert (found["valid"], found["needs_credential"], found["problems"]) == (True, False, [])
    client.headers.update((await make_tenant(process)).headers)
    other = await check(client, GATED)
    assert (other["needs_credential"], told(other)) == (True, [("needs_credential", None)])


@pytest.mark.parametrize("url", [TWO_ROWS_URL, f"{FAULTS}/bad-line.jsonl", "no url"])
async def test_graphql_says_the_same(client: httpx2.AsyncClient, url: str) -> None:
    rest = await check(client, url)
    answer = await ask(client, CHECK, url=url)
    assert "errors" not in answer
    found = answer["data"]["checkHuggingFaceDataset"]
    assert {each["field"]: each["name"] for each in found["mappedFields"]} == rest["mapped_fields"]
    same = {
        "valid": "valid", "url": "url", "format": "format", "compressed": "compressed",
        "fields": "fields", "checkedRowCount": "checked_row_count", "sizeBytes": "bytes",
        "checkedWholeFile": "checked_whole_file", "revision": "revision",
        "needsCredential": "needs_credential", "problems": "problems",
    }  # fmt: skip
    assert {name: found[name] for name in same} == {name: rest[same[name]] for name in same}
    assert [
        {**row, "id": row["externalId"]} for row in found["sampleRows"]
    ] == [{**row, "externalId": row["id"]} for row in rest["sample_rows"]]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "url: is required"),
        ({"url": ""}, "url: String should have at least 1 character (got '')"),
        ({"url": 1}, "url: Input should be a valid string (got 1)"),
        ({"url": TWO_ROWS_URL, "rows": 5}, "rows: unknown field"),
        ([], "the body must be a JSON object, sent with Content-Type: application/json"),
    ],
)
async def test_a_malformed_body_is_400(client: httpx2.AsyncClient, body: object, said: str) -> None:
    answer = await client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert answer.json()["error"] == said


async def test_a_url_that_breaks_a_rule_of_inputs_is_refused_in_graphql_too(
    client: httpx2.AsyncClient,
) -> None:
    (error,) = (await ask(client, CHECK, url="x" * 3_000))["errors"]
    assert error["extensions"]["code"] == "invalid_input"
    assert error["message"].startswith("url: ")


async def test_it_needs_leaderboards_read(
    anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    body = {"url": TWO_ROWS_URL}
    assert (await anonymous.post(PATH, json=body)).status_code == 401
    for scopes, status in ((["models:read"], 403), (["leaderboards:read"], 200)):
        token = await make_token(process, tenant.workspace_id, scopes=scopes)
        headers = {"Authorization": f"Bearer {token}"}
        assert (await anonymous.post(PATH, json=body, headers=headers)).status_code == status


# --- hubs of the tests' own: what they hold is given by its name


async def dribbled(line: bytes) -> AsyncIterator[bytes]:
    yield line
    for byte in line:
        await asyncio.sleep(0.2)
        yield bytes([byte])


def nested(levels: int) -> bytes:
    return b'{"prompt":"p","metadata":%s1%s}\n' % (b'{"a":' * levels, b"}" * levels)


FILES = {
    "newline-bomb.jsonl.gz": gzip.compress(b"\n" * (2 * READ_BYTES)),
    "line-bomb.jsonl.gz": gzip.compress(GOOD_LINE + b"x" * (2 * READ_BYTES)),
    "long-rows.jsonl": b"".join(
        orjson.dumps({"prompt": "p" * MEBIBYTE, "output": str(n)}) + b"\n" for n in range(3)
    ),
    "longest-line.jsonl": b'{"input":"%s"}\n' % (b"p" * (8 * MEBIBYTE - 20)),
    "names.jsonl": b"".join(
        orjson.dumps({"input": "i", f"name-{n}": n, "n" * 1_000: 0}) + b"\n" for n in range(200)
    ),
    "all-fields.jsonl": orjson.dumps(
        {
            "trace_id": 7, "query": "q", "completion": {"a": 1}, "rubric": "r", "tags": ["t"],
            "messages": [{"role": "user", "content": "q"}], "metadata": {"k": [1.5, None]},
        }
    ),
    "other-names.jsonl": b'{"question":"q"}\n{"prompt":"p","answer":"a"}\n',
    "array.jsonl": b"[\n  {}\n]\n",
    "kinds.jsonl": b'1\n{"input":1}\n{"input":" "}\n{"input":"\\u0000"}\n{"a":1}\n{"b":1}\n',
    "deep.jsonl": nested(190),
    "too-deep.jsonl": nested(600),
    "numbers.jsonl": b'{"input":"i","metadata":{"a":1e308,"b":18446744073709551615}}\n',
}  # fmt: skip


async def serve_file(request: Request) -> Response:
    name = request.path_params["name"]
    if "to" in request.query_params:
        return Response(status_code=302, headers={"Location": request.query_params["to"]})
    if name == "dribbled.jsonl":
        return StreamingResponse(dribbled(GOOD_LINE))
    if name == "claims.jsonl":
        return Response(GOOD_LINE, headers={"X-Linked-Size": "9000000000"})
    return Response(FILES[name])


@pytest.fixture
async def own_hub() -> AsyncIterator[str]:
    app = Starlette(routes=[Route("/datasets/o/n/resolve/main/{name}", serve_file)])
    listener = listen("127.0.0.1", 0)
    async with serving(app, listener):
        yield url_of(listener)


@asynccontextmanager
async def process_of(settings: Settings, hub_url: str) -> AsyncIterator[tuple[Settings, Process]]:
    """Make a process that reads from *hub_url* and from public addresses alone."""
    update = {"huggingface_url": hub_url, "sandbox_url": None, "allow_private_endpoints": False}
    changed = settings.model_copy(update=update)
    process = Process(changed)
    yield changed, process
    await process.aclose()


@pytest.fixture
async def own(
    settings: Settings, own_hub: str, tenant: Tenant
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server whose hub is the tests' own."""
    listener = listen("127.0.0.1", 0)
    async with (
        process_of(settings, own_hub) as (changed, process),
        serving(create_app(changed, process), listener),
        httpx2.AsyncClient(base_url=url_of(listener), headers=tenant.headers, timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("http://127.0.0.1:9/f.jsonl", "'http' is not https"),
        ("https://127.0.0.1:9/f.jsonl", "127.0.0.1 is not a public address"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254 is not a public address"),
        ("http://169.254.169.254/latest/meta-data", "'http' is not https"),
        ("https://[::ffff:169.254.169.254]/", "is not a public address"),
        ("https://localhost/f.jsonl", "localhost resolves to "),
        ("file:///etc/passwd", "'file' is not https"),
        ("https://[::1/f", "which is not a URL"),
    ],
)
async def test_a_hub_that_redirects_to_an_address_of_ours_is_refused(
    own: httpx2.AsyncClient, to: str, said: str
) -> None:
    found = await check(own, f"{OWN}/f.jsonl?to={to}")
    assert told(found) == [("refused_address", None)]
    assert said in found["problems"][0]["message"]
    assert found["sample_rows"] == []


@pytest.mark.parametrize(
    ("name", "expected", "row_count"),
    [
        ("newline-bomb.jsonl.gz", [("too_large", None)], 0),
        ("line-bomb.jsonl.gz", [("too_large", 2)], 1),
        ("longest-line.jsonl", [], 1),
        ("long-rows.jsonl", [], 1),
        ("claims.jsonl", [("too_large", None)], 0),
        ("deep.jsonl", [], 1),
        ("too-deep.jsonl", [("wrong_type", 1)], 0),
        ("array.jsonl", [("bad_line", 1), ("no_usable_field", 2), ("bad_line", 3)], 0),
        (
            "kinds.jsonl",
            [
                ("not_an_object", 1), ("wrong_type", 2), ("empty_input", 3), ("invalid_text", 4),
                ("no_usable_field", 5),
            ],
            0,
        ),
    ],
)  # fmt: skip
async def test_a_hostile_or_odd_file_is_read_within_bounds(
    own: httpx2.AsyncClient, name: str, expected: list[tuple[str, int | None]], row_count: int
) -> None:
    found = await check(own, f"{OWN}/{name}")
    assert (told(found), found["checked_row_count"]) == (expected, row_count)
    assert found["valid"] == (not expected)
    in_graphql = await ask(own, CHECK, url=f"{OWN}/{name}")
    assert "errors" not in in_graphql
    assert told(in_graphql["data"]["checkHuggingFaceDataset"]) == expected


async def test_long_rows_count_and_are_not_shown(own: httpx2.AsyncClient) -> None:
    found = await check(own, f"{OWN}/long-rows.jsonl")
    assert (found["valid"], found["checked_whole_file"]) == (True, False)
    assert (found["mapped_fields"], found["sample_rows"]) == (
        {"input": "prompt", "expected": "output"},
        [],
    )


async def test_names_are_told_in_order_of_appearance_within_bounds(
    own: httpx2.AsyncClient,
) -> None:
    fields = (await check(own, f"{OWN}/names.jsonl"))["fields"]
    assert fields[:4] == ["input", "name-0", "n" * 100, "name-1"]
    assert len(fields) == len(set(fields)) == 100


async def test_every_field_of_ours_is_found_by_the_name_in_use(own: httpx2.AsyncClient) -> None:
    found = await check(own, f"{OWN}/all-fields.jsonl")
    assert found["mapped_fields"] == {
        "id": "trace_id", "input": "query", "expected": "completion", "rubric": "rubric",
        "tags": "tags", "messages": "messages", "metadata": "metadata",
    }  # fmt: skip
    assert found["sample_rows"] == [
        {
            "id": "7", "input": "q", "expected": '{"a":1}', "rubric": "r", "tags": ["t"],
            "messages": [{"role": "user", "content": "q"}], "metadata": {"k": [1.5, None]},
        }
    ]  # fmt: skip
    mixed = await check(own, f"{OWN}/other-names.jsonl")
    assert mixed["mapped_fields"] == {"input": "question", "expected": "answer"}


async def test_numbers_are_shown_as_they_are(own: httpx2.AsyncClient) -> None:
    (row,) = (await check(own, f"{OWN}/numbers.jsonl"))["sample_rows"]
    assert row["metadata"] == {"a": 1e308, "b": 18446744073709551615}


async def within(
    settings: Settings, hub_url: str, tenant: Tenant, name: str, seconds: float
) -> HubCheck:
    async with process_of(settings, hub_url) as (_, process):
        ctx = process.system_context(tenant.workspace_id)
        return await check_hub_file(ctx, HubFile(url=f"{OWN}/{name}"), timeout_seconds=seconds)


async def test_a_hub_that_dribbles_is_given_up_and_what_came_is_told(
    settings: Settings, own_hub: str, tenant: Tenant
) -> None:
    found = await within(settings, own_hub, tenant, "dribbled.jsonl", 1.0)
    (problem,) = found.problems
    assert (problem.code, problem.message) == (
        "timed_out",
        "the hub did not send enough within 1 s",
    )
    assert [row.external_id for row in found.sample_rows] == ["row-1"]


async def test_a_gzip_bomb_does_not_outlast_the_time(
    settings: Settings, own_hub: str, tenant: Tenant
) -> None:
    found = await within(settings, own_hub, tenant, "newline-bomb.jsonl.gz", 0.1)
    assert [problem.code for problem in found.problems] == ["timed_out"]


async def test_a_hub_that_is_not_there_is_told(settings: Settings, tenant: Tenant) -> None:
    found = await within(settings, "http://127.0.0.1:9", tenant, "f.jsonl", 5.0)
    assert [problem.code for problem in found.problems] == ["unreachable"]
