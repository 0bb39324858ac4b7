"""Consolidating pushed rows over REST, and downloading what came of it."""

import asyncio
import gzip
import hashlib
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from datasets import load_dataset
from sqlalchemy import func, select, update

from app.services import Process
from app.settings import Settings
from db.models import Dataset, DatasetSnapshot, Leaderboard
from resolvers.consolidation import consolidate_dataset
from resolvers.snapshot_files import dropped_key, lines_key
from resolvers.snapshot_garbage import delete_orphaned_objects
from tests.factories import Tenant
from tests.rest_compat.test_push import make_push_board, push, rows


async def consolidate(client: httpx2.AsyncClient, board: Leaderboard) -> Any:
    answer = await client.post(f"/v1/leaderboard/{board.id}/dataset/consolidate")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def download(client: httpx2.AsyncClient, board: Leaderboard, **options: Any) -> Any:
    headers = {"Accept-Encoding": "identity", **options.pop("headers", {})}
    return await client.get(f"/v1/leaderboard/{board.id}/dataset", headers=headers, **options)


async def test_pending_rows_become_a_numbered_snapshot_known_by_its_bytes(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    assert (await consolidate(client, board)) == {"status": "nothing_pending", "snapshot": None}
    assert (await download(client, board)).status_code == 409
    await push(client, board, rows(3))
    made = await consolidate(client, board)
    snapshot = made["snapshot"]
    assert (made["status"], snapshot["number"], snapshot["row_count"]) == ("consolidated", 1, 3)
    assert (snapshot["parent_id"], snapshot["dropped"]) == (None, {})
    got = await download(client, board)
    assert got.headers["etag"] == f'"{snapshot["content_sha256"]}"'
    assert got.headers["content-type"] == "application/x-ndjson"
    assert hashlib.sha256(got.content).hexdigest() == snapshot["content_sha256"]
    assert len(got.content) == snapshot["size_bytes"]
    found = sorted((orjson.loads(line) for line in got.content.splitlines()), key=str)
    assert found == [{"expected": "yes", "input": f"question {n}"} for n in range(3)]
    again = await consolidate(client, board)
    assert (again["status"], again["snapshot"]["id"]) == ("nothing_pending", snapshot["id"])
    await push(client, board, rows(1, start=3))
    second = (await consolidate(client, board))["snapshot"]
    assert (second["number"], second["row_count"]) == (2, 4)
    assert second["parent_id"] == snapshot["id"]
    first = await download(client, board, params={"snapshot": 1})
    assert first.content == got.content
    status = (await client.get(f"/v1/leaderboard/{board.id}/dataset/status")).json()
    assert (status["pending_events"], status["snapshot"]["number"]) == (0, 2)


async def test_the_bytes_do_not_depend_on_the_order_of_arrival(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    given = [*rows(40), *({"id": str(n), "input": f"named {n}"} for n in range(40))]
    hashes = set()
    for order in (given, given[::-1]):
        board = await make_push_board(
            process, tenant, auto_limit_size=True, max_samples_to_gather=50
        )
        for start in range(0, len(order), 16):
            await push(client, board, order[start : start + 16])
            if start % 3 == 0:
                await consolidate(client, board)
        made = (await consolidate(client, board))["snapshot"]
        assert (made["row_count"], made["dropped"]) == (50, {"over_limit": 30})
        hashes.add(made["content_sha256"])
    assert len(hashes) == 1


async def test_many_who_consolidate_at_once_get_one_snapshot(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings
) -> None:
    board = await make_push_board(process, tenant)
    await push(client, board, rows(200))
    other = Process(settings)
    ctx = other.system_context(tenant.workspace_id)
    made = await asyncio.gather(
        *(consolidate(client, board) for _ in range(20)),
        *(consolidate_dataset(ctx, board.id) for _ in range(20)),
    )
    await other.aclose()
    ids = {each["snapshot"]["id"] for each in made[:20]}
    ids |= {str(each.snapshot.id) for each in made[20:] if each.snapshot}
    assert len(ids) == 1
    async with process.database.read() as session:
        assert await session.scalar(select(func.count()).select_from(DatasetSnapshot)) == 1


async def test_few_rows_are_held_at_once_however_long_they_are(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    for start in range(0, 500, 20):
        long = [{"input": f"{start + each} {'x' * 200_000}"} for each in range(20)]
        await push(client, board, long)
    tracemalloc.start()
    made = (await consolidate(client, board))["snapshot"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made["row_count"] == 500
    assert peak < made["size_bytes"]  # of each row there are a line, and its input twice


async def test_near_duplicates_are_left_out_and_named(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings
) -> None:
    board = await make_push_board(process, tenant, near_duplicate_threshold=0.7)
    text = " ".join(f"word{n}" for n in range(60))
    given = [
        {"id": "a", "input": text, "output": "1"},
        {"id": "b", "input": f"{text} more", "output": "2"},
        {"id": "c", "input": "something else entirely", "output": "3"},
    ]
    await push(client, board, given)
    made = (await consolidate(client, board))["snapshot"]
    assert (made["row_count"], made["dropped"]) == (2, {"near_duplicate": 1})
    path = Path(settings.object_store) / dropped_key(board.id, made["id"])
    (named,) = map(orjson.loads, path.read_bytes().splitlines())
    assert {named["id"], named["reason"]} <= {"a", "b", "near_duplicate"}
    assert 0.9 < named["similarity"] < 1


async def test_a_dataset_is_consolidated_when_enough_rows_are_pending(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, worker: None
) -> None:
    board = await make_push_board(process, tenant, consolidate_every_events=10)
    assert not (await push(client, board, rows(9))).json()["consolidation"]["should_consolidate"]
    body = (await push(client, board, rows(3, start=9))).json()
    assert body["consolidation"]["should_consolidate"]
    async with asyncio.timeout(20):
        while (await download(client, board)).status_code != 200:
            await asyncio.sleep(0.05)
    assert len((await download(client, board)).content.splitlines()) == 12


@pytest.mark.parametrize("setting_overrides", [{"cron_secret": "operators alone"}])
async def test_operators_consolidate_what_is_due_by_hours_and_are_told_the_rest(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    due = await make_push_board(process, tenant, consolidate_every_hours=2)
    fresh = await make_push_board(process, tenant, consolidate_every_hours=3)
    for board in (due, fresh):
        await push(client, board, rows(2))
    async with process.database.write() as session:
        hours_ago = func.now() - func.make_interval(0, 0, 0, 0, 2)
        await session.execute(update(Dataset).values(created_at=hours_ago))
    path = "/api/push-datasets/consolidate-due"
    assert (await anonymous.post(path)).status_code == 401
    assert (await client.post(path)).status_code == 401
    answer = await anonymous.post(path, headers={"X-Cron-Secret": "operators alone"})
    assert answer.status_code == 200
    (made,) = answer.json()["consolidated"]
    assert (made["leaderboard_id"], made["row_count"]) == (str(due.id), 2)
    assert answer.json()["skipped"] == [{"leaderboard_id": str(fresh.id), "reason": "not due"}]
    again = await anonymous.post(path, headers={"Authorization": "Bearer operators alone"})
    assert again.json()["consolidated"] == []


async def test_a_download_is_answered_in_parts_compressed_or_not_at_all(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant
) -> None:
    board = await make_push_board(process, tenant)
    await push(client, board, rows(600))
    made = (await consolidate(client, board))["snapshot"]
    tag, size = made["content_sha256"], made["size_bytes"]
    whole = (await download(client, board)).content
    for tags in (f'"{tag}"', f'W/"{tag}"', f'"other", "{tag}"', "*"):
        known = await download(client, board, headers={"If-None-Match": tags})
        assert (known.status_code, known.content) == (304, b"")
    assert (await download(client, board, headers={"If-None-Match": '"x"'})).status_code == 200
    for asked, part in (
        ("bytes=0-0", whole[:1]),
        ("bytes=10000-20000", whole[10_000:20_001]),
        (f"bytes={size - 5}-", whole[-5:]),
        ("bytes=-7", whole[-7:]),
        (f"bytes=5-{size * 2}", whole[5:]),
    ):
        got = await download(client, board, headers={"Range": asked})
        assert (got.status_code, got.content) == (206, part), asked
        assert got.headers["content-range"].endswith(f"/{size}")
    beyond = await download(client, board, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    for huge in (f"bytes=0-{'9' * 5000}", f"bytes={'9' * 20}-", f"bytes=-{'9' * 5000}"):
        got = await download(client, board, headers={"Range": huge})
        assert (got.status_code, got.content) == (200, whole)
    changed = {"Range": "bytes=0-0", "If-Range": '"another"'}
    assert (await download(client, board, headers=changed)).status_code == 200
    async with client.stream(
        "GET", f"/v1/leaderboard/{board.id}/dataset", headers={"Accept-Encoding": "gzip"}
    ) as got:
        raw = b"".join([chunk async for chunk in got.aiter_raw()])
    assert got.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == whole
    for refusing in ("gzip;q=0", "br, GZIP; q=0.000", "identity"):
        plain = await download(client, board, headers={"Accept-Encoding": refusing})
        assert ("content-encoding" in plain.headers, plain.content) == (False, whole)


async def test_hugging_face_datasets_reads_the_download(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, tmp_path: Path
) -> None:
    board = await make_push_board(process, tenant)
    await push(client, board, [{**row, "tags": ["x"], "metadata": {"n": 1}} for row in rows(300)])
    await consolidate(client, board)
    path = tmp_path / "rows.jsonl"
    path.write_bytes((await download(client, board)).content)
    loaded = load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.num_rows == 300
    assert sorted(loaded.column_names) == ["expected", "input", "metadata", "tags"]
    assert set(loaded["input"]) == {row["input"] for row in rows(300)}


@pytest.mark.parametrize("change", ["a byte", "the end", "everything"])
async def test_a_changed_byte_is_an_error_and_never_a_result(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings, change: str
) -> None:
    board = await make_push_board(process, tenant)
    await push(client, board, rows(200))
    made = (await consolidate(client, board))["snapshot"]
    path = Path(settings.object_store) / lines_key(board.id, made["content_sha256"])
    stored = bytearray(path.read_bytes())
    if change == "everything":
        path.unlink()
    else:
        stored[20] ^= 1
        path.write_bytes(stored if change == "a byte" else stored[:-1])
    answer = await download(client, board)
    assert (answer.status_code, answer.json()["code"]) == (500, "corrupt_snapshot")
    part = await download(client, board, headers={"Range": "bytes=100-200"})
    assert (part.status_code, part.json()["code"]) == (500, "corrupt_snapshot")


async def test_a_byte_that_was_changed_far_behind_breaks_the_download_off(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings
) -> None:
    board = await make_push_board(process, tenant)
    for start in range(0, 9_000, 1_000):  # more than is read at once
        await push(client, board, rows(1_000, start=start))
    made = (await consolidate(client, board))["snapshot"]
    path = Path(settings.object_store) / lines_key(board.id, made["content_sha256"])
    stored = bytearray(path.read_bytes())
    stored[-20] ^= 1
    path.write_bytes(stored)
    with pytest.raises(httpx2.RemoteProtocolError):
        await download(client, board)
    intact = await download(client, board, headers={"Range": "bytes=0-99"})
    assert intact.content == bytes(stored[:100])


async def test_files_that_no_snapshot_refers_to_are_deleted_when_they_are_old(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, settings: Settings
) -> None:
    board = await make_push_board(process, tenant)
    await push(client, board, rows(3))
    made = (await consolidate(client, board))["snapshot"]
    folder = (Path(settings.object_store) / lines_key(board.id, "x")).parent
    orphans = [folder / f"{'0' * 64}.jsonl", folder / f"{board.id}.index"]
    fresh = folder / f"{'1' * 64}.jsonl"
    for path in (*orphans, fresh):
        path.write_bytes(b"left by a crash")
    long_ago = time.time() - 2 * 86_400
    for path in folder.iterdir():
        if path != fresh:
            os.utime(path, (long_ago, long_ago))
    assert await delete_orphaned_objects(process.system_context()) == 2
    assert [path.exists() for path in (*orphans, fresh)] == [False, False, True]
    assert (await download(client, board)).headers["etag"] == f'"{made["content_sha256"]}"'
