"""Rows as a Parquet file."""

import io
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from engine.canonical import canonical_json
from engine.parquet_rows import ROW_GROUP_BYTES, ParquetRows
from engine.rows import normalize_row, row_line


def read(content: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(content)).to_pylist()
    return rows


def test_every_field_of_a_row_has_its_column() -> None:
    full = {
        "id": "a", "input": "2 + 2?", "expected": "4", "rubric": "the number", "tags": ["x", "y"],
        "messages": [{"role": "user", "content": "2 + 2?"}], "metadata": {"b": [1], "a": None},
        "quality": 0.5, "weight": 0, "labels": {"weight": {"origin": "human"}},
    }  # fmt: skip
    bare = {"input": "why?"}
    encoder = ParquetRows()
    content = encoder.add([canonical_json(full), canonical_json(bare)]) + encoder.finish()
    texts = {
        "messages": '[{"content":"2 + 2?","role":"user"}]',
        "metadata": '{"a":null,"b":[1]}',
        "labels": '{"weight":{"origin":"human"}}',
    }
    nothing = dict.fromkeys(full)
    assert read(content) == [full | texts, nothing | bare | {"tags": [], "weight": 1.0}]


def test_a_file_without_rows_has_its_columns() -> None:
    table = pq.read_table(io.BytesIO(ParquetRows().finish()))
    assert (table.num_rows, len(table.column_names)) == (0, 10)


def test_row_groups_are_given_away_as_soon_as_they_are_full() -> None:
    encoder = ParquetRows()
    lines = [row_line(normalize_row({"input": f"{n} " + "word " * 1000})) for n in range(200)]
    size_of_batch = sum(map(len, lines))
    count = 5 * ROW_GROUP_BYTES // (2 * size_of_batch)
    pieces = [encoder.add(lines) for _ in range(count)]
    given = [piece for piece in pieces if piece]
    assert len(given) == 2
    content = b"".join([*pieces, encoder.finish()])
    file = pq.ParquetFile(io.BytesIO(content))
    assert file.num_row_groups == 3
    assert file.metadata.num_rows == count * len(lines)
    assert read(content)[:: len(lines)] == read(content)[:1] * count
