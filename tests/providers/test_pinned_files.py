"""A branch or a tag is pinned to the commit that it stands for, as the hub tells."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.serving import listen, serving, url_of
from providers.base import DatasetError, DatasetErrorCode, PinnedFile
from providers.http import HttpClient
from providers.huggingface import HuggingFaceHub

SANDBOX = "https://huggingface.co/datasets/gero-sandbox"
MOVING = f"{SANDBOX}/moving/resolve/main/tasks.jsonl"
FAULTS = f"{SANDBOX}/faults/resolve/main"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = "http://127.0.0.1:9"  # nobody listens there


@asynccontextmanager
async def hub_at(hub_url: str, sandbox_url: str | None = None) -> AsyncIterator[HuggingFaceHub]:
    trusted = HttpClient(max_connections=2, public_only=False)
    guarded = HttpClient(max_connections=2, public_only=True)
    yield HuggingFaceHub(
        trusted=trusted, guarded=guarded, hub_url=hub_url, sandbox_url=sandbox_url,
        allow_private_endpoints=False,
    )  # fmt: skip
    await trusted.aclose()
    await guarded.aclose()


@pytest.fixture
async def hub(sandbox_url: str) -> AsyncIterator[HuggingFaceHub]:
    async with hub_at(NOWHERE, sandbox_url) as made:
        yield made


async def read(hub: HuggingFaceHub, url: str) -> list[bytes]:
    async with hub.open_lines(url, token=None, max_bytes=10_000) as lines:
        return [line async for _, line in lines]


async def move_branch(sandbox_url: str) -> str:
    async with httpx2.AsyncClient(base_url=sandbox_url) as client:
        answer = await client.post("/datasets/gero-sandbox/moving/move")
    commit: str = answer.json()["commit"]
    return commit


async def test_what_is_pinned_stays_when_the_branch_moves(
    hub: HuggingFaceHub, sandbox_url: str
) -> None:
    first = await hub.pin(MOVING, token=None)
    assert first.url == MOVING.replace("main", str(first.commit))
    before = await read(hub, first.url)
    assert before == await read(hub, MOVING)
    assert first.size_bytes == sum(len(line) + 1 for line in before)

    commit = await move_branch(sandbox_url)
    second = await hub.pin(MOVING, token=None)
    assert second.commit == commit != first.commit
    assert await read(hub, first.url) == before
    assert await read(hub, second.url) == await read(hub, MOVING) != before


async def test_a_tag_is_pinned_too(hub: HuggingFaceHub, sandbox_url: str) -> None:
    moved_to = await move_branch(sandbox_url)
    pinned = await hub.pin(MOVING.replace("main", "v1"), token=None)
    assert pinned.url == MOVING.replace("main", str(pinned.commit))
    assert pinned.commit != moved_to


async def test_a_url_that_names_a_commit_stays_as_it_is(hub: HuggingFaceHub) -> None:
    pinned = await hub.pin(MOVING, token=None)
    assert await hub.pin(pinned.url, token=None) == pinned


async def test_a_redirect_of_the_hub_tells_the_commit_and_the_contents_size(
    hub: HuggingFaceHub,
) -> None:
    url = f"{SANDBOX}/tasks/resolve/main/redirected.jsonl"
    linked = await hub.pin(f"{SANDBOX}/tasks/resolve/main/tasks.jsonl", token=None)
    pinned = await hub.pin(url, token=None)
    assert pinned == PinnedFile(
        url.replace("main", str(linked.commit)), linked.commit, linked.size_bytes
    )


@pytest.mark.parametrize(
    ("url", "said", "code"),
    [
        (f"{SANDBOX}/gated/resolve/main/tasks.jsonl", "answered 401", "needs_credential"),
        (f"{FAULTS}/missing.jsonl", "404: there is no such file", "not_found"),
        (MOVING.replace("main", "dev"), "has no such branch, tag or commit", "not_found"),
        (MOVING.replace("moving", "x"), "404: there is no such repository", "not_found"),
        (f"{FAULTS}/server-error.jsonl", "answered 500", "unreachable"),
        (f"{FAULTS}/page.jsonl", "answered an HTML page", "not_jsonl"),
        (f"{NOWHERE}/datasets/o/n/resolve/main/f.jsonl", "can't connect", "unreachable"),
        ("https://example.com/f.jsonl", "is not on http", "invalid_url"),
    ],
)
async def test_a_file_that_cant_be_pinned_fails_as_it_would_when_read(
    hub: HuggingFaceHub, url: str, said: str, code: str
) -> None:
    with pytest.raises(DatasetError, match=re.escape(said)) as pinning:
        await hub.pin(url, token=None)
    with pytest.raises(DatasetError) as reading:
        await read(hub, url)
    for at in (pinning, reading):
        assert (at.value.code, at.value.is_retryable) == (code, code == "unreachable")
    assert str(pinning.value) == str(reading.value)


async def test_a_gated_file_is_pinned_with_a_token(hub: HuggingFaceHub) -> None:
    pinned = await hub.pin(f"{SANDBOX}/gated/resolve/main/tasks.jsonl", token="hf_sandbox_1")
    assert pinned.commit is not None


Answer = Callable[[Request], Response]


@asynccontextmanager
async def hub_that_answers(answer: Answer) -> AsyncIterator[tuple[HuggingFaceHub, str]]:
    """Serve a hub of the test's own."""

    async def serve(request: Request) -> Response:
        await asyncio.sleep(0)
        return answer(request)

    listener = listen("127.0.0.1", 0)
    app = Starlette(routes=[Route("/{path:path}", serve)])
    async with serving(app, listener), hub_at(url_of(listener)) as hub:
        yield hub, url_of(listener)


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Repo-Commit": "main"}, {"X-Repo-Commit": f"{COMMIT}/../x"}, {"X-Linked-Size": "-1"}],
)
async def test_a_hub_that_does_not_tell_its_commit_leaves_the_url_unchanged(
    headers: dict[str, str],
) -> None:
    async with hub_that_answers(lambda _: Response(b"{}", headers=headers)) as (hub, hub_url):
        url = f"{hub_url}/datasets/o/n/resolve/main/f.jsonl"
        pinned = await hub.pin(url, token=None)
    assert (pinned.url, pinned.commit) == (url, None)


