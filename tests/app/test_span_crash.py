"""Spans and traces that were acknowledged survive the end of the API and of PostgreSQL."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx2
import pytest

from app.services import Process
from app.settings import Settings
from db.models import Leaderboard
from tests import durable_server
from tests.app import test_push_crash
from tests.app.test_push_crash import (
    KILLS,
    LATEST_KILL_SECONDS,
    SEED,
    Api,
    serving_api,
)
from tests.durable_server import DurableServer
from tests.engine.otlp_requests import as_json
from tests.factories import Tenant, make_leaderboard
from tests.rest_compat.test_spans import JSON, PATH, PROTOBUF, encoded, make_spans

CLIENTS = 6
MOST_SPANS = 30
MOST_REQUESTS_BEFORE_A_KILL = 40

pytestmark = pytest.mark.timeout(120 + 10 * KILLS)
durable = durable_server.durable
database_url = durable_server.database_url
object_dir = test_push_crash.object_dir
setting_overrides = test_push_crash.setting_overrides


@dataclass
class Story:
    """Requests as they were sent, with the names of their calls, and what came of them."""

    acknowledged: list[set[str]] = field(default_factory=list)
    unanswered: list[tuple[dict[str, Any], set[str]]] = field(default_factory=list)


def draw_request(
    rng: random.Random, board: Leaderboard, number: int
) -> tuple[dict[str, Any], set[str]]:
    """Return a request, by one of the ways there are, and the names of its calls."""
    if number % 3 == 2:
        names = {str(uuid.uuid4()) for _ in range(rng.randint(1, MOST_SPANS))}
        traces = [{"output": "x", "metadata": {"name": name}} for name in names]
        return {
            "url": f"/v1/leaderboard/{board.id}/traces",
            "json": {"traces": traces},
            "headers": {"Idempotency-Key": str(uuid.uuid4())},
        }, names
    spans = make_spans(rng.randint(1, MOST_SPANS))
    names = {f"{span.context.span_id:016x}" for span in spans}
    content = encoded(spans)
    if number % 3:
        return {"url": PATH, "content": as_json(content), "headers": JSON}, names
    return {"url": PATH, "content": content, "headers": PROTOBUF}, names


async def keep_sending(
    client: httpx2.AsyncClient, board: Leaderboard, story: Story, rng: random.Random, number: int
) -> None:
    """Send until one request isn't acknowledged."""
    while True:
        request, names = draw_request(rng, board, number)
        try:
            answer = await client.post(**request)
        except httpx2.HTTPError:
            break
        if answer.status_code not in {200, 201}:
            assert answer.status_code == 503, answer.text
            break
        story.acknowledged.append(names)
    story.unanswered.append((request, names))


async def kill_both(api: Api, server: DurableServer, story: Story, rng: random.Random) -> None:
    """Wait for a moment, and kill the API and PostgreSQL then, either of them first."""
    count = len(story.acknowledged) + rng.randint(0, MOST_REQUESTS_BEFORE_A_KILL)
    kills = [api.process.kill, server.kill]
    rng.shuffle(kills)
    while len(story.acknowledged) < count:
        await asyncio.sleep(0.001)
    await asyncio.sleep(rng.uniform(0, LATEST_KILL_SECONDS))
    for kill in kills:
        kill()
    api.process.wait()


async def repeat_unanswered(client: httpx2.AsyncClient, story: Story) -> None:
    repeated, story.unanswered = story.unanswered, []
    for request, names in repeated:
        answer = await client.post(**request)
        assert answer.status_code in {200, 201}, answer.text
        story.acknowledged.append(names)


async def stored_names(dsn: str) -> list[str]:
    """Return the names of the traces that are stored; each has its text, and is counted."""
    connection = await asyncpg.connect(dsn.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch(
            "SELECT coalesce(metadata->>'otel.span_id', metadata->>'name') AS name "
            "FROM trace JOIN trace_text USING (id)"
        )
        counted = await connection.fetchval("SELECT coalesce(sum(trace_count), 0) FROM trace_hour")
        assert counted == len(rows) == await connection.fetchval("SELECT count(*) FROM trace")
    finally:
        await connection.close()
    return [row["name"] for row in rows]


async def test_acknowledged_calls_survive_and_are_there_once_however_often_they_are_sent(
    durable: DurableServer, settings: Settings, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    rng = random.Random(SEED)
    story = Story()
    for _ in range(KILLS):
        async with serving_api(settings, tenant) as api:
            await repeat_unanswered(api.client, story)
            clients = [
                asyncio.create_task(keep_sending(api.client, board, story, rng, number))
                for number in range(CLIENTS)
            ]
            await kill_both(api, durable, story, rng)
            await asyncio.gather(*clients)
        await durable.start_again()
        assert set.union(*story.acknowledged) <= set(await stored_names(settings.database_url))
    async with serving_api(settings, tenant) as api:
        await repeat_unanswered(api.client, story)
    names = await stored_names(settings.database_url)
    assert len(names) == len(set(names))
    assert set(names) == set.union(*story.acknowledged)
