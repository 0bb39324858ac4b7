"""Downloading a snapshot in other formats, and one side of it, over REST."""

import asyncio
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from datasets import Dataset, load_dataset
from sqlalchemy import update

from app.services import Process
from app.settings import Settings
from db.models import DatasetSnapshot, Leaderboard
from engine.splits import is_validation
from resolvers.errors import CorruptSnapshotError
from resolvers.leakage import find_leaks
from resolvers.snapshot_files import lines_key
from tests.conftest import ask
from tests.factories import Tenant, make_tenant
from tests.rest_compat.test_consolidation import consolidate, download
from tests.rest_compat.test_push import make_push_board, push, rows

SPLITS = ("all", "train", "validation")
LEAKAGE = """query($id: ID!, $first: Int) { leaderboard(id: $id) { dataset { latestSnapshot {
  id leakage(first: $first) { trainRowCount validationRowCount leakingRowCount
    leaks { trainRowId validationRowId similarity } } } } } }"""

EDIT = "mutation($input: EditRowsInput!) { editRows(input: $input) { editCount } }"


def near_texts(count: int) -> list[tuple[str, str]]:
    """Return pairs of near texts of which the first is for training, and the second is not."""
    pairs: list[tuple[str, str]] = []
    for number in range(1000):
        text = f"{number} " + " ".join(f"word{number * 50 + each}" for each in range(40))
        sides = {is_validation(each): each for each in (text, *(f"{text} x{n}" for n in range(9)))}
        if len(sides) == 2:
            pairs.append((sides[False], sides[True]))
        if len(pairs) == count:
            return pairs
    raise AssertionError("there are enough")


async def make_snapshot(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, given: Sequence[dict[str, Any]]
) -> Leaderboard:
    board = await make_push_board(process, tenant)
    for start in range(0, len(given), 1000):
        assert (await push(client, board, given[start : start + 1000])).json()["rejected_rows"] == 0
    await consolidate(client, board)
    return board


async def get(
    client: httpx2.AsyncClient,
    board: Leaderboard,
    headers: dict[str, str] | None = None,
    **query: str,
) -> Any:
    return await download(client, board, headers=headers or {}, params=query)


def load(kind: str, content: bytes, directory: Path) -> Dataset:
    """Read a file as those who fine-tune do, with Hugging Face's library."""
    path = directory / f"rows.{kind}"
    path.write_bytes(content)
    return load_dataset(
        kind, data_files=str(path), split="train", cache_dir=str(directory / "cache")
    )


async def test_hugging_face_datasets_reads_the_fine_tuning_file(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, tmp_path: Path
) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    given: list[dict[str, Any]] = [
        *rows(300),
        {"id": "chat", "messages": chat, "output": "Because."},
        {"id": "open", "input": "nobody knows"},
    ]
    board = await make_snapshot(client, process, tenant, given)
    answer = await get(client, board, format="openai")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert answer.headers["x-dr.gero-skipped-rows"] == "1"
    assert "x-dr.gero-leaking-rows" not in answer.headers
    loaded = load("json", answer.content, tmp_path)
    assert (loaded.num_rows, loaded.column_names) == (301, ["messages"])
    by_question = {each[-2]["content"]: each for each in loaded["messages"]}
    reply = {"role": "assistant", "content": "yes"}
    for row in rows(300):
        asked = f"Solve: {row['input']}"
        assert by_question[asked] == [{"role": "user", "content": asked}, reply]
    assert by_question["Why?"] == [*chat, {"role": "assistant", "content": "Because."}]


async def test_hugging_face_datasets_reads_the_table(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, tmp_path: Path
) -> None:
    given = [{**row, "tags": ["x"], "metadata": {"n": 1}} for row in rows(700)]
    board = await make_snapshot(client, process, tenant, [*given, {"id": "bare", "input": "why?"}])
    answer = await get(client, board, format="parquet")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert answer.headers.keys().isdisjoint({"content-encoding", "x-dr.gero-skipped-rows"})
    loaded = load("parquet", answer.content, tmp_path)
    lines = [json.loads(line) for line in (await get(client, board)).content.splitlines()]
    assert loaded["input"][:] == [line["input"] for line in lines]
    by_input = {row["input"]: row for row in loaded}
    row = by_input["question 8"]
    assert (row["id"], row["expected"], row["tags"], row["weight"]) == (None, "yes", ["x"], 1.0)
    assert json.loads(row["metadata"]) == {"n": 1}
    assert by_input["why?"] == {
        "id": "bare", "input": "why?", "expected": None, "messages": None, "rubric": None,
        "metadata": None, "tags": [], "quality": None, "weight": 1.0, "labels": None,
    }  # fmt: skip


