"""Prices change in versions, and every version is kept."""

from decimal import Decimal

import httpx2
from sqlalchemy import select

from app.services import Process
from db.models import CandidatePrice
from tests.conftest import ask
from tests.factories import Tenant, make_leaderboard

ADD = """
mutation ($input: AddCandidateInput!) {
  addCandidate(input: $input) { candidate { id priceVersion } }
}
"""
UPDATE = """
mutation ($input: UpdateCandidateInput!) {
  updateCandidate(input: $input) {
    candidate { priceVersion inputPricePerMillionUsd displayName firstByteTimeoutSeconds }
  }
}
"""


async def test_new_prices_are_a_new_version_and_the_old_one_is_kept(
    client: httpx2.AsyncClient, process: Process, tenant: Tenant, sandbox_url: str
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id)
    new = {
        "leaderboardId": str(board.id), "provider": "CUSTOM",
        "endpointUrl": f"{sandbox_url}/endpoints/balanced-medium", "params": {"max_tokens": 5},
        "inputPricePerMillionUsd": "1", "outputPricePerMillionUsd": "2",
    }  # fmt: skip
    added = (await ask(client, ADD, input=new))["data"]["addCandidate"]["candidate"]
    assert added["priceVersion"] == 1
    async with process.database.read() as session:
        prices = list(await session.scalars(select(CandidatePrice)))
    assert [(each.version, each.input_price_per_million_usd) for each in prices] == [
        (1, Decimal(1))
    ]
    changes = {"leaderboardId": str(board.id), "candidateId": added["id"]}
    renamed = await ask(
        client, UPDATE, input={**changes, "displayName": "Me", "firstByteTimeoutSeconds": 2.5}
    )
    assert renamed["data"]["updateCandidate"]["candidate"] == {
        "priceVersion": 1, "inputPricePerMillionUsd": "1", "displayName": "Me",
        "firstByteTimeoutSeconds": 2.5,
    }  # fmt: skip
    dearer = await ask(client, UPDATE, input={**changes, "inputPricePerMillionUsd": "3"})
    assert dearer["data"]["updateCandidate"]["candidate"]["priceVersion"] == 2
    async with process.database.read() as session:
        prices = list(
            await session.scalars(select(CandidatePrice).order_by(CandidatePrice.version))
        )
    assert [each.input_price_per_million_usd for each in prices] == [Decimal(1), Decimal(3)]
    wrong = await ask(client, UPDATE, input={**changes, "timeoutSeconds": 0})
    assert wrong["errors"][0]["extensions"]["code"] == "invalid_input"
    missing = await ask(client, UPDATE, input={**changes, "candidateId": str(board.id)})
    assert missing["errors"][0]["extensions"]["code"] == "not_found"
