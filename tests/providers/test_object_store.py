"""Objects are whole, stay as they are, and are read in bounded pieces, in a directory or bucket."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from providers.durable_files import ABANDONED_SECONDS, INCOMING
from providers.object_store import (
    CHUNK_BYTES,
    MAX_KEY_CHARS,
    MAX_SINGLE_PUT_BYTES,
    ObjectStoreOptions,
    open_object_store,
)
from providers.objects import ObjectError, ObjectMissingError, ObjectStore
from tests.providers.conftest import READER, S3Server

REPOSITORY = Path(__file__).parents[2]
LARGE_BYTES = MAX_SINGLE_PUT_BYTES + 1_000_000
# Nobody listens there.
AWAY = ObjectStoreOptions(
    endpoint_url="http://127.0.0.1:9", region="r", access_key_id="away-key-id",
    secret_access_key="away-secret", allow_http=True,
)  # fmt: skip


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "directory":
        return open_object_store(str(tmp_path / "objects"))
    server: S3Server = request.getfixturevalue("s3_server")
    return open_object_store(f"s3://gero-tests/{uuid4().hex}/objects", options=server.options())


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / uuid4().hex
        path.write_bytes(content)
        return path

    return write


async def read(store: ObjectStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.stream(key)])


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted([found.key async for found in store.list_keys(prefix)])


async def failure(work: Awaitable[object]) -> ObjectError:
    with pytest.raises(ObjectError) as at:
        await work
    return at.value


@pytest.mark.parametrize("size", [0, 10, LARGE_BYTES])
async def test_what_is_put_can_be_read(
    store: ObjectStore, file: Callable[[bytes], Path], size: int
) -> None:
    content = os.urandom(size)
    assert await store.put_file("ab/cd.parquet", file(content)) is True
    assert await store.size_of("ab/cd.parquet") == size
    assert await store.read_range("ab/cd.parquet", 0, size) == content
    assert await read(store, "ab/cd.parquet") == content


@pytest.mark.parametrize("size", [10, LARGE_BYTES])
async def test_an_object_that_is_there_is_never_overwritten(
    store: ObjectStore, file: Callable[[bytes], Path], size: int
) -> None:
    content = os.urandom(size)
    assert await store.put_file("ab/cd", file(content)) is True
    assert await store.put_file("ab/cd", file(b"other")) is False
    assert await store.put_file("ab/cd", file(os.urandom(LARGE_BYTES))) is False
    assert await read(store, "ab/cd") == content


@pytest.mark.parametrize("size", [10, LARGE_BYTES])
async def test_of_many_puts_at_once_one_makes_the_object(
    store: ObjectStore, file: Callable[[bytes], Path], size: int
) -> None:
    content = os.urandom(size)
    made = await asyncio.gather(*(store.put_file("ab/cd", file(content)) for _ in range(4)))
    assert sorted(made) == [False, False, False, True]
    assert await read(store, "ab/cd") == content
    assert await keys(store) == ["ab/cd"]


async def test_ranges_are_exact(store: ObjectStore, file: Callable[[bytes], Path]) -> None:
    # Far enough apart that the library fetches them one by one, and near enough to be one.
    content = os.urandom(4_000_000)
    await store.put_file("k", file(content))
    assert await store.read_range("k", 5, 3) == content[5:8]
    assert await store.read_range("k", 3_999_999, 1) == content[-1:]
    assert await store.read_range("k", 7, 0) == b""
    ranges = [(3_900_000, 100_000), (0, 4), (7, 0), (2, 4), (2_000_000, 10), (100, 1)]
    assert await store.read_ranges("k", ranges) == [content[s : s + n] for s, n in ranges]
    assert await store.read_ranges("k", [(9, 0)]) == [b""]
    assert await store.read_ranges("k", []) == []
    middle = [chunk async for chunk in store.stream("k", 10, 20)]
    assert middle == [content[10:20]]
    assert [chunk async for chunk in store.stream("k", 4_000_000)] == []


@pytest.mark.parametrize("start", [5, 10, 11, 5_000_000])
async def test_a_range_past_the_end_is_an_error_and_not_less(
    store: ObjectStore, file: Callable[[bytes], Path], start: int
) -> None:
    await store.put_file("k", file(b"0123456789"))

    async def stream() -> None:
        async for _ in store.stream("k", start, start + 6):
            pass

    for work in (
        store.read_range("k", start, 6),
        store.read_ranges("k", [(0, 1), (start, 6)]),
        stream(),
    ):
        error = await failure(work)
        assert not isinstance(error, ObjectMissingError)
        assert not error.is_retryable
        assert "object 'k' of " in str(error)
        assert " ends before " in str(error)


async def test_a_range_has_no_negative_number(store: ObjectStore) -> None:
    for start, length in ((-1, 1), (1, -1)):
        with pytest.raises(ValueError, match="is no range"):
            await store.read_range("k", start, length)
        with pytest.raises(ValueError, match="is no range"):
            await store.read_ranges("k", [(0, 1), (start, length)])
    with pytest.raises(ValueError, match="is no range"):
        await anext(store.stream("k", 2, 1))


async def test_an_object_that_is_not_there_is_missing(store: ObjectStore) -> None:
    for work in (
        store.size_of("ab/cd"),
        store.read_range("ab/cd", 0, 1),
        store.read_ranges("ab/cd", [(0, 1)]),
        read(store, "ab/cd"),
    ):
        error = await failure(work)
        assert isinstance(error, ObjectMissingError)
        assert not error.is_retryable
        assert "object 'ab/cd' of " in str(error)


async def test_a_stream_is_bounded_and_fetches_nothing_ahead(
    store: ObjectStore, file: Callable[[bytes], Path]
) -> None:
    content = os.urandom(5_000_000) * 10
    await store.put_file("k", file(content))
    digest = hashlib.sha256()
    sizes = []
    async for chunk in store.stream("k"):
        digest.update(chunk)
        sizes.append(len(chunk))
    assert max(sizes) == CHUNK_BYTES
    assert digest.digest() == hashlib.sha256(content).digest()

    chunks = store.stream("k")
    assert await anext(chunks) == content[:CHUNK_BYTES]
    await store.delete("k")
    with pytest.raises(ObjectMissingError):
        await anext(chunks)


async def test_an_object_is_deleted_once_and_can_be_put_again(
    store: ObjectStore, file: Callable[[bytes], Path]
) -> None:
    await store.put_file("ab/cd", file(b"first"))
    assert await store.read_ranges("ab/cd", [(0, 5)]) == [b"first"]
    for _ in range(2):
        await store.delete("ab/cd")
        assert isinstance(await failure(store.read_ranges("ab/cd", [(0, 1)])), ObjectMissingError)
    assert await keys(store) == []
    assert await store.put_file("ab/cd", file(b"second")) is True
    assert await read(store, "ab/cd") == b"second"


async def test_keys_are_listed_by_whole_segments(
    store: ObjectStore, file: Callable[[bytes], Path]
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # S3 tells whole seconds
    for key in ("a/b/c", "a/d.parquet", "ab", "z/y"):
        await store.put_file(key, file(key.encode()))
    assert await keys(store) == ["a/b/c", "a/d.parquet", "ab", "z/y"]
    assert await keys(store, "a") == await keys(store, "a/") == ["a/b/c", "a/d.parquet"]
    assert await keys(store, "nothing") == []
    (found,) = [one async for one in store.list_keys("z")]
    assert (found.key, found.size_bytes) == ("z/y", 3)
    assert before <= found.modified_at <= datetime.now(UTC)


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.b", "a b", "a\n", "a\x00", "é", "A",
     "a\\b", "a%2fb", "a#1", "a" * (MAX_KEY_CHARS + 1)],
)  # fmt: skip
async def test_a_key_that_stores_could_spell_differently_is_refused(
    store: ObjectStore, file: Callable[[bytes], Path], key: str
) -> None:
    for work in (
        store.put_file(key, file(b"x")),
        store.size_of(key),
        store.read_range(key, 0, 1),
        store.read_ranges(key, [(0, 1)]),
        read(store, key),
        store.delete(key),
    ):
        with pytest.raises(ValueError, match="is no key of an object"):
            await work


async def test_a_file_that_is_not_there_cannot_be_put(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await store.put_file("k", tmp_path / "missing")
    assert await keys(store) == []


def test_a_directory_is_made_at_a_path_or_a_url(tmp_path: Path) -> None:
    open_object_store(f"{tmp_path}/a/b#c")
    open_object_store(f"file://{tmp_path}/d%20e/f")
    assert (tmp_path / "a" / "b#c").is_dir()
    assert (tmp_path / "d e" / "f").is_dir()


async def test_two_stores_of_one_directory_are_one(
    tmp_path: Path, file: Callable[[bytes], Path]
) -> None:
    stores = [open_object_store(url) for url in (f"{tmp_path}/o", f"file://{tmp_path}/o")]
    made = await asyncio.gather(
        *(store.put_file("k", file(b"same")) for store in stores for _ in range(8))
    )
    assert sum(made) == 1
    assert [await read(store, "k") for store in stores] == [b"same", b"same"]


async def test_what_else_lies_in_a_directory_is_not_listed(
    tmp_path: Path, file: Callable[[bytes], Path]
) -> None:
    store = open_object_store(str(tmp_path / "o"))
    await store.put_file("k", file(b"x"))
    (tmp_path / "o" / ".DS_Store").touch()
    (tmp_path / "o" / "Read me").touch()
    (tmp_path / "o" / INCOMING / "unfinished#1").touch()
    assert await keys(store) == ["k"]


async def test_in_a_directory_no_key_begins_with_another(
    tmp_path: Path, file: Callable[[bytes], Path]
) -> None:
    store = open_object_store(str(tmp_path / "o"))
    await store.put_file("a/b", file(b"x"))
    for key in ("a", "a/b/c"):
        error = await failure(store.put_file(key, file(b"y")))
        assert not error.is_retryable
        assert f"object {key!r} of {tmp_path}/o can't be stored: " in str(error)
    assert await keys(store) == ["a/b"]


PUT_FROM_PIPE = """
import asyncio, pathlib, sys
from providers.object_store import open_object_store
store = open_object_store(sys.argv[1])
asyncio.run(store.put_file("ab/cd", pathlib.Path(sys.argv[2])))
"""


def kill_in_mid_put(objects: Path, pipe: Path) -> None:
    """Have a process put what comes from *pipe*, and kill it when it has stored some of that."""
    os.mkfifo(pipe)
    child = subprocess.Popen(
        [sys.executable, "-c", PUT_FROM_PIPE, str(objects), str(pipe)], cwd=REPOSITORY
    )
    with pipe.open("wb") as half:  # opens once the child has
        half.write(os.urandom(5_000_000))
        half.flush()
        while not any(left.stat().st_size for left in (objects / INCOMING).iterdir()):
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()


async def test_a_put_that_is_killed_leaves_nothing_to_read(
    tmp_path: Path, file: Callable[[bytes], Path]
) -> None:
    objects = tmp_path / "objects"
    kill_in_mid_put(objects, tmp_path / "pipe")
    store = open_object_store(str(objects))
    assert isinstance(await failure(store.size_of("ab/cd")), ObjectMissingError)
    assert await keys(store) == []

    (left,) = (objects / INCOMING).iterdir()  # it could be another process's that is at work
    assert await store.put_file("ab/cd", file(b"whole")) is True
    long_ago = time.time() - ABANDONED_SECONDS - 1
    os.utime(left, (long_ago, long_ago))
    assert await read(open_object_store(str(objects)), "ab/cd") == b"whole"
    assert list((objects / INCOMING).iterdir()) == []


def each_call(store: ObjectStore, path: Path) -> list[Awaitable[object]]:
    return [
        store.put_file("ab/cd", path),
        store.size_of("ab/cd"),
        store.read_range("ab/cd", 0, 1),
        store.read_ranges("ab/cd", [(0, 1)]),
        read(store, "ab/cd"),
        store.delete("ab/cd"),
        keys(store),
    ]


@pytest.mark.parametrize("size", [1, LARGE_BYTES])
async def test_a_server_that_is_down_may_be_up_later(
    file: Callable[[bytes], Path], size: int
) -> None:
    store = open_object_store("s3://gero-tests/p", options=AWAY)
    async with asyncio.timeout(8):
        errors = await asyncio.gather(*map(failure, each_call(store, file(os.urandom(size)))))
    for error in errors:
        assert error.is_retryable
        assert str(error).endswith(": can't connect")
        assert "s3://gero-tests/p" in str(error)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """Listen on loopback, answer every request with *answer*, and hang up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


