"""Immutable objects in a directory of this machine, or in a bucket of S3 or Google Cloud."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import GCSStore, LocalStore, S3Store

from providers.durable_files import prepare_directory, put_durably
from providers.object_failures import explain
from providers.objects import ObjectError, ObjectMissingError, ObjectStore, StoredObject

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

# One spelling that is a file name, a URL and an S3 key alike: nothing has to be escaped, and no
# two keys are one file where the file system takes capitals for small letters.
KEY = re.compile(r"[a-z0-9_=-][a-z0-9_=.-]*(?:/[a-z0-9_=-][a-z0-9_=.-]*)*")
# File names have at most 255 bytes; S3 keys 1,024, of which the store's own prefix takes some.
MAX_KEY_CHARS = 255

CHUNK_BYTES = 4 * 1024 * 1024
LIST_PAGE_KEYS = 1000  # as many as S3 answers at once

# Up to here an object is sent in one request, which S3 and Google make conditional; it is held in
# memory for it. A multipart upload can't be conditional in this library.
MAX_SINGLE_PUT_BYTES = 8 * 1024 * 1024
MIN_PART_BYTES = 8 * 1024 * 1024
# Source: Amazon S3 multipart upload limits. Google's XML API has the same.
MAX_PARTS = 10_000
PARTS_AT_ONCE = 4

REMEMBERED_SIZES = 10_000

# Somebody waits for a read: it fails within some ten seconds where no server can be reached, and
# within forty where one takes requests and goes silent.
READ_CLIENT: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=3),
    "timeout": timedelta(seconds=30),
}
READ_RETRIES: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    },
}
# Nobody waits for a write, and a slow line needs its time for a part. S3 may take minutes to put
# the parts together. Source: the API reference of CompleteMultipartUpload.
WRITE_CLIENT: "ClientConfig" = {**READ_CLIENT, "timeout": timedelta(minutes=5)}
WRITE_RETRIES: "RetryConfig" = {
    **READ_RETRIES, "max_retries": 5, "retry_timeout": timedelta(minutes=1),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ObjectStoreOptions:
    """How to reach an S3 bucket.

    What is left out is taken from AWS's environment variables, and the credential then from the
    machine's metadata service. The files of `~/.aws` are not read.

    Attributes:
        endpoint_url: Of a service that speaks S3; Amazon's own for the region if left out.
        region: As the service calls it.
        access_key_id: With the secret, or not at all.
        secret_access_key: With the id, or not at all.
        allow_http: Whether *endpoint_url* may be without TLS.
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    allow_http: bool = False

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("an object store's access key id and secret are set together")
        if self.endpoint_url is not None:
            _check_endpoint(self.endpoint_url, allow_http=self.allow_http)


def _check_endpoint(url: str, *, allow_http: bool) -> None:
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("an object store's endpoint URL has a credential in it")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"the object store's endpoint {url!r} is not an http or https URL")
    if parts.scheme == "http" and not allow_http:
        raise ValueError(
            f"the object store's endpoint {url!r} is without TLS; allow HTTP to use it"
        )


def open_object_store(
    url: str, *, options: ObjectStoreOptions = ObjectStoreOptions()
) -> ObjectStore:
    """Return the store at *url*.

    An upload to a bucket that is cut short leaves parts that nobody sees and somebody pays for:
    give the bucket a lifecycle rule that aborts incomplete multipart uploads.

    Args:
        url: `file:///directory` or an absolute path, `s3://bucket/prefix`, `gs://bucket/prefix`.
            A directory is made if it is missing.
        options: For `s3://` alone. Google's credentials are those of the environment.

    Raises:
        ValueError: It has another form or scheme, or can't be opened with these options or this
            environment. The message holds no credential.
        OSError: The directory can't be made.
    """
    scheme = "file" if url.startswith("/") else urlsplit(url).scheme
    if scheme not in {"file", "s3", "gs"}:
        raise ValueError(
            f"{scheme!r} is no object store: expected an absolute path, file://, s3:// or gs://"
        )
    if scheme == "s3":
        return _open_s3(url, options)
    if options != ObjectStoreOptions():
        raise ValueError(f"an endpoint, a region and keys are for s3:// alone, not {scheme}://")
    if scheme == "gs":
        return _open_gcs(url)
    return DirectoryObjectStore(_directory_of(url))


