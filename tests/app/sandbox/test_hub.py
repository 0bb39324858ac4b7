"""The Hugging Face routes over HTTP: good files, gated ones, faulty ones and sized ones."""

import gzip
import json
import re
import zlib
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from app.sandbox.hub_files import HUGE_LINE_BYTES
from app.sandbox.tasks import list_task_rows

HUB = "/datasets/gero-sandbox"
TASKS = f"{HUB}/tasks/resolve/main/tasks.jsonl"
FAULTS = f"{HUB}/faults/resolve/main"
SIZED = f"{HUB}/sized/resolve/main"
TOKEN = {"Authorization": "Bearer hf_sandbox_1"}


def parse_lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


async def test_the_tasks_file_holds_the_rows_with_the_hubs_headers(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.get(TASKS)
    assert answer.status_code == 200
    assert parse_lines(answer.content) == list_task_rows()
    assert answer.headers["etag"] == f'"{sha256(answer.content).hexdigest()}"'
    assert re.fullmatch("[0-9a-f]{40}", answer.headers["x-repo-commit"])
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_the_compressed_file_holds_the_same_rows(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"{TASKS}.gz")
    assert "content-encoding" not in answer.headers
    assert parse_lines(gzip.decompress(answer.content)) == list_task_rows()


@pytest.mark.parametrize("path", [TASKS, f"{TASKS}.gz", f"{SIZED}/rows-2000.jsonl"])
async def test_head_gives_the_headers_of_get_without_the_body(
    client: httpx2.AsyncClient, path: str
) -> None:
    head, whole = await client.head(path), await client.get(path)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("etag", "x-repo-commit", "content-length", "content-type"):
        assert head.headers[name] == whole.headers[name]


async def test_a_file_the_client_has_is_304(client: httpx2.AsyncClient) -> None:
    etag = (await client.head(TASKS)).headers["etag"]
    answer = await client.get(TASKS, headers={"If-None-Match": etag})
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == etag


async def test_a_file_can_be_asked_for_by_commit(client: httpx2.AsyncClient) -> None:
    commit = (await client.head(TASKS)).headers["x-repo-commit"]
    answer = await client.get(TASKS.replace("main", commit))
    assert answer.status_code == 200


async def test_a_branch_moves_when_told_so_and_earlier_commits_stay_readable(
    client: httpx2.AsyncClient,
) -> None:
    main = f"{HUB}/moving/resolve/main/tasks.jsonl"
    before = await client.get(main)
    commit = before.headers["x-repo-commit"]
    moved = await client.post(f"{HUB}/moving/move")
    after = await client.get(main)
    assert moved.json() == {"branch": "main", "commit": after.headers["x-repo-commit"]}
    assert after.content != before.content
    assert after.headers["etag"] != before.headers["etag"]
    for revision, content in ((commit, before.content), (moved.json()["commit"], after.content)):
        answer = await client.get(main.replace("main", revision))
        assert answer.content == content
        assert answer.headers["x-repo-commit"] == revision
    first, second = parse_lines(after.content)
    assert (first["id"], second["id"]) == ("row-1", "row-2")


async def test_the_moving_dataset_has_one_file_and_no_other_revisions(
    client: httpx2.AsyncClient,
) -> None:
    for path, code in (("main/x.jsonl", "EntryNotFound"), ("dev/tasks.jsonl", "RevisionNotFound")):
        answer = await client.get(f"{HUB}/moving/resolve/{path}")
        assert (answer.status_code, answer.headers["x-error-code"]) == (404, code)


async def test_a_redirected_file_ends_at_the_tasks(client: httpx2.AsyncClient) -> None:
    first = await client.get(f"{HUB}/tasks/resolve/main/redirected.jsonl")
    assert first.status_code == 302
    assert first.headers["location"] == TASKS
    last = await client.get(first.url, follow_redirects=True)
    assert parse_lines(last.content) == list_task_rows()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("", 401), ("Bearer hf_other", 401), ("hf_sandbox", 401), ("Bearer hf_sandbox", 200)],
)
async def test_a_gated_file_needs_a_token(
    client: httpx2.AsyncClient, authorization: str, status: int
) -> None:
    path = f"{HUB}/gated/resolve/main/tasks.jsonl"
    answer = await client.get(path, headers={"Authorization": authorization})
    assert answer.status_code == status
    assert answer.headers.get("x-error-code") == ("GatedRepo" if status == 401 else None)