HALF_AN_ANSWER = b"""HTTP/1.1 206 Partial Content\r
Content-Length: 4\r
Content-Range: bytes 0-3/9\r
ETag: "e"\r
Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r
\r
ha"""


@pytest.mark.parametrize(
    ("answer", "said", "is_retryable"),
    [
        (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nbusy", "answered 503", True),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 31\r\n\r\n<Code>RequestTimeout</Code>....",
         "answered 400 RequestTimeout", True),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "answered 400", False),
        (HALF_AN_ANSWER, "the connection was lost", True),
        (b"", "the request could not be sent", True),
    ],
)  # fmt: skip
async def test_a_server_that_fails_is_told_by_its_answer(
    answer: bytes, said: str, *, is_retryable: bool
) -> None:
    async with answering(answer) as url:
        options = ObjectStoreOptions(
            endpoint_url=url, access_key_id="i", secret_access_key="s", allow_http=True
        )
        store = open_object_store("s3://gero-tests", options=options)
        error = await failure(store.read_range("k", 0, 4))
    assert str(error).startswith("object 'k' of s3://gero-tests can't be read: ")
    assert str(error).endswith(said)
    assert error.is_retryable == is_retryable


async def test_a_wrong_secret_is_refused_and_not_told(
    s3_server: S3Server, file: Callable[[bytes], Path]
) -> None:
    options = s3_server.options(secret="a-wrong-secret")
    store = open_object_store("s3://gero-tests/p", options=options)
    for size in (1, LARGE_BYTES):
        for error in await asyncio.gather(*map(failure, each_call(store, file(bytes(size))))):
            assert not error.is_retryable
            assert "the server answered 403" in str(error)
            told = "".join(traceback.format_exception(error)) + repr(options)
            assert "a-wrong-secret" not in told
            assert "writer-key-id" not in told


