"""What one server changes the others heed, and what can't be heard is not remembered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.server import create_app
from app.services import Process
from app.serving import listen, serving, url_of
from app.settings import Settings
from db.base import new_id
from db.models import ApiToken, Candidate, Integration, Leaderboard
from resolvers.candidates import remove_candidate
from resolvers.context import Context
from resolvers.inputs import LeaderboardChanges
from resolvers.leaderboards import delete_leaderboard, update_leaderboard
from resolvers.promotions import roll_back_production
from resolvers.tokens import revoke_api_token
from tests.conftest import NO_TLS
from tests.database_proxy import ANSWERS, DatabaseProxy, database_proxy
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run, make_token
from tests.model_peer import ModelPeer, model_peer

# A server that is not told would keep what it knows for ever.
HEEDED_SECONDS = 5
FEED = "gero changes"
READER = "gero reader"


@dataclass
class Replica:
    """A server of its own before the same database, as one token's holder calls it."""

    process: Process
    client: httpx2.AsyncClient
    statements: list[str]

    async def ask(self, board: Leaderboard) -> httpx2.Response:
        return await self.client.post(
            f"/v1/leaderboard/{board.id}/inference", json={"input": "hello"}
        )

    async def becomes_warm(self, board: Leaderboard) -> None:
        """Ask until a call reads nothing: what it needs is remembered."""
        async with asyncio.timeout(HEEDED_SECONDS):
            while True:
                self.statements.clear()
                answer = await self.ask(board)
                assert answer.status_code == 200, answer.text
                if not any("api_token" in sql or "leaderboard" in sql for sql in self.statements):
                    return
                await asyncio.sleep(0.02)

    async def heeds(self, board: Leaderboard, then: str) -> None:
        """Ask until a caller sees that."""
        async with asyncio.timeout(HEEDED_SECONDS):
            while seen(await self.ask(board)) != then:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def replica(settings: Settings, token: str) -> AsyncIterator[Replica]:
    process = Process(settings)
    statements: list[str] = []
    process.database.watchers.append(lambda sql, _seconds: statements.append(sql))
    listener = listen("127.0.0.1", 0)
    try:
        async with (
            serving(create_app(settings, process), listener),
            httpx2.AsyncClient(
                base_url=url_of(listener), headers={"Authorization": f"Bearer {token}"},
                timeout=30, verify=NO_TLS,
            ) as client,
        ):  # fmt: skip
            yield Replica(process, client, statements)
    finally:
        await process.aclose()


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(2) as made:
        yield made


@dataclass
class Scene:
    """A leaderboard whose first model serves, and the server at which it is changed."""

    process: Process
    tenant: Tenant
    board: Leaderboard
    candidates: list[Candidate]

    @property
    def ctx(self) -> Context:
        return self.process.system_context(self.tenant.workspace_id)

    async def execute(self, *statements: Any) -> None:
        async with self.process.database.write() as session:
            for statement in statements:
                await session.execute(statement)

    async def change(self, **fields: object) -> None:
        changes = LeaderboardChanges.model_validate(fields)
        await update_leaderboard(self.ctx, self.board.id, changes)

    async def pin(self, place: int) -> None:
        chosen = str(self.candidates[place].id)
        await self.change(model_selection="manual", selected_candidate_id=chosen)

    async def save_key(self, key: str) -> None:
        owner = f"integration/{self.tenant.workspace_id}/openrouter"
        values = {"secret_box": self.process.services.vault.seal(key, owner=owner)}
        given = {"workspace_id": self.tenant.workspace_id, "provider": "openrouter", **values}
        statement = insert(Integration).values(id=new_id(), **given)
        await self.execute(
            statement.on_conflict_do_update(
                index_elements=["workspace_id", "provider"], set_=values
            )
        )


@pytest.fixture
async def token(process: Process, tenant: Tenant) -> str:
    return await make_token(process, tenant.workspace_id, name="theirs")


