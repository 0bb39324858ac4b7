"""Dataset files on Hugging Face, or on a hub that stands in for it, read as a stream."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urljoin, urlsplit, urlunsplit

from providers.addresses import RefusedAddressError, check_literal, check_name
from providers.base import (
    DatasetError,
    DatasetErrorCode,
    PinnedFile,
    ProviderError,
    ProviderErrorCode,
)
from providers.http import HttpClient, HttpResponse
from providers.http_failures import failure
from providers.json_lines import gunzip, split_lines

PUBLIC_HUB_URL = "https://huggingface.co"
# The sandbox's repositories are told by their owner, so that they can stand beside real ones.
SANDBOX_OWNER = "gero-sandbox"
SANDBOX_TOKEN_PREFIX = "hf_sandbox"  # noqa: S105 - it opens nothing but the sandbox
MAX_REDIRECTS = 5
READ_TIMEOUT_SECONDS = 30.0
# Twice what huggingface_hub waits for one answer about a file: there may be redirects.
PIN_TIMEOUT_SECONDS = 20.0
COMMIT = re.compile("[0-9a-f]{40}")
SIZE = re.compile("[0-9]{1,18}")
# The repository, and the revision in it. Of the revisions that hold a slash, the hub takes those
# of two kinds unquoted.
# Source: huggingface_hub, `hf_hub_url` and SPECIAL_REFS_REVISION_REGEX.
REVISION = re.compile(
    r"(?P<repository>(?:/datasets|/spaces)?/[^/?#]+(?:/[^/?#]+)?/resolve/)"
    r"(?P<revision>refs/(?:convert|pr)/[^/?#]+|[^/?#]+)(?=/)"
)
# Of a redirect that leads to the content too, which may have a length of its own.
TOLD_BY_HEAD = ("x-repo-commit", "x-linked-size")
# What a hub that does not answer HEAD says.
NO_HEAD = frozenset({405, 501})
MISSING: Mapping[str, str] = {
    "RepoNotFound": "there is no such repository",
    "RevisionNotFound": "the repository has no such branch, tag or commit",
}
"""What the hub's X-Error-Code means, where it is not that the file is missing."""
CODES: Mapping[ProviderErrorCode, DatasetErrorCode] = {
    ProviderErrorCode.REFUSED_ADDRESS: DatasetErrorCode.REFUSED_ADDRESS,
    ProviderErrorCode.REJECTED: DatasetErrorCode.INVALID_URL,
    ProviderErrorCode.TIMED_OUT: DatasetErrorCode.TIMED_OUT,
    ProviderErrorCode.INVALID_RESPONSE: DatasetErrorCode.NOT_JSONL,
}
"""What a failed call amounts to; all others to a hub that can't be reached."""
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
        base = self._base_of(url)
        rest = urlunsplit(("", "", url[len(base) :].partition("#")[0], "", ""))
        if self._sandbox_url is not None and rest.startswith(f"/datasets/{SANDBOX_OWNER}/"):
            return self._sandbox_url + rest
        return self._hub_url + rest

    def _base_of(self, url: str) -> str:
        """Return which hub's *url* is.

        Raises:
            DatasetError: Nobody's, or it is not a dataset file's.
        """
        try:
            path = urlsplit(url).path
        except ValueError as error:
            raise _invalid_url(f"{url!r} is not a URL") from error
        if "/resolve/" not in path and "/blob/" in path:
            raise _invalid_url(f"{url!r} is the file's page; use its /resolve/ URL")
        bases = (self._hub_url, PUBLIC_HUB_URL)
        base = next((each for each in bases if url.startswith(f"{each}/")), None)
        if base is None:
            hubs = PUBLIC_HUB_URL if self._hub_url == PUBLIC_HUB_URL else f"{self._hub_url} (hub)"
            raise _invalid_url(f"{url!r} is not on {hubs}")
        if "/resolve/" not in path or not path.endswith((".jsonl", ".jsonl.gz")):
            raise _invalid_url(f"{url!r} is not a dataset file")
        return base

    async def pin(
        self, url: str, *, token: str | None, timeout_seconds: float = PIN_TIMEOUT_SECONDS
    ) -> PinnedFile:
        """Find the commit that *url*'s branch or tag stands for just now; see `DatasetHub`."""
        address = self._locate(url)
        try:
            with _explaining(url):
                async with asyncio.timeout(timeout_seconds):
                    told = await self._ask_about(address, url, token)
        except TimeoutError as error:
            raise DatasetError(
                f"{url!r}: the hub gave no answer within {timeout_seconds:g} s",
                code=DatasetErrorCode.TIMED_OUT,
                is_retryable=True,
            ) from error
        return _pinned(url, self._base_of(url), told)

    async def _ask_about(self, address: str, url: str, token: str | None) -> dict[str, str]:
        """Return what the hub tells of a file, by the headers that it tells it with.

        Elsewhere than at the hub nothing is asked: nobody there knows of commits, and an address
        that is signed is so for a GET.

        Source: huggingface_hub, `get_hf_file_metadata`.
        """
        origin = _origin(address)
        told: dict[str, str] = {}
        for _ in range(MAX_REDIRECTS):
            async with self._trusted.stream(
                "HEAD", address, headers=_headers(token), read_timeout_seconds=READ_TIMEOUT_SECONDS
            ) as response:
                headers = response.headers
            told = {name: headers[name] for name in TOLD_BY_HEAD if name in headers} | told
            if not response.is_redirect:
                if response.status not in NO_HEAD:
                    _check_head(response, url)
                    told.setdefault("x-linked-size", headers.get("content-length", ""))
                return told
            address = _redirected(address, headers.get("location", ""))
            if _origin(address) != origin:
                return told
        raise _too_many_redirects(address)

    @asynccontextmanager
    async def open_lines(
        self, url: str, *, token: str | None, max_bytes: int
    ) -> AsyncIterator[AsyncIterator[tuple[int, bytes]]]:
        """Stream a file's non-blank lines with their numbers; see `DatasetHub`."""
        address = self._locate(url)
        with _explaining(url):
            async with self._follow(address, token) as response:
                _check_head(response, url)
                chunks: AsyncIterator[bytes] = response.chunks()
                if urlsplit(url).path.endswith(".gz"):
                    chunks = gunzip(chunks, url)
                yield split_lines(chunks, url, max_bytes)

    @asynccontextmanager
    async def _follow(self, url: str, token: str | None) -> AsyncIterator[HttpResponse]:
        """Open *url*, following redirects, the hub's own credential going to the hub alone."""
        origin = _origin(url)
        for _ in range(MAX_REDIRECTS):
            at_home = _origin(url) == origin
            headers = _headers(token if at_home else None)
            client = self._trusted if at_home else self._guarded
            async with client.stream(
                "GET", url, headers=headers, read_timeout_seconds=READ_TIMEOUT_SECONDS
            ) as response:
                if not response.is_redirect:
                    yield response
                    return
                url = _redirected(url, response.headers.get("location", ""))
            if _origin(url) != origin:
                await self._check_redirect(url)
        raise _too_many_redirects(url)

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
            raise DatasetError(
                f"the hub redirects to {url!r}: {error}", code=DatasetErrorCode.REFUSED_ADDRESS
            ) from error

    async def find_key_problem(self, key: str) -> str | None:
        """Return why the hub refuses *key*, or None when it is valid; see `DatasetHub`.

        The sandbox's own tokens are checked at the sandbox, which has the datasets they open.
        """
        base = self._hub_url
        if self._sandbox_url is not None and key.startswith(SANDBOX_TOKEN_PREFIX):
            base = self._sandbox_url
        headers = {"Authorization": f"Bearer {key}"}
        response, content = await self._trusted.fetch(
            "GET",
            f"{base}/api/whoami-v2",
            headers=headers,
            timeout_seconds=READ_TIMEOUT_SECONDS,
            max_bytes=1024 * 1024,
        )
        if response.status in {401, 403}:
            return f"Hugging Face answered {response.status}: the token is not valid"
        if not response.is_success:
            raise failure(response.status, None, content, sent=headers)
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
        raise DatasetError(
            f"the hub redirects to {location!r}, which is not a URL",
            code=DatasetErrorCode.REFUSED_ADDRESS,
        ) from error
    return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _check_head(response: HttpResponse, url: str) -> None:
    status = response.status
    told = response.headers.get("x-error-code", "")
    if status in {401, 403}:
        # A stranger is told the same of what is private and of what isn't there.
        or_missing = "; or there is no such repository" if told == "RepoNotFound" else ""
        raise DatasetError(
            f"{url!r} answered {status}: it needs a Hugging Face token that may read it; "
            f"save one as the workspace's huggingface integration{or_missing}",
            code=DatasetErrorCode.NEEDS_CREDENTIAL,
        )
    if status == 404:  # noqa: PLR2004 - Not Found
        missing = MISSING.get(told, "there is no such file")
        raise DatasetError(f"{url!r} answered 404: {missing}", code=DatasetErrorCode.NOT_FOUND)
    if not response.is_success:
        raise DatasetError(
            f"{url!r} answered {status}",
            code=DatasetErrorCode.UNREACHABLE,
            is_retryable=status == 429 or status >= 500,  # noqa: PLR2004
        )
    if "text/html" in response.headers.get("content-type", ""):
        raise DatasetError(
            f"{url!r} answered an HTML page, not JSON lines", code=DatasetErrorCode.NOT_JSONL
        )