async def test_whoever_may_only_read_cannot_put(
    s3_server: S3Server, file: Callable[[bytes], Path]
) -> None:
    url = f"s3://gero-tests/{uuid4().hex}"
    store = open_object_store(url, options=s3_server.options(READER))
    for size in (1, LARGE_BYTES):
        error = await failure(store.put_file("k", file(bytes(size))))
        assert not error.is_retryable
        assert str(error) == (
            f"object 'k' of {url} can't be stored: the server answered 403 AccessDenied"
        )


async def test_a_bucket_that_is_not_there_is_no_missing_object(s3_server: S3Server) -> None:
    store = open_object_store("s3://no-such-bucket", options=s3_server.options())
    for work in (store.read_range("k", 0, 1), store.delete("k"), keys(store)):
        error = await failure(work)
        assert not isinstance(error, ObjectMissingError)
        assert not error.is_retryable
        assert str(error).endswith("the server answered 404 NoSuchBucket")


async def test_googles_store_is_reached_by_its_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Callable[[bytes], Path]
) -> None:
    account = {"gcs_base_url": "https://127.0.0.1:9", "disable_oauth": True}
    path = tmp_path / "account.json"
    path.write_text(
        json.dumps({**account, "client_email": "", "private_key": "", "private_key_id": ""})
    )
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(path))
    store = open_object_store("gs://gero-tests/p")
    for error in await asyncio.gather(*map(failure, each_call(store, file(b"x")))):
        assert error.is_retryable
        assert "gs://gero-tests/p" in str(error)
        assert str(error).endswith(": can't connect")

    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "missing.json"))
    with pytest.raises(ValueError, match=r"gs://gero-tests can't be opened: .*missing\.json"):
        open_object_store("gs://gero-tests")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/objects", "'ftp' is no object store"),
        ("memory://", "'memory' is no object store"),
        ("az://account/container", "'az' is no object store"),
        ("objects", "'' is no object store"),
        ("file://host/objects", "a directory's URL is file:// and its absolute path"),
        ("file:objects", "a directory's URL is file:// and its absolute path"),
        ("s3://", "'s3://' names no bucket"),
        ("s3://id:hidden@bucket/p", "a bucket's URL is s3://bucket/prefix, and no more"),
        ("gs://bucket?token=hidden", "a bucket's URL is gs://bucket/prefix, and no more"),
        ("s3://bucket/a/../b", "illegal character sequence"),
    ],
)
def test_a_url_that_is_none_of_a_store_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as at:
        open_object_store(url)
    assert "hidden" not in str(at.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"access_key_id": "i"}, "are set together"),
        ({"secret_access_key": "hidden"}, "are set together"),
        ({"endpoint_url": "http://h"}, "'http://h' is without TLS"),
        ({"endpoint_url": "s3.example"}, "is not an http or https URL"),
        ({"endpoint_url": "https://id:hidden@h"}, "has a credential in it"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as at:
        ObjectStoreOptions(**options)
    assert "hidden" not in str(at.value)


def test_options_are_for_s3_alone(tmp_path: Path) -> None:
    for url in (str(tmp_path), "gs://bucket"):
        with pytest.raises(ValueError, match="are for s3:// alone"):
            open_object_store(url, options=AWAY)