async def test_a_token_has_a_name_and_any_other_is_401(client: httpx2.AsyncClient) -> None:
    known = await client.get("/api/whoami-v2", headers=TOKEN)
    unknown = await client.get("/api/whoami-v2", headers={"Authorization": "Bearer hf_other"})
    assert (known.status_code, known.json()["name"]) == (200, "gero-sandbox")
    assert (unknown.status_code, list(unknown.json())) == (401, ["error"])


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{FAULTS}/missing.jsonl", "EntryNotFound"),
        (f"{HUB}/tasks/resolve/main/other.jsonl", "EntryNotFound"),
        (f"{HUB}/tasks/resolve/dev/tasks.jsonl", "RevisionNotFound"),
        (f"{HUB}/other/resolve/main/tasks.jsonl", "RepoNotFound"),
        ("/datasets/else/tasks/resolve/main/tasks.jsonl", "RepoNotFound"),
        (f"{SIZED}/rows-1000001.jsonl", "EntryNotFound"),
        (f"{SIZED}/rows-many.jsonl", "EntryNotFound"),
        (f"{HUB}/tasks/resolve/main/%E2%82%AC%20%22.jsonl", "EntryNotFound"),
    ],
)
async def test_what_is_not_there_is_404_and_says_what_is(
    client: httpx2.AsyncClient, path: str, code: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["x-error-code"] == code
    assert TASKS in answer.json()["dataset_files"]
    assert "GERO_HUGGINGFACE_URL" in answer.json()["hint"]


async def test_the_page_is_html_with_200(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"{FAULTS}/page.jsonl")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>")


async def test_the_truncated_gzip_ends_in_the_middle_of_the_rows(
    client: httpx2.AsyncClient,
) -> None:
    content = (await client.get(f"{FAULTS}/truncated.jsonl.gz")).content
    with pytest.raises(EOFError):
        gzip.decompress(content)
    rows = zlib.decompressobj(wbits=31).decompress(content)
    assert (await client.get(TASKS)).content.startswith(rows)
    assert rows.count(b"\n") > 10


async def test_the_file_that_is_not_gzip_is_plain_rows(client: httpx2.AsyncClient) -> None:
    content = (await client.get(f"{FAULTS}/not-gzip.jsonl.gz")).content
    assert len(parse_lines(content)) == 2


async def test_only_line_3_of_the_bad_line_file_is_not_json(client: httpx2.AsyncClient) -> None:
    lines = (await client.get(f"{FAULTS}/bad-line.jsonl")).content.splitlines()
    assert len(lines) == 5
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines.pop(2))
    assert all("question" in json.loads(line) for line in lines)


async def test_only_line_2_of_the_latin1_file_is_not_utf8(client: httpx2.AsyncClient) -> None:
    first, second = (await client.get(f"{FAULTS}/latin1.jsonl")).content.splitlines()
    assert json.loads(first)["id"] == "row-1"
    with pytest.raises(UnicodeDecodeError):
        second.decode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jsonl", b""),
        ("blank-lines.jsonl", b"\n" * 12),
        (
            "no-usable-field.jsonl",
            b'{"alpha":1,"beta":"two"}\n{"alpha":2,"beta":"three"}\n',
        ),
        (
            "two.jsonl",
            b"""{"id":"row-1","question":"What is two plus two?","answer":"4"}
{"id":"row-2","question":"What is three plus three?","answer":"6"}
""",
        ),
    ],
)
async def test_a_small_file_holds_exactly(
    client: httpx2.AsyncClient, name: str, content: bytes
) -> None:
    answer = await client.get(f"{FAULTS}/{name}")
    assert answer.status_code == 200
    assert answer.content == content


async def test_the_huge_line_is_one_good_row_of_20_megabytes(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"{FAULTS}/huge-line.jsonl")
    assert len(answer.content) == HUGE_LINE_BYTES == 20_000_000
    (row,) = parse_lines(answer.content)
    assert set(row) == {"id", "question", "answer"}


async def test_the_server_error_is_500(client: httpx2.AsyncClient) -> None:
    assert (await client.get(f"{FAULTS}/server-error.jsonl")).status_code == 500


async def test_the_slow_file_sends_one_row_and_keeps_the_client_waiting(
    client: httpx2.AsyncClient,
) -> None:
    async with client.stream("GET", f"{FAULTS}/slow.jsonl", timeout=0.3) as answer:
        chunks = answer.aiter_raw()
        assert json.loads(await anext(chunks))["id"] == "row-1"
        with pytest.raises(httpx2.ReadTimeout):
            await anext(chunks)


async def test_the_cut_file_is_shorter_than_it_declares(client: httpx2.AsyncClient) -> None:
    path = f"{FAULTS}/cut.jsonl"
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get(path)
    whole = await client.get(TASKS)
    assert (await client.head(path)).headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize("row_count", [0, 1, 500, 1234])
async def test_a_sized_file_has_as_many_different_rows_as_its_name_says(
    client: httpx2.AsyncClient, row_count: int
) -> None:
    answer = await client.get(f"{SIZED}/rows-{row_count}.jsonl")
    rows = parse_lines(answer.content)
    assert len({row["question"] for row in rows}) == len(rows) == row_count
    assert int(answer.headers["content-length"]) == len(answer.content)