@pytest.fixture
async def scene(process: Process, tenant: Tenant, peer: ModelPeer) -> Scene:
    board = await make_leaderboard(process, tenant.workspace_id, slug="sums")
    candidates = [
        await make_candidate(process, board, endpoint_url=peer.endpoint(name), display_name=name)
        for name in ("first", "second")
    ]
    await make_ranked_run(process, board, candidates)
    return Scene(process, tenant, board, candidates)


async def revoke(scene: Scene) -> None:
    async with scene.process.database.read() as session:
        named = select(ApiToken.public_id).where(ApiToken.name == "theirs")
        public_id = (await session.scalars(named)).one()
    await revoke_api_token(scene.ctx, public_id)


async def expire(scene: Scene) -> None:
    await scene.execute(update(ApiToken).values(expires_at=datetime.now(UTC)))


async def delete_token(scene: Scene) -> None:
    await scene.execute(delete(ApiToken).where(ApiToken.name == "theirs"))


async def narrow(scene: Scene) -> None:
    await scene.execute(update(ApiToken).values(scopes=["leaderboards:read"]))


async def empty_budget(scene: Scene) -> None:
    await scene.execute(
        update(Candidate).values(input_price_per_million_usd=1, output_price_per_million_usd=1),
        update(ApiToken).values(budget_limit_usd=0),
    )


async def pin_another(scene: Scene) -> None:
    await scene.pin(1)


async def roll_back(scene: Scene) -> None:
    """Have the second serve, and see to it that this is known, before it is undone."""
    await scene.pin(1)
    await roll_back_production(scene.ctx, scene.board.id, event_id=None)
    # What is put back is the first, which no change is seen of: so it answers otherwise now.
    await scene.execute(
        update(Candidate).where(Candidate.display_name == "first").values(display_name="again")
    )


async def remove_model(scene: Scene) -> None:
    await remove_candidate(scene.ctx, scene.board.id, scene.candidates[0].id)


async def break_first_model(scene: Scene) -> None:
    url = scene.candidates[0].endpoint_url or ""
    where = Candidate.id == scene.candidates[0].id
    await scene.execute(update(Candidate).where(where).values(endpoint_url=f"{url}/gone"))


async def let_second_stand_in(scene: Scene) -> None:
    await break_first_model(scene)
    await scene.change(serving={"fallback_models": 1})


async def change_prompt(scene: Scene) -> None:
    await scene.change(system_prompt="Say no: {input}")


async def delete_board(scene: Scene) -> None:
    await delete_leaderboard(scene.ctx, scene.board.id)


def seen(answer: httpx2.Response) -> str:
    """Return what a caller sees: who answered what, or that nobody did."""
    if answer.status_code != 200:
        return str(answer.status_code)
    return f"{answer.headers['X-Dr.Gero-Selected-Model']} {answer.json()['output']}"


@pytest.mark.parametrize(
    ("make", "then"),
    [
        (revoke, "401"),
        (expire, "401"),
        (delete_token, "401"),
        (narrow, "403"),
        (empty_budget, "402"),
        (pin_another, "second Solve: hello"),
        (roll_back, "again Solve: hello"),
        (remove_model, "second Solve: hello"),
        (break_first_model, "502"),
        (let_second_stand_in, "second Solve: hello"),
        (change_prompt, "first Say no: hello"),
        (delete_board, "404"),
    ],
)
async def test_a_change_at_one_server_is_heeded_by_the_other(
    settings: Settings, scene: Scene, token: str,
    make: Callable[[Scene], Awaitable[None]], then: str,
) -> None:  # fmt: skip
    async with replica(settings, token) as other:
        await other.becomes_warm(scene.board)
        assert seen(await other.ask(scene.board)) == "first Solve: hello"
        await make(scene)
        await other.heeds(scene.board, then)


