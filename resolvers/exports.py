"""A snapshot's rows in other forms than it is stored in, and of one side alone."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress
from typing import Any, Final, Protocol
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray
from typing_extensions import override

from engine.canonical import canonical_json
from engine.chat_examples import chat_example
from engine.parquet_rows import WRITER, ParquetRows
from engine.snapshot_format import HAS_EXPECTED, IS_VALIDATION
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.downloads import Download, line_batches, open_download
from resolvers.leakage import LEAK_THRESHOLD, read_leakage

# What is made of the same rows changes with this: a new number makes new tags.
REVISION: Final = 1


class ExportFormat(StrEnum):
    """What rows are written as."""

    JSONL = "jsonl"
    OPENAI = "openai"
    PARQUET = "parquet"


class ExportSplit(StrEnum):
    """Which rows."""

    ALL = "all"
    TRAIN = "train"
    VALIDATION = "validation"


class LineEncoder(Protocol):
    """Turns lines of a snapshot into a file, piece by piece; belongs in a thread."""

    def add(self, lines: Sequence[bytes]) -> bytes:
        """Take the next lines, and return the next bytes, which may be none."""
        ...

    def finish(self) -> bytes:
        """Return the last bytes."""
        ...


@dataclass(frozen=True, slots=True)
class ExportedRows:
    """The rows of an export, ready to be written.

    Attributes:
        leaking_row_count: Rows of the training side that are left out because they are near to a
            validation row; None where none are looked for.
        skipped_row_count: Rows of the others that are left out because they have no expected
            output; None where that does not matter.
        chunks: The file. It is made as it is read.
    """

    leaking_row_count: int | None
    skipped_row_count: int | None
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be exported of a snapshot, and how."""

    download: Download
    format: ExportFormat
    split: ExportSplit

    @property
    def tag(self) -> str:
        """Names the bytes of the file, which are known by it before any of them is made."""
        snapshot = self.download.snapshot
        parts: list[Any] = [REVISION, snapshot.content_sha256, self.format, self.split]
        if self.split is not ExportSplit.ALL:
            parts += [snapshot.index_sha256, LEAK_THRESHOLD]
        if self.format is ExportFormat.OPENAI:
            parts.append(self.download.system_prompt)
        if self.format is ExportFormat.PARQUET:
            parts.append(WRITER)
        return hashlib.sha256(canonical_json([str(part) for part in parts])).hexdigest()

    async def read(self, ctx: Context) -> ExportedRows:
        """Find the rows, and return them, not yet read.

        The training side is without the rows that give a validation row away: that a model has
        seen an answer there says nothing about how good it is.

        Raises:
            CorruptSnapshotError: The stored bytes were changed, or are gone. Reading the rows may
                raise it too.
            UnavailableError: Object storage can't be used now; likewise.
        """
        is_chosen: NDArray[np.bool_] | None = None
        leaking_row_count = skipped_row_count = None
        if self.split is not ExportSplit.ALL or self.format is ExportFormat.OPENAI:
            flags = (await self.download.reader.index())["flags"].copy()
            is_chosen = self._on_side(flags)
            if self.split is ExportSplit.TRAIN:
                leakage = await read_leakage(ctx, self.download.snapshot, first=0)
                is_chosen[leakage.train_positions] = False
                leaking_row_count = leakage.leaking_row_count
            if self.format is ExportFormat.OPENAI:
                has_expected = (flags & HAS_EXPECTED) != 0
                skipped_row_count = int(np.count_nonzero(is_chosen & ~has_expected))
                is_chosen &= has_expected
        return ExportedRows(leaking_row_count, skipped_row_count, self._chunks(is_chosen))

    def _on_side(self, flags: NDArray[np.uint8]) -> NDArray[np.bool_]:
        if self.split is ExportSplit.ALL:
            return np.ones(len(flags), np.bool_)
        is_validation: NDArray[np.bool_] = (flags & IS_VALIDATION) != 0
        return is_validation if self.split is ExportSplit.VALIDATION else ~is_validation

    async def _chunks(self, is_chosen: NDArray[np.bool_] | None) -> AsyncIterator[bytes]:
        encoder = self._encoder()

        def encode(first: int, content: bytes) -> bytes:
            lines = content.splitlines()
            if is_chosen is not None:
                lines = list(compress(lines, is_chosen[first : first + len(lines)]))
            return encoder.add(lines)

        async for first, content in line_batches(self.download.reader):
            if chunk := await asyncio.to_thread(encode, first, content):
                yield chunk
        if chunk := await asyncio.to_thread(encoder.finish):
            yield chunk

    def _encoder(self) -> LineEncoder:
        match self.format:
            case ExportFormat.JSONL:
                return _Lines()
            case ExportFormat.OPENAI:
                return _ChatLines(self.download.system_prompt)
            case ExportFormat.PARQUET:
                return ParquetRows()


class _Lines:
    """Lines as they are."""

    def add(self, lines: Sequence[bytes]) -> bytes:
        return b"".join(line + b"\n" for line in lines)

    def finish(self) -> bytes:
        return b""


class _ChatLines(_Lines):
    """Lines as examples for fine-tuning."""

    def __init__(self, system_prompt: str) -> None:
        self._system_prompt = system_prompt

    @override
    def add(self, lines: Sequence[bytes]) -> bytes:
        rows = map(orjson.loads, lines)
        return super().add([chat_example(row, self._system_prompt) for row in rows])


@requires(Scope.LEADERBOARDS_READ)
async def open_export(
    ctx: Context,
    leaderboard_id: UUID,
    number: int | None = None,
    *,
    format: ExportFormat = ExportFormat.JSONL,
    split: ExportSplit = ExportSplit.ALL,
) -> Export:
    """Return what is to be exported of a leaderboard's snapshot; nothing of it is read yet.

    Args:
        ctx: Who asks.
        leaderboard_id: Whose snapshot.
        number: Which; the newest when left out.
        format: What its rows are written as.
        split: Which rows.

    Raises:
        NotFoundError: The workspace has no such leaderboard, or it no such snapshot.
        ConflictError: There is no snapshot yet.
    """
    return Export(await open_download(ctx, leaderboard_id, number), format, split)
