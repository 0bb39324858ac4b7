"""The check of a Hugging Face URL: what is there, what runs would make of it, what is wrong."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from engine.rows import DatasetRow as Example
from engine.rows import RowError, find_names, normalize_row
from providers.base import DatasetError, DatasetErrorCode, PinnedFile
from providers.json_lines import MAX_LINE_BYTES
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.inputs import HubFile
from resolvers.integrations import find_integration_key

MEBIBYTE = 1024 * 1024
# Read until one of both is passed. Small files are so checked whole, in some 20 ms of computing.
SAMPLED_ROWS = 1_000
SAMPLED_BYTES = MEBIBYTE
# After the sample there is room for the longest line that a run takes, and for what comes with it.
READ_BYTES = SAMPLED_BYTES + MAX_LINE_BYTES + MEBIBYTE
# A person waits for the answer; a hub that is well sends the first rows within two.
CHECK_SECONDS = 15.0
SHOWN_ROWS = 5
# Of a row's line; a longer row is not shown, so that an answer stays under a megabyte.
SHOWN_ROW_BYTES = 128 * 1024
# What is wrong with one row is often wrong with all of them.
SHOWN_PROBLEMS = 5
# Files that have their values for names have no end of them.
SHOWN_FIELDS = 100
SHOWN_NAME_CHARACTERS = 100


class LineProblemCode(StrEnum):
    """What can be wrong with lines that were read, beside the codes of `RowError`."""

    BAD_LINE = "bad_line"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class HubProblem:
    """Something that keeps runs from reading a file.

    Attributes:
        code: Of `DatasetErrorCode`, `LineProblemCode` or `RowError`.
        message: For the person who gave the URL.
        line: The line that it is about, from 1.
    """

    code: str
    message: str
    line: int | None


@dataclass(frozen=True, slots=True)
class HubCheck:
    """What was found at a URL.

    Attributes:
        url: As it was given.
        valid: Nothing is wrong with what was read.
        format: None until a line was a JSON object.
        compressed: By its name.
        fields: The rows' own names, in order of first appearance.
        mapped_fields: Our fields that rows have, by the name that they give them.
        sample_rows: The first rows, as runs would read them.
        checked_row_count: Rows that can be used, of those that were read.
        checked_whole_file: There was no more to read.
        size_bytes: Of the file as it is stored.
        revision: The commit that was read.
        needs_credential: The hub wants a credential, or another than the workspace has saved.
        problems: What is wrong, as it was found.
    """

    url: str
    valid: bool
    format: Literal["jsonl"] | None
    compressed: bool
    fields: Sequence[str]
    mapped_fields: Mapping[str, str]
    sample_rows: Sequence[Example]
    checked_row_count: int
    checked_whole_file: bool
    size_bytes: int | None
    revision: str | None
    needs_credential: bool
    problems: Sequence[HubProblem]


@dataclass(slots=True)
class _Findings:
    """What has been found so far, also when reading breaks off."""

    url: str
    file: PinnedFile | None = None
    fields: dict[str, None] = field(default_factory=dict)
    mapped_fields: dict[str, str] = field(default_factory=dict)
    sample_rows: list[Example] = field(default_factory=list)
    problems: list[HubProblem] = field(default_factory=list)
    row_count: int = 0
    read_bytes: int = 0
    is_whole: bool = False
    is_jsonl: bool = False

    @property
    def is_enough(self) -> bool:
        """Whether to read no further."""
        return (
            self.row_count >= SAMPLED_ROWS
            or self.read_bytes >= SAMPLED_BYTES
            or len(self.problems) >= SHOWN_PROBLEMS
        )

    def note(self, code: str, message: str, line: int | None = None) -> None:
        """Note that something is wrong."""
        self.problems.append(HubProblem(str(code), message, line))

    def take(self, number: int, line: bytes) -> None:
        """Look at a line."""
        self.read_bytes += len(line)
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            message = f"line {number} is not JSON ({error})"
            self.note(LineProblemCode.BAD_LINE, message, number)
            return
        if isinstance(value, dict):
            self._take_names(value)
        try:
            row = normalize_row(value)
        except RowError as error:
            self.note(error.code, f"line {number}: {error.message}", number)
            return
        self.row_count += 1
        if len(self.sample_rows) < SHOWN_ROWS and len(line) <= SHOWN_ROW_BYTES:
            self.sample_rows.append(row)

    def _take_names(self, row: dict[str, Any]) -> None:
        self.is_jsonl = True
        self.mapped_fields = find_names(row) | self.mapped_fields
        for name in row:
            if len(self.fields) == SHOWN_FIELDS:
                break
            self.fields.setdefault(name[:SHOWN_NAME_CHARACTERS])

    def report(self) -> HubCheck:
        """Return all of it."""
        codes = {problem.code for problem in self.problems}
        is_url = DatasetErrorCode.INVALID_URL not in codes
        return HubCheck(
            url=self.url,
            valid=not self.problems,
            format="jsonl" if self.is_jsonl else None,
            compressed=is_url and urlsplit(self.url).path.endswith(".gz"),
            fields=list(self.fields),
            mapped_fields=self.mapped_fields,
            sample_rows=self.sample_rows,
            checked_row_count=self.row_count,
            checked_whole_file=self.is_whole,
            size_bytes=None if self.file is None else self.file.size_bytes,
            revision=None if self.file is None else self.file.commit,
            needs_credential=DatasetErrorCode.NEEDS_CREDENTIAL in codes,
            problems=self.problems,
        )


@requires(Scope.LEADERBOARDS_READ)
async def check_hub_file(
    ctx: Context, asked: HubFile, *, timeout_seconds: float = CHECK_SECONDS
) -> HubCheck:
    """Read a file's first rows as a run would, and say what is there and what is wrong.

    What is wrong with the file, or with the hub, is part of the answer.

    Args:
        ctx: The request's.
        asked: Which file.
        timeout_seconds: For all that the hub is asked; what came until then is looked at.
    """
    token = await find_integration_key(ctx, "huggingface")
    findings = _Findings(asked.url)
    try:
        async with asyncio.timeout(timeout_seconds):
            await _read_sample(ctx, token, findings)
    except TimeoutError:
        findings.note(
            DatasetErrorCode.TIMED_OUT, f"the hub did not send enough within {timeout_seconds:g} s"
        )
    except DatasetError as error:
        findings.note(error.code, str(error), error.line)
    return findings.report()


async def _read_sample(ctx: Context, token: str | None, findings: _Findings) -> None:
    """Read until it is enough.

    Raises:
        DatasetError: The file can't be read, or not to there.
    """
    hub, max_bytes = ctx.services.hub, ctx.services.limits.dataset_max_bytes
    findings.file = file = await hub.pin(findings.url, token=token)
    if file.size_bytes is not None and file.size_bytes > max_bytes:
        raise DatasetError(
            f"the file has {file.size_bytes} bytes; runs read at most {max_bytes}",
            code=DatasetErrorCode.TOO_LARGE,
        )
    async with hub.open_lines(file.url, token=token, max_bytes=READ_BYTES) as lines:
        async for number, line in lines:
            findings.take(number, line)
            if findings.is_enough:
                return
    findings.is_whole = True
    if not findings.row_count and not findings.problems:
        findings.note(LineProblemCode.EMPTY, "the file has no rows")
