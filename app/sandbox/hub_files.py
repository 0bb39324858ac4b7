"""The dataset files the sandbox hub serves, good and faulty, each as an answer ready to send."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Callable
from functools import cache
from hashlib import blake2b, sha256

import orjson
from starlette.responses import RedirectResponse, Response, StreamingResponse

from app.sandbox.faults import CHUNK_BYTES, STALL_SECONDS, CutResponse
from app.sandbox.tasks import SIZED_ROWS_MAX_COUNT, list_task_rows, sized_row_line

OWNER = "gero-sandbox"
HUGE_LINE_BYTES = 20_000_000

_JSONL_TYPE = "text/plain; charset=utf-8"
_GZIP_TYPE = "application/gzip"
_SIZED_PATH = re.compile(r"rows-(\d{1,7})\.jsonl")
_SIZED_BATCH_ROWS = 500

_GOOD_LINES = (
    b'{"id":"row-1","question":"What is two plus two?","answer":"4"}\n',
    b'{"id":"row-2","question":"What is three plus three?","answer":"6"}\n',
)


@cache
def tasks_jsonl() -> bytes:
    """Write the task rows as JSON lines."""
    return b"".join(orjson.dumps(row) + b"\n" for row in list_task_rows())


@cache
def tasks_jsonl_gz() -> bytes:
    """Write the task rows as compressed JSON lines, the same bytes every time."""
    return gzip.compress(tasks_jsonl(), mtime=0)


@cache
def repo_commit() -> str:
    """Return the 40 hex digits that the hub gives as the commit of every file."""
    return blake2b(tasks_jsonl(), digest_size=20).hexdigest()


def find_file(dataset: str, path: str) -> Response | None:
    """Make the answer for a file of a dataset of `gero-sandbox`; None if there is no such file."""
    create = FILES.get(dataset, {}).get(path)
    if create is not None:
        return create()
    if dataset == "sized" and (match := _SIZED_PATH.fullmatch(path)) is not None:
        row_count = int(match[1])
        return _sized(row_count) if row_count <= SIZED_ROWS_MAX_COUNT else None
    return None


def list_file_urls() -> list[str]:
    """List the URL path of every file, the sized ones as one pattern."""
    paths = [f"{dataset}/resolve/main/{path}" for dataset in FILES for path in FILES[dataset]]
    paths.append(f"{MovingDataset.NAME}/resolve/main/{MovingDataset.FILE}")
    paths.append(f"sized/resolve/main/rows-{{n}}.jsonl (n up to {SIZED_ROWS_MAX_COUNT})")
    return [f"/datasets/{OWNER}/{path}" for path in paths]


def _headers(identity: bytes, commit: str | None = None) -> dict[str, str]:
    etag = f'"{sha256(identity).hexdigest()}"'
    return {"ETag": etag, "X-Repo-Commit": commit or repo_commit()}


def _whole(content: bytes, media_type: str = _JSONL_TYPE) -> Response:
    return Response(content, media_type=media_type, headers=_headers(content))


class MovingDataset:
    """The dataset whose branch moves on when a test says so; earlier commits stay readable.

    Its one file has two rows, which say how often the branch had moved. The tag `v1` stays where
    the branch began.
    """

    NAME = "moving"
    FILE = "tasks.jsonl"

    def __init__(self) -> None:
        self._moves = 0

    def move(self) -> str:
        """Move the branch on; return the commit that it stands for from now on."""
        self._moves += 1
        return self.commit_after(self._moves)

    def commit_after(self, moves: int) -> str:
        """Return the commit that the branch stands for after so many moves."""
        return blake2b(self._content(moves), digest_size=20).hexdigest()

    def find_file(self, revision: str, path: str) -> Response | None:
        """Make the answer for a file; None if there is no such file.

        Raises:
            LookupError: There is no such revision.
        """
        moves = self._moves_of(revision)
        if path != self.FILE:
            return None
        content = self._content(moves)
        headers = _headers(content, self.commit_after(moves))
        return Response(content, media_type=_JSONL_TYPE, headers=headers)

    def _moves_of(self, revision: str) -> int:
        names = {self.commit_after(moves): moves for moves in range(self._moves + 1)}
        return (names | {"main": self._moves, "v1": 0})[revision]

    @staticmethod
    def _content(moves: int) -> bytes:
        rows = (
            {"id": f"row-{n}", "question": f"What is {n} + {moves}?", "answer": str(n + moves)}
            for n in (1, 2)
        )
        return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _streamed(chunks: AsyncIterator[bytes], *, name: str, size_bytes: int) -> Response:
    headers = _headers(name.encode()) | {"Content-Length": str(size_bytes)}
    return StreamingResponse(chunks, media_type=_JSONL_TYPE, headers=headers)


def _tasks() -> Response:
    return _whole(tasks_jsonl())


def _tasks_gz() -> Response:
    return _whole(tasks_jsonl_gz(), _GZIP_TYPE)


def _redirected() -> Response:
    """Answer as the hub does for large files, which sends clients on to its CDN."""
    linked = _tasks()
    headers = {
        "X-Repo-Commit": repo_commit(),
        "X-Linked-Size": linked.headers["content-length"],
        "X-Linked-ETag": linked.headers["etag"],
    }
    location = f"/datasets/{OWNER}/tasks/resolve/main/tasks.jsonl"
    return RedirectResponse(location, status_code=302, headers=headers)


def _sized(row_count: int) -> Response:
    size_bytes = row_count * len(sized_row_line(0))
    return _streamed(_sized_rows(row_count), name=f"rows-{row_count}", size_bytes=size_bytes)


async def _sized_rows(row_count: int) -> AsyncIterator[bytes]:
    for start in range(0, row_count, _SIZED_BATCH_ROWS):
        stop = min(start + _SIZED_BATCH_ROWS, row_count)
        yield b"".join(sized_row_line(index) for index in range(start, stop))


def _page() -> Response:
    return _whole(b"<!doctype html><title>Log in</title><p>Please log in.", "text/html")


def _truncated_gz() -> Response:
    return _whole(tasks_jsonl_gz()[: len(tasks_jsonl_gz()) // 2], _GZIP_TYPE)


def _not_gzip() -> Response:
    return _whole(b"".join(_GOOD_LINES), _GZIP_TYPE)


def _bad_line() -> Response:
    return _whole(b"".join((*_GOOD_LINES, b'{"question": "What is four\n', *_GOOD_LINES)))


def _no_usable_field() -> Response:
    return _whole(b'{"alpha":1,"beta":"two"}\n{"alpha":2,"beta":"three"}\n')


def _empty() -> Response:
    return _whole(b"")


def _blank_lines() -> Response:
    return _whole(b"\n" * 12)


def _huge_line() -> Response:
    return _streamed(_huge_line_chunks(), name="huge-line", size_bytes=HUGE_LINE_BYTES)


async def _huge_line_chunks() -> AsyncIterator[bytes]:
    opening, closing = b'{"id":"row-1","question":"', b'","answer":"4"}\n'
    filling_bytes = HUGE_LINE_BYTES - len(opening) - len(closing)
    yield opening
    for _ in range(filling_bytes // CHUNK_BYTES):
        yield b"x" * CHUNK_BYTES
    yield b"x" * (filling_bytes % CHUNK_BYTES) + closing


def _latin1() -> Response:
    line = '{"id":"row-2","question":"What is a café?","answer":"a place"}\n'
    return _whole(_GOOD_LINES[0] + line.encode("latin-1"))


def _two() -> Response:
    return _whole(b"".join(_GOOD_LINES))


def _server_error() -> Response:
    return Response("Internal Error - We're working hard to fix this!", status_code=500)


def _slow() -> Response:
    return _streamed(_slow_lines(), name="slow", size_bytes=sum(map(len, _GOOD_LINES)))


async def _slow_lines() -> AsyncIterator[bytes]:
    yield _GOOD_LINES[0]
    await asyncio.sleep(STALL_SECONDS)
    yield _GOOD_LINES[1]


def _cut() -> Response:
    content = tasks_jsonl()
    return CutResponse(content, media_type=_JSONL_TYPE, headers=_headers(b"cut"))


FILES: dict[str, dict[str, Callable[[], Response]]] = {
    "tasks": {
        "tasks.jsonl": _tasks,
        "tasks.jsonl.gz": _tasks_gz,
        "redirected.jsonl": _redirected,
    },
    "gated": {"tasks.jsonl": _tasks},
    "faults": {
        "page.jsonl": _page,
        "truncated.jsonl.gz": _truncated_gz,
        "not-gzip.jsonl.gz": _not_gzip,
        "bad-line.jsonl": _bad_line,
        "no-usable-field.jsonl": _no_usable_field,
        "empty.jsonl": _empty,
        "blank-lines.jsonl": _blank_lines,
        "huge-line.jsonl": _huge_line,
        "latin1.jsonl": _latin1,
        "two.jsonl": _two,
        "server-error.jsonl": _server_error,
        "slow.jsonl": _slow,
        "cut.jsonl": _cut,
    },
    "sized": {},
}
"""The files with a name of their own, by dataset; `faults/missing.jsonl` is missing on purpose."""