def check_key(key: str) -> None:
    """Check that *key* is relative, in small letters, and the same object in every store.

    Raises:
        ValueError: It is not.
    """
    if len(key) > MAX_KEY_CHARS or KEY.fullmatch(key) is None:
        raise ValueError(
            f"{key[:MAX_KEY_CHARS]!r} is no key of an object: expected up to {MAX_KEY_CHARS} of "
            "a-z 0-9 _ = - . in segments parted by /, none of which begins with a dot"
        )


class _ReadableObjects:
    """What a directory and a bucket do alike: all but putting. See `ObjectStore`."""

    def __init__(self, objects: GCSStore | LocalStore | S3Store, place: str) -> None:
        self._objects = objects
        self._place = place
        self._sizes: dict[str, int] = {}

    @contextmanager
    def _explaining(self, key: str, verb: str) -> Iterator[None]:
        """Raise what goes wrong as an ObjectError, without its cause, which may tell too much."""
        try:
            yield
        except (BaseError, OSError) as error:
            problem = f"object {key!r} of {self._place} can't be {verb}"
            raise explain(error, problem) from None

    async def size_of(self, key: str) -> int:
        """Return the object's size in bytes; see `ObjectStore`."""
        check_key(key)
        with self._explaining(key, "read"):
            return (await self._objects.head_async(key))["size"]

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        """Return exactly *length* bytes from *start*; see `ObjectStore`."""
        check_key(key)
        _check_range(start, length)
        if length == 0:
            return b""
        with self._explaining(key, "read"):
            found = await self._objects.get_range_async(key, start=start, length=length)
        if len(found) != length:
            raise self._too_short(key, start + length)
        return found.to_bytes()

    async def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (start, length); see `ObjectStore`."""
        check_key(key)
        for start, length in ranges:
            _check_range(start, length)
        asked = [(start, length) for start, length in ranges if length]
        if not asked:
            return [b""] * len(ranges)
        # The library dies of a range that begins after the object's end.
        last = max(start + length for start, length in asked)
        if last > await self._remembered_size(key):
            raise self._too_short(key, last)
        with self._explaining(key, "read"):
            found = await self._objects.get_ranges_async(
                key,
                starts=[start for start, _ in asked],
                lengths=[length for _, length in asked],
            )
        chunks = (buffer.to_bytes() for buffer in found)
        return [next(chunks) if length else b"" for _, length in ranges]

    async def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes from *start* up to *end* in chunks; see `ObjectStore`."""
        if end is None:
            end = await self.size_of(key)
            if start > end:
                raise self._too_short(key, start)
        _check_range(start, end - start)
        while start < end:
            chunk = await self.read_range(key, start, min(CHUNK_BYTES, end - start))
            yield chunk
            start += len(chunk)

    async def delete(self, key: str) -> None:
        """Delete the object, or find that it is gone; see `ObjectStore`."""
        check_key(key)
        self._sizes.pop(key, None)
        try:
            with self._explaining(key, "deleted"):
                await self._objects.delete_async(key)
        except ObjectMissingError:
            return

    async def list_keys(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Yield the objects whose key begins with *prefix*; see `ObjectStore`."""
        if prefix:
            check_key(prefix.removesuffix("/"))
        try:
            async for page in self._objects.list(prefix or None, chunk_size=LIST_PAGE_KEYS):
                for found in page:
                    # What somebody else has put there is none of ours, to be read or deleted.
                    if KEY.fullmatch(found["path"]):
                        yield StoredObject(found["path"], found["size"], found["last_modified"])
        except BaseError as error:
            raise explain(error, f"{self._place} can't be listed") from None

    async def _remembered_size(self, key: str) -> int:
        """Return the object's size, which can't change, asking once for it."""
        size = self._sizes.get(key)
        if size is None:
            size = self._sizes[key] = await self.size_of(key)
            if len(self._sizes) > REMEMBERED_SIZES:
                del self._sizes[next(iter(self._sizes))]
        return size

    def _too_short(self, key: str, end: int) -> ObjectError:
        return ObjectError(f"object {key!r} of {self._place} ends before byte {end}")


class DirectoryObjectStore(_ReadableObjects):
    """Objects as files of a directory, which several processes may share.

    The library puts files too, but does not sync them: after a power cut they may be empty or gone.
    """

    def __init__(self, directory: Path) -> None:
        prepare_directory(directory)
        self._directory = directory.resolve()
        super().__init__(LocalStore(prefix=self._directory), str(directory))

    async def put_file(self, key: str, path: Path) -> bool:
        """Store the file at *path* under *key*; see `ObjectStore`."""
        check_key(key)
        return await asyncio.to_thread(self._put, key, path)

    def _put(self, key: str, path: Path) -> bool:
        with path.open("rb") as source, self._explaining(key, "stored"):
            return put_durably(source, self._directory, key)


class BucketObjectStore(_ReadableObjects):
    """Objects in a bucket of S3 or Google Cloud, which keep what they have acknowledged."""

    def __init__(self, reads: GCSStore | S3Store, writes: GCSStore | S3Store, place: str) -> None:
        super().__init__(reads, place)
        self._writes = writes
        self._putting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def put_file(self, key: str, path: Path) -> bool:
        """Store the file at *path* under *key*; see `ObjectStore`.

        A large file goes up in parts, and only at their end is there an object. That end can't be
        made conditional, so it is looked first whether the object is there. Should another process
        put it meanwhile, it is overwritten by the same bytes, which nobody can tell.
        """
        check_key(key)
        size = (await asyncio.to_thread(path.stat)).st_size
        if size <= MAX_SINGLE_PUT_BYTES:
            return await self._put_whole(key, path)
        async with self._putting.setdefault(key, asyncio.Lock()):
            return await self._put_parts(key, path, size)

    async def _put_whole(self, key: str, path: Path) -> bool:
        content = await asyncio.to_thread(path.read_bytes)
        with self._explaining(key, "stored"):
            try:
                await self._writes.put_async(key, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    async def _put_parts(self, key: str, path: Path, size: int) -> bool:
        try:
            await self.size_of(key)
        except ObjectMissingError:
            with self._explaining(key, "stored"):
                await self._writes.put_async(
                    key,
                    path,
                    use_multipart=True,
                    chunk_size=max(MIN_PART_BYTES, -(-size // MAX_PARTS)),
                    max_concurrency=PARTS_AT_ONCE,
                )
            return True
        return False


def _open_s3(url: str, options: ObjectStoreOptions) -> ObjectStore:
    bucket, prefix = _bucket_of(url)
    # One DELETE for an object, as every service has it; not all have Amazon's deletion of many.
    config: S3Config = {"disable_bulk_delete": True}
    if options.endpoint_url is not None:
        config["endpoint"] = options.endpoint_url
    if options.region is not None:
        config["region"] = options.region
    if options.access_key_id is not None and options.secret_access_key is not None:
        config["access_key_id"] = options.access_key_id
        config["secret_access_key"] = options.secret_access_key

    def open_with(client: "ClientConfig", retries: "RetryConfig") -> S3Store:
        if options.allow_http:
            client = {**client, "allow_http": True}
        return S3Store(
            bucket, prefix=prefix, config=config, client_options=client, retry_config=retries
        )

    with _opening(url):
        reads = open_with(READ_CLIENT, READ_RETRIES)
        return BucketObjectStore(reads, open_with(WRITE_CLIENT, WRITE_RETRIES), url)


def _open_gcs(url: str) -> ObjectStore:
    bucket, prefix = _bucket_of(url)

    def open_with(client: "ClientConfig", retries: "RetryConfig") -> GCSStore:
        return GCSStore(bucket, prefix=prefix, client_options=client, retry_config=retries)

    with _opening(url):
        reads = open_with(READ_CLIENT, READ_RETRIES)
        return BucketObjectStore(reads, open_with(WRITE_CLIENT, WRITE_RETRIES), url)


def _directory_of(url: str) -> Path:
    if url.startswith("/"):
        return Path(url)
    parts = urlsplit(url)
    if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise ValueError("a directory's URL is file:// and its absolute path")
    return Path(unquote(parts.path))


def _bucket_of(url: str) -> tuple[str, str | None]:
    parts = urlsplit(url)
    if "@" in parts.netloc or ":" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"a bucket's URL is {parts.scheme}://bucket/prefix, and no more")
    if not parts.netloc:
        raise ValueError(f"{url!r} names no bucket")
    return parts.netloc, parts.path.strip("/") or None


@contextmanager
def _opening(url: str) -> Iterator[None]:
    try:
        yield
    except BaseError as error:
        # Of the settings the first line names what is missing or where; what follows repeats it.
        raise ValueError(f"{url} can't be opened: {str(error).splitlines()[0]}") from None


def _check_range(start: int, length: int) -> None:
    if start < 0 or length < 0:
        raise ValueError(f"{length} bytes from byte {start} is no range")
