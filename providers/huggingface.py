"""Dataset files on Hugging Face, or on a hub that stands in for it, read as a stream."""

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx2

from providers.addresses import RefusedAddressError, check_literal, check_name
from providers.base import DatasetError, ProviderError
from providers.chat import failure
from providers.http import HttpClient

PUBLIC_HUB_URL = "https://huggingface.co"
# The sandbox's repositories are told by their owner, so that they can stand beside real ones.
SANDBOX_OWNER = "gero-sandbox"
SANDBOX_TOKEN_PREFIX = "hf_sandbox"  # noqa: S105 - it opens nothing but the sandbox
MAX_REDIRECTS = 5
MAX_LINE_BYTES = 8 * 1024 * 1024
READ_TIMEOUT_SECONDS = 30.0
SHAPE = (
    "expected a Hugging Face file URL ending in .jsonl or .jsonl.gz, such as "
    "https://huggingface.co/datasets/<owner>/<name>/resolve/main/<file>.jsonl"
)


class HuggingFaceHub:
    """Reads `resolve` URLs from the configured hub.

    URLs of huggingface.co are read from the configured hub as well, as
    `HF_ENDPOINT` does for Hugging Face's own libraries.

    Args:
        trusted: Reaches the addresses that the operator configured.
        guarded: Reaches the addresses that the hub redirects to.
        hub_url: Base URL, without a trailing slash.
        sandbox_url: Where the repositories of `gero-sandbox` are served, if anywhere.
        allow_private_endpoints: Admit redirects to http and to non-public addresses.
    """

    def __init__(
        self,
        *,
        trusted: HttpClient,
        guarded: HttpClient,
        hub_url: str,
        sandbox_url: str | None,
        allow_private_endpoints: bool,
    ) -> None:
        self._trusted = trusted
        self._guarded = guarded
        self._hub_url = hub_url
        self._sandbox_url = sandbox_url
        self._allow_private_endpoints = allow_private_endpoints

    def check_url(self, url: str) -> None:
        """Check that *url* names a dataset file on the hub; see `DatasetHub`."""
        self._locate(url)

    def _locate(self, url: str) -> str:
        """Return the address at which *url* is read."""
        try:
            path = urlsplit(url).path
        except ValueError as error:
            raise DatasetError(f"{url!r} is not a URL; {SHAPE}") from error
        if "/resolve/" not in path and "/blob/" in path:
            raise DatasetError(f"{url!r} is the file's page; use its /resolve/ URL; {SHAPE}")
        for base in (self._hub_url, PUBLIC_HUB_URL):
            if url.startswith(f"{base}/"):
                rest = urlunsplit(("", "", url[len(base) :].partition("#")[0], "", ""))
                break
        else:
            hubs = PUBLIC_HUB_URL if self._hub_url == PUBLIC_HUB_URL else f"{self._hub_url} (hub)"
            raise DatasetError(f"{url!r} is not on {hubs}; {SHAPE}")
        if "/resolve/" not in path or not path.endswith((".jsonl", ".jsonl.gz")):
            raise DatasetError(f"{url!r} is not a dataset file; {SHAPE}")
        if self._sandbox_url is not None and rest.startswith(f"/datasets/{SANDBOX_OWNER}/"):
            return self._sandbox_url + rest
        return self._hub_url + rest

    @asynccontextmanager
    async def open_lines(
        self, url: str, *, token: str | None, max_bytes: int
    ) -> AsyncIterator[AsyncIterator[tuple[int, bytes]]]:
        """Stream a file's non-blank lines with their numbers; see `DatasetHub`."""
        try:
            async with self._follow(self._locate(url), token) as response:
                _check_head(response, url)
                chunks: AsyncIterator[bytes] = response.aiter_bytes()
                if urlsplit(url).path.endswith(".gz"):
                    chunks = _gunzip(chunks, url)
                yield _lines(chunks, url, max_bytes)
        except ProviderError as error:
            raise DatasetError(
                f"{url!r} can't be read: {error}", is_retryable=error.is_retryable
            ) from error

    @asynccontextmanager
    async def _follow(self, url: str, token: str | None) -> AsyncIterator[httpx2.Response]:
        """Open *url*, following redirects, the hub's own credential going to the hub alone."""
        origin = _origin(url)
        for _ in range(MAX_REDIRECTS):
            at_home = _origin(url) == origin
            headers = {"Accept-Encoding": "identity"}
            if token and at_home:
                headers["Authorization"] = f"Bearer {token}"
            client = self._trusted if at_home else self._guarded
            async with client.stream(
                "GET", url, headers=headers, timeout_seconds=READ_TIMEOUT_SECONDS
            ) as response:
                if not response.is_redirect:
                    yield response
                    return
                url = _redirected(url, response.headers.get("location", ""))
            if _origin(url) != origin:
                await self._check_redirect(url)
        raise DatasetError(f"{url!r}: more than {MAX_REDIRECTS} redirects")

    async def _check_redirect(self, url: str) -> None:
        if self._allow_private_endpoints:
            return
        parts = urlsplit(url)
        try:
            if parts.scheme != "https" or not parts.hostname:
                raise RefusedAddressError(f"{parts.scheme!r} is not https")
            check_literal(url)
            await check_name(parts.hostname, parts.port or 443)
        except RefusedAddressError as error:
            raise DatasetError(f"the hub redirects to {url!r}: {error}") from error

    async def find_key_problem(self, key: str) -> str | None:
        """Return why the hub refuses *key*, or None when it is valid; see `DatasetHub`.

        The sandbox's own tokens are checked at the sandbox, which has the datasets they open.
        """
        base = self._hub_url
        if self._sandbox_url is not None and key.startswith(SANDBOX_TOKEN_PREFIX):
            base = self._sandbox_url
        response, content = await self._trusted.fetch(
            "GET",
            f"{base}/api/whoami-v2",
            headers={"Authorization": f"Bearer {key}"},
            timeout_seconds=READ_TIMEOUT_SECONDS,
            max_bytes=1024 * 1024,
        )
        if response.status_code in {401, 403}:
            return f"Hugging Face answered {response.status_code}: the token is not valid"
        if not response.is_success:
            raise failure(response.status_code, None, content)
        return None