async def test_a_hub_that_takes_no_head_tells_nothing() -> None:
    async with hub_that_answers(lambda _: Response(b"?", 405)) as (hub, hub_url):
        url = f"{hub_url}/datasets/o/n/resolve/main/f.jsonl"
        assert await hub.pin(url, token=None) == PinnedFile(url, None, None)


@pytest.mark.parametrize(
    ("path", "pinned"),
    [
        ("datasets/o/n/resolve/main/f.jsonl", "datasets/o/n/resolve/{}/f.jsonl"),
        ("datasets/squad/resolve/main/f.jsonl", "datasets/squad/resolve/{}/f.jsonl"),
        ("o/model/resolve/v1.0/f.jsonl", "o/model/resolve/{}/f.jsonl"),
        ("datasets/resolve/n/resolve/main/f.jsonl", "datasets/resolve/n/resolve/{}/f.jsonl"),
        ("datasets/o/n/resolve/main/resolve/f.jsonl", "datasets/o/n/resolve/{}/resolve/f.jsonl"),
        ("datasets/o/n/resolve/refs/pr/7/f.jsonl", "datasets/o/n/resolve/{}/f.jsonl"),
        (
            "datasets/o/n/resolve/refs%2Fconvert%2Fparquet/f.jsonl",
            "datasets/o/n/resolve/{}/f.jsonl",
        ),
        (
            "datasets/o/n/resolve/main/a%20b.jsonl.gz?download=true",
            "datasets/o/n/resolve/{}/a%20b.jsonl.gz?download=true",
        ),
    ],
)
async def test_the_revision_alone_gives_way_to_the_commit(path: str, pinned: str) -> None:
    told = {"X-Repo-Commit": COMMIT}
    async with hub_that_answers(lambda _: Response(b"{}", headers=told)) as (hub, hub_url):
        found = await hub.pin(f"{hub_url}/{path}", token=None)
    assert found == PinnedFile(f"{hub_url}/{pinned.format(COMMIT)}", COMMIT, 2)


async def test_where_a_hub_keeps_its_content_is_not_asked_and_gets_no_token() -> None:
    asked: list[str | None] = []

    def answer(request: Request) -> Response:
        asked.append(request.headers.get("authorization"))
        told = {"X-Repo-Commit": COMMIT, "X-Linked-Size": "77"}
        location = {"Location": "https://169.254.169.254/signed"}
        return Response(b"moved", 302, headers=told | location)

    async with hub_that_answers(answer) as (hub, hub_url):
        found = await hub.pin(f"{hub_url}/datasets/o/n/resolve/main/f.jsonl", token="hf_1")
    assert (found.commit, found.size_bytes) == (COMMIT, 77)
    assert asked == ["Bearer hf_1"]


async def test_a_repository_that_was_renamed_is_pinned_by_its_old_name() -> None:
    def answer(request: Request) -> Response:
        if "/old/" in request.url.path:
            return Response(status_code=307, headers={"Location": "/datasets/o/new/resolve/main/f"})
        return Response(b"{}\n", headers={"X-Repo-Commit": COMMIT})

    async with hub_that_answers(answer) as (hub, hub_url):
        found = await hub.pin(f"{hub_url}/datasets/o/old/resolve/main/f.jsonl", token=None)
    assert found == PinnedFile(f"{hub_url}/datasets/o/old/resolve/{COMMIT}/f.jsonl", COMMIT, 3)


async def test_redirects_that_never_end_are_given_up() -> None:
    moved = Response(status_code=302, headers={"Location": "?"})
    async with hub_that_answers(lambda _: moved) as (hub, hub_url):
        with pytest.raises(DatasetError, match="more than 5 redirects"):
            await hub.pin(f"{hub_url}/datasets/o/n/resolve/main/f.jsonl", token=None)


async def test_a_hub_that_does_not_answer_is_given_up_and_may_be_asked_again() -> None:
    accepted = asyncio.Event()

    async def dribble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        try:
            for byte in b"HTTP/1.1 200 OK\r\nX-Repo-Commit: ":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.2)
        finally:
            writer.close()

    server = await asyncio.start_server(dribble, "127.0.0.1", 0)
    hub_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, hub_at(hub_url) as hub:
        url = f"{hub_url}/datasets/o/n/resolve/main/f.jsonl"
        with pytest.raises(DatasetError, match=r"gave no answer within 2 s") as at:
            await hub.pin(url, token=None, timeout_seconds=2.0)
    assert (at.value.code, at.value.is_retryable) == (DatasetErrorCode.TIMED_OUT, True)
    assert accepted.is_set()