@pytest.mark.parametrize("format", ["jsonl", "openai", "parquet"])
async def test_a_side_is_exactly_its_rows_and_training_rows_that_leak_are_left_out(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, tmp_path: Path, format: str
) -> None:
    pairs = near_texts(5)
    leaking, judged = ({pair[side] for pair in pairs} for side in (0, 1))
    given = [*rows(600), *({"input": each, "output": "yes"} for each in sorted(leaking | judged))]
    board = await make_snapshot(client, process, tenant, given)
    every = {row["input"] for row in given}
    validation = {each for each in every if is_validation(each)}
    wanted = {"all": every, "train": every - validation - leaking, "validation": validation}
    for split in SPLITS:
        answer = await get(client, board, format=format, split=split)
        count = "5" if split == "train" else None
        assert answer.headers.get("x-dr.gero-leaking-rows") == count
        directory = tmp_path / split
        directory.mkdir()
        loaded = load("parquet" if format == "parquet" else "json", answer.content, directory)
        found = (
            [each[0]["content"].removeprefix("Solve: ") for each in loaded["messages"]]
            if format == "openai"
            else loaded["input"][:]
        )
        assert (set(found), len(found)) == (wanted[split], len(wanted[split]))


async def test_a_known_file_is_not_made_again(
    client: httpx2.AsyncClient,
    process: Process,
    tenant: Tenant,
    settings: Settings,
) -> None:
    board = await make_snapshot(client, process, tenant, rows(50))
    tags: dict[tuple[str, str], str] = {}
    for kind in ("jsonl", "openai", "parquet"):
        for split in SPLITS:
            answer = await get(client, board, format=kind, split=split)
            tags[kind, split] = answer.headers["etag"]
            again = await get(client, board, format=kind, split=split)
            assert (again.content, again.headers["etag"]) == (answer.content, tags[kind, split])
    assert len(set(tags.values())) == len(tags)
    for path in (Path(settings.object_store) / "snapshots").rglob("*.*"):
        path.unlink()  # what is known is told without anything to read
    for (kind, split), tag in tags.items():
        known = await get(client, board, {"If-None-Match": tag}, format=kind, split=split)
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    async with process.database.write() as session:
        await session.execute(update(Leaderboard).values(system_prompt="Answer: {input}"))
    renamed = {"If-None-Match": tags["openai", "all"]}
    assert (await get(client, board, renamed, format="openai")).status_code == 500
    unchanged = {"If-None-Match": tags["parquet", "train"]}
    answer = await get(client, board, unchanged, format="parquet", split="train")
    assert answer.status_code == 304


