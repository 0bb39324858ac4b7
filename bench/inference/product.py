"""The product: a leaderboard whose model in production is the benchmark's, and its own accounts.

What the check of the accounts reads is said here, and nowhere else in the benchmark.
"""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import asyncpg

from app.services import Process
from app.settings import load_settings
from bench.inference.bare import PRICE_IN_USD, PRICE_OUT_USD
from bench.inference.native import Load, LoadError, chat_request
from db.migrations.runner import migrate
from tests.conftest import SECRET_KEY
from tests.factories import make_candidate, make_leaderboard, make_ranked_run, make_tenant
from tests.factories import make_token as make_token_of

MILLION = 1_000_000
HELD_AHEAD_POLLS = 50
BUDGET_USD = Decimal(1_000_000)
# The calls that were answered, what they cost, and what the token was charged and is held.
PRODUCT_ACCOUNTS = """
SELECT (SELECT count(*) FROM trace WHERE source = 'inference' AND status = 'ok') AS stored,
       (SELECT count(*) FROM trace WHERE source = 'inference' AND status <> 'ok') AS failed,
       (SELECT coalesce(sum(cost_usd), 0) FROM trace WHERE source = 'inference') AS cost_usd,
       (SELECT sum(budget_used_usd) FROM api_token) AS used_usd,
       (SELECT sum(budget_held_usd) FROM api_token) AS held_usd
"""
BARE_ACCOUNTS = """
SELECT (SELECT count(*) FROM bare_trace) AS stored,
       0 AS failed,
       (SELECT coalesce(sum(cost_usd), 0) FROM bare_trace) AS cost_usd,
       (SELECT used_usd FROM bare_budget) AS used_usd,
       0 AS held_usd
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A filled database.

    Attributes:
        dsn: As asyncpg writes it.
        boards: The leaderboard for each delay of the model, in milliseconds.
        token: May ask for inferences, and has a budget.
    """

    dsn: str
    boards: dict[int, UUID]
    token: str

    def request(self, load: Load) -> bytes:
        """Return the bytes of an inference; of the OpenAI route, for a stream."""
        board = self.boards[load.delay_ms]
        headers = [f"Authorization: Bearer {self.token}"]
        if load.stream:
            return chat_request(load, model=f"leaderboard/{board}", headers=headers)
        return chat_request(load, path=f"/v1/leaderboard/{board}/inference", headers=headers)

    def variables(self, folder: Path) -> dict[str, str]:
        """Return the settings of `gero serve`."""
        return {
            "GERO_DATABASE_URL": self.dsn,
            "GERO_SECRET_KEY": SECRET_KEY,
            "GERO_OBJECT_STORE_URL": str(folder / "objects"),
            "GERO_ALLOW_PRIVATE_ENDPOINTS": "true",
        }


async def make_scene(database_url: str, folder: Path, model_url: str) -> Scene:
    """Migrate an empty database, and put a model into production for each delay."""
    settings = load_settings(
        database_url=database_url, secret_key=SECRET_KEY, object_store_url=str(folder / "objects")
    )
    process = Process(settings)
    try:
        await migrate(process.database.engine)
        tenant = await make_tenant(process)
        boards = {}
        for delay_ms in (0, 50):
            board = await make_leaderboard(process, tenant.workspace_id)
            candidate = await make_candidate(
                process,
                board,
                endpoint_url=model_url,
                model_id=f"delay-{delay_ms}",
                input_price_per_million_usd=PRICE_IN_USD * MILLION,
                output_price_per_million_usd=PRICE_OUT_USD * MILLION,
            )
            await make_ranked_run(process, board, [candidate])
            boards[delay_ms] = board.id
        token = await make_token_of(
            process,
            tenant.workspace_id,
            scopes=["leaderboards:inference"],
            budget_limit_usd=BUDGET_USD,
        )
    finally:
        await process.aclose()
    return Scene(settings.dsn, boards, token)


async def check_accounts(scene: Scene, answered: dict[str, int]) -> None:
    """Check that each answer was stored once and charged once.

    Args:
        scene: Where it was stored.
        answered: How often `product` and `bare` answered with 200.

    Raises:
        LoadError: The accounts do not agree with what was answered.
    """
    connection = await asyncpg.connect(scene.dsn)
    try:
        for name, statement in (("product", PRODUCT_ACCOUNTS), ("bare", BARE_ACCOUNTS)):
            if name not in answered:
                continue
            found = await connection.fetchrow(statement)
            for _ in range(HELD_AHEAD_POLLS):  # a busy token's money is held ahead for a moment
                if not found["held_usd"]:
                    break
                await asyncio.sleep(0.1)
                found = await connection.fetchrow(statement)
            is_right = (
                found["stored"] == answered[name]
                and found["failed"] == 0
                and found["cost_usd"] == found["used_usd"] > 0
                and found["held_usd"] == 0
            )
            if not is_right:
                raise LoadError(f"{name} answered {answered[name]} times, and has {dict(found)}")
    finally:
        await connection.close()