def _pinned(url: str, base: str, told: Mapping[str, str]) -> PinnedFile:
    """Put the commit that the hub *told* in the place of the revision in *url*."""
    size, commit = told.get("x-linked-size", ""), told.get("x-repo-commit", "")
    size_bytes = int(size) if SIZE.fullmatch(size) else None
    found = REVISION.match(url, len(base))
    if found is not None and COMMIT.fullmatch(found["revision"]):
        return PinnedFile(url, found["revision"], size_bytes)
    if found is None or not COMMIT.fullmatch(commit):
        return PinnedFile(url, None, size_bytes)
    at_commit = url[: found.start("revision")] + commit + url[found.end("revision") :]
    return PinnedFile(at_commit, commit, size_bytes)


def _headers(token: str | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers


@contextmanager
def _explaining(url: str) -> Iterator[None]:
    """Say of a call that fails that *url* can't be read."""
    try:
        yield
    except ProviderError as error:
        raise DatasetError(
            f"{url!r} can't be read: {error}",
            code=CODES.get(error.code, DatasetErrorCode.UNREACHABLE),
            is_retryable=error.is_retryable,
        ) from error


def _invalid_url(problem: str) -> DatasetError:
    return DatasetError(f"{problem}; {SHAPE}", code=DatasetErrorCode.INVALID_URL)


def _too_many_redirects(url: str) -> DatasetError:
    return DatasetError(
        f"{url!r}: more than {MAX_REDIRECTS} redirects", code=DatasetErrorCode.UNREACHABLE
    )