async def test_made_files_are_compressed_where_that_helps_and_never_sent_in_parts(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_snapshot(client, process, tenant, rows(300))
    plain = await get(client, board, format="openai")
    part = await get(client, board, {"Range": "bytes=0-9"}, format="openai")
    assert (part.status_code, part.content) == (200, plain.content)
    assert part.headers["accept-ranges"] == "none"
    path = f"/v1/leaderboard/{board.id}/dataset?format=openai"
    async with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as got:
        raw = b"".join([chunk async for chunk in got.aiter_raw()])
    assert gzip.decompress(raw) == plain.content
    assert got.headers["etag"] == f"W/{plain.headers['etag']}"
    packed = await get(client, board, {"Accept-Encoding": "gzip"}, format="parquet")
    assert "content-encoding" not in packed.headers


async def test_an_unknown_format_or_side_is_refused(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_snapshot(client, process, tenant, rows(1))
    for answer in (await get(client, board, format="csv"), await get(client, board, split="test")):
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_a_changed_byte_is_an_error_or_breaks_the_file_off(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings
) -> None:
    # More than is read at once, and more than a Parquet file's first part holds.
    given = [{**row, "metadata": {"x": "x" * 4200}} for row in rows(8_500)]
    board = await make_push_board(process, tenant)
    for start in range(0, len(given), 1000):
        await push(client, board, given[start : start + 1000])
    made = (await consolidate(client, board))["snapshot"]
    await find_leaks(process.system_context(tenant.workspace_id), board.id)
    path = Path(settings.object_store) / lines_key(board.id, made["content_sha256"])
    stored = path.read_bytes()
    files = (("openai", "all"), ("parquet", "all"), ("jsonl", "train"))
    path.write_bytes(stored[:-20] + b"!" + stored[-19:])
    for kind, split in files:
        with pytest.raises(httpx2.RemoteProtocolError):
            await get(client, board, format=kind, split=split)
    path.write_bytes(b"!" + stored[1:])
    for kind, split in files:
        answer = await get(client, board, format=kind, split=split)
        assert (answer.status_code, answer.json()["code"]) == (500, "corrupt_snapshot")


async def test_leaks_are_named_looked_for_once_and_kept(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings
) -> None:
    pairs = near_texts(3)
    given = [{"id": f"t{n}", "input": pair[0], "output": "1"} for n, pair in enumerate(pairs)]
    given += [{"input": pair[1], "output": "1"} for pair in pairs]
    board = await make_snapshot(client, process, tenant, [*rows(100), *given])
    ctx = process.system_context(tenant.workspace_id)
    found = await asyncio.gather(*(find_leaks(ctx, board.id) for _ in range(5)))
    (kept,) = (Path(settings.object_store) / f"snapshots/{board.id}").glob("*.leaks-0.8.jsonl")
    assert [each.leaks for each in found] == [found[0].leaks] * 5
    lines = (await get(client, board)).content.splitlines()
    judged = {json.loads(lines[leak.validation.position])["input"] for leak in found[0].leaks}
    assert judged == {pair[1] for pair in pairs}
    assert {leak.train.id for leak in found[0].leaks} == {"t0", "t1", "t2"}
    for leak in found[0].leaks:
        assert json.loads(lines[leak.train.position])["id"] == leak.train.id
        assert (leak.validation.id, len(leak.train.key)) == (None, 32)
        assert 0.8 <= leak.similarity < 1
    validation = sum(is_validation(json.loads(line)["input"]) for line in lines)
    counts = (found[0].train_row_count, found[0].validation_row_count)
    assert counts == (len(lines) - validation, validation)
    other = await find_leaks(ctx, board.id, threshold=1.0)
    assert (other.leaking_row_count, other.leaks) == (0, [])
    content = kept.read_bytes()
    kept.write_bytes(content.replace(b'"t0"', b'"t9"'))
    with pytest.raises(CorruptSnapshotError, match="delete the object"):
        await find_leaks(ctx, board.id)
    kept.write_bytes(content[:-30])
    with pytest.raises(CorruptSnapshotError):
        await find_leaks(ctx, board.id)


async def test_a_row_whose_input_is_corrected_stays_on_its_side_and_may_leak(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    given = [{**row, "id": row["input"]} for row in rows(60)]
    judged = next(row["input"] for row in given if is_validation(row["input"]))
    train = next(row["input"] for row in given if not is_validation(row["input"]))
    board = await make_snapshot(client, process, tenant, given)
    ctx = process.system_context(tenant.workspace_id)
    assert (await find_leaks(ctx, board.id)).leaking_row_count == 0
    edits = [{"externalId": train, "input": judged.upper()}]
    await ask(client, EDIT, input={"leaderboardId": str(board.id), "rows": edits})
    await consolidate(client, board)
    leakage = await find_leaks(ctx, board.id)
    (leak,) = leakage.leaks
    assert (leak.train.id, leak.validation.id, leak.similarity) == (train, judged, 1.0)
    exported = await get(client, board, split="train")
    ids = {json.loads(line)["id"] for line in exported.content.splitlines()}
    assert (len(ids), train in ids) == (leakage.train_row_count - 1, False)
    assert (await find_leaks(ctx, board.id, 1)).leaking_row_count == 0


async def test_graphql_shows_what_leaks(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    pairs = near_texts(4)
    given = [{"input": text, "output": "1"} for pair in pairs for text in pair]
    board = await make_snapshot(client, process, tenant, given)
    lines = (await get(client, board)).content.splitlines()
    places = {json.loads(line)["input"]: place for place, line in enumerate(lines)}
    answer = await ask(client, LEAKAGE, id=str(board.id))
    snapshot = answer["data"]["leaderboard"]["dataset"]["latestSnapshot"]
    leakage = snapshot["leakage"]
    leaks = leakage.pop("leaks")
    assert leakage == {"trainRowCount": 4, "validationRowCount": 4, "leakingRowCount": 4}
    assert {(leak["trainRowId"], leak["validationRowId"]) for leak in leaks} == {
        tuple(f"{snapshot['id']}:{places[text]}" for text in pair) for pair in pairs
    }
    answer = await ask(client, LEAKAGE, id=str(board.id), first=1)
    leakage = answer["data"]["leaderboard"]["dataset"]["latestSnapshot"]["leakage"]
    assert (leakage["leaks"], leakage["leakingRowCount"]) == (leaks[:1], 4)
    answer = await ask(client, LEAKAGE, id=str(board.id), first=201)
    assert answer["errors"][0]["extensions"]["code"] == "invalid_input"


async def test_leaks_of_a_snapshot_without_files_are_not_known(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_snapshot(client, process, tenant, rows(3))
    async with process.database.write() as session:
        await session.execute(update(DatasetSnapshot).values(index_sha256=None, blocks=None))
    answer = await ask(client, LEAKAGE, id=str(board.id))
    assert answer["data"]["leaderboard"]["dataset"]["latestSnapshot"]["leakage"] is None


async def test_another_workspace_finds_no_file(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_snapshot(client, process, tenant, rows(3))
    other = await make_tenant(process)
    client.headers.update(other.headers)
    answer = await get(client, board, format="parquet")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