@pytest.fixture
async def openrouter() -> AsyncIterator[str]:
    """Serve a model that answers with the key that it is called with."""

    async def tell_key(request: Request) -> Response:
        return JSONResponse({"output": request.headers["Authorization"]})

    listener = listen("127.0.0.1", 0)
    app = Starlette(routes=[Route("/chat/completions", tell_key, methods=["POST"])])
    async with serving(app, listener):
        yield url_of(listener)


async def test_a_new_key_at_a_provider_is_heeded_by_the_other(
    settings: Settings, scene: Scene, token: str, openrouter: str
) -> None:
    await scene.save_key("old")
    await scene.execute(
        update(Candidate).values(provider="openrouter", model_id="some/model", endpoint_url=None)
    )
    own = settings.model_copy(update={"openrouter_url": openrouter})
    async with replica(own, token) as other:
        await other.becomes_warm(scene.board)
        assert seen(await other.ask(scene.board)) == "some/model Bearer old"
        await scene.save_key("new")
        await other.heeds(scene.board, "some/model Bearer new")


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[DatabaseProxy]:
    async with database_proxy(database_url) as made:
        yield made


@pytest.mark.parametrize("how", ["frozen", "cut and kept away"])
async def test_a_server_that_hears_nothing_remembers_nothing(
    settings: Settings, scene: Scene, token: str, proxy: DatabaseProxy, how: str
) -> None:
    own = settings.model_copy(update={"database_url": proxy.url})
    async with replica(own, token) as other:
        await other.becomes_warm(scene.board)
        proxy.freeze(FEED)
        if how != "frozen":
            proxy.cut(FEED)
        await revoke(scene)
        await other.heeds(scene.board, "401")
        assert not other.process.changes.is_live()
        await scene.execute(update(ApiToken).values(revoked_at=None))
        # Each call asks the database, so that what is given back holds at once.
        assert seen(await other.ask(scene.board)) == "first Solve: hello"
        await scene.pin(1)
        assert seen(await other.ask(scene.board)) == "second Solve: hello"
        await scene.execute(update(ApiToken).values(revoked_at=datetime.now(UTC)))
        assert seen(await other.ask(scene.board)) == "401"
        proxy.thaw(FEED)
        await scene.execute(update(ApiToken).values(revoked_at=None))
        await other.becomes_warm(scene.board)
        await scene.pin(0)
        await other.heeds(scene.board, "first Solve: hello")


async def test_a_feed_that_is_cut_is_heard_again_and_nothing_of_before_is_kept(
    settings: Settings, scene: Scene, token: str, proxy: DatabaseProxy
) -> None:
    own = settings.model_copy(update={"database_url": proxy.url})
    async with replica(own, token) as other:
        for place, then in ((1, "second Solve: hello"), (0, "first Solve: hello")):
            await other.becomes_warm(scene.board)
            proxy.cut(FEED)
            await scene.pin(place)
            await other.heeds(scene.board, then)


async def test_what_was_read_before_the_feed_was_heard_again_is_not_remembered(
    settings: Settings, scene: Scene, token: str, proxy: DatabaseProxy
) -> None:
    own = settings.model_copy(update={"database_url": proxy.url})
    async with replica(own, token) as other:
        await other.becomes_warm(scene.board)
        feed = other.process.changes
        lost_at = feed.count + 1
        proxy.freeze(FEED)
        proxy.cut(FEED)
        async with asyncio.timeout(HEEDED_SECONDS):
            while feed.is_live() or feed.count < lost_at:
                await asyncio.sleep(0.01)
        proxy.freeze(f"{ANSWERS}{READER}")
        asking = asyncio.create_task(other.ask(scene.board))
        await asyncio.sleep(0.2)  # for the token to be read, of which the server hears later
        await revoke(scene)
        proxy.thaw(FEED)
        async with asyncio.timeout(HEEDED_SECONDS):
            while not feed.is_live():
                await asyncio.sleep(0.01)
        proxy.thaw(f"{ANSWERS}{READER}")
        assert seen(await asking) == "first Solve: hello"
        assert seen(await other.ask(scene.board)) == "401"
