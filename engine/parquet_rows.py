"""Rows as a Parquet file, made piece by piece with memory that does not grow with their number."""

import io
from collections.abc import Sequence
from typing import Any, Final

import orjson
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from typing_extensions import override

WRITER: Final = f"pyarrow {pa.__version__}"
"""Whose bytes the file is: another version writes the same rows otherwise."""

# Readers skip and fetch whole row groups; so much is held of one while it grows.
ROW_GROUP_BYTES: Final = 16 * 1024 * 1024

_TEXTS: Final = ("id", "input", "expected", "rubric")
_JSON_TEXTS: Final = ("messages", "metadata", "labels")
_TYPES: Final = {
    "id": pa.string(),
    "input": pa.string(),
    "expected": pa.string(),
    "messages": pa.string(),
    "rubric": pa.string(),
    "metadata": pa.string(),
    "tags": pa.list_(pa.string()),
    "quality": pa.float64(),
    "weight": pa.float64(),
    "labels": pa.string(),
}
_SCHEMA: Final = pa.schema(_TYPES)


class ParquetRows:
    """Encodes the lines of a snapshot as one Parquet file.

    Where a row has no such field there is null, but for `tags`, which is empty, and `weight`, which
    is 1. What has no fixed form (`messages`, `metadata`, `labels`) is canonical JSON, as text.
    """

    def __init__(self) -> None:
        self._sink = _Pieces()
        self._writer = pq.ParquetWriter(self._sink, _SCHEMA, compression="zstd")
        self._batches: list[Any] = []
        self._size_bytes = 0

    def add(self, lines: Sequence[bytes]) -> bytes:
        """Add rows, and return the next bytes of the file, often none.

        Args:
            lines: As they are in the snapshot, some megabytes at most.
        """
        if lines:
            batch = _batch_of(lines)
            self._batches.append(batch)
            self._size_bytes += batch.nbytes
        if self._size_bytes < ROW_GROUP_BYTES:
            return b""  # not even the file's first bytes: until now it can be taken back
        self._write_group()
        return self._sink.take()

    def finish(self) -> bytes:
        """Return the last bytes of the file."""
        if self._batches:
            self._write_group()
        self._writer.close()
        return self._sink.take()

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._batches, _SCHEMA)
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._batches, self._size_bytes = [], 0


class _Pieces(io.RawIOBase):
    """A file whose bytes are taken away as they are written."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._end = 0

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, content: Any, /) -> int:
        piece = bytes(content)
        self._pieces.append(piece)
        self._end += len(piece)
        return len(piece)

    @override
    def tell(self) -> int:
        return self._end

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _batch_of(lines: Sequence[bytes]) -> Any:
    rows = [orjson.loads(line) for line in lines]
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in _TEXTS}
    for name in _JSON_TEXTS:
        columns[name] = [_json_text(row.get(name)) for row in rows]
    columns["tags"] = [row.get("tags", ()) for row in rows]
    columns["quality"] = [row.get("quality") for row in rows]
    columns["weight"] = [row.get("weight", 1.0) for row in rows]
    arrays = [pa.array(columns[name], type_) for name, type_ in _TYPES.items()]
    return pa.record_batch(arrays, schema=_SCHEMA)


def _json_text(value: Any) -> str | None:
    # Its keys are sorted already, as those of the line are.
    return None if value is None else orjson.dumps(value).decode()