def _redirected(url: str, location: str) -> str:
    """Return where *url* redirects to.

    Raises:
        DatasetError: *location* is not a URL.
    """
    try:
        target = urljoin(url, location)
        _origin(target)
    except ValueError as error:
        raise DatasetError(f"the hub redirects to {location!r}, which is not a URL") from error
    return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _check_head(response: httpx2.Response, url: str) -> None:
    status = response.status_code
    if status in {401, 403}:
        raise DatasetError(
            f"{url!r} answered {status}: it needs a Hugging Face token that may read it; "
            "save one as the workspace's huggingface integration"
        )
    if status == 404:  # noqa: PLR2004 - Not Found
        raise DatasetError(f"{url!r} answered 404: there is no such file")
    if not response.is_success:
        raise DatasetError(
            f"{url!r} answered {status}",
            is_retryable=status == 429 or status >= 500,  # noqa: PLR2004
        )
    if "text/html" in response.headers.get("content-type", ""):
        raise DatasetError(f"{url!r} answered an HTML page, not JSON lines")


async def _gunzip(chunks: AsyncIterator[bytes], url: str) -> AsyncIterator[bytes]:
    """Undo gzip, whose members may follow one another, a bounded piece at a time."""
    wbits = zlib.MAX_WBITS | 16
    inflate = zlib.decompressobj(wbits)
    begun = False
    async for chunk in chunks:
        rest = chunk
        while rest:
            if inflate.eof:
                inflate = zlib.decompressobj(wbits)
            try:
                piece = inflate.decompress(rest, MAX_LINE_BYTES)
            except zlib.error as error:
                raise DatasetError(f"{url!r} is not a valid gzip file ({error})") from error
            begun = True
            rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            yield piece
    if begun and not inflate.eof:
        raise DatasetError(f"{url!r} is a truncated gzip file")


async def _lines(
    chunks: AsyncIterator[bytes], url: str, max_bytes: int
) -> AsyncIterator[tuple[int, bytes]]:
    """Split into lines, skipping blank ones and a byte order mark."""
    rest = b""
    number = size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise DatasetError(f"{url!r} is over the limit of {max_bytes} bytes")
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            number += 1
            if line.strip():
                yield number, line.removeprefix(b"\xef\xbb\xbf")
        if len(rest) > MAX_LINE_BYTES:
            raise DatasetError(f"{url!r}: line {number + 1} is over {MAX_LINE_BYTES} bytes")
    if rest.strip():
        yield number + 1, rest.removeprefix(b"\xef\xbb\xbf")
