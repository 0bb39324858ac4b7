"""Changing a candidate: its name, its time-outs, and its prices, of which every version is kept."""

from uuid import UUID

from db.models import Candidate, CandidatePrice
from db.session import WriteSession
from resolvers.auth import Scope, requires
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.inputs import CandidateChanges
from resolvers.leaderboards import fetch_leaderboard

PRICES = ("input_price_per_million_usd", "output_price_per_million_usd")


@requires(Scope.LEADERBOARDS_WRITE)
async def update_candidate(
    ctx: Context, leaderboard_id: UUID, candidate_id: UUID, changes: CandidateChanges
) -> Candidate:
    """Change what *changes* names; calls from now on are charged by the new prices.

    Raises:
        NotFoundError: The leaderboard has no such candidate.
    """
    given = changes.model_dump(include=set(changes.model_fields_set))
    async with ctx.database.write() as session:
        await fetch_leaderboard(session, ctx.workspace_id, leaderboard_id, for_update=True)
        row = await session.get(Candidate, candidate_id)
        if row is None or row.leaderboard_id != leaderboard_id or row.removed_at is not None:
            raise NotFoundError(f"model {candidate_id} is not on leaderboard {leaderboard_id}")
        before = [getattr(row, name) for name in PRICES]
        for name, value in given.items():
            setattr(row, name, value)
        if [getattr(row, name) for name in PRICES] != before:
            row.price_version += 1
            note_prices(session, row)
    return row


def note_prices(session: WriteSession, candidate: Candidate) -> None:
    """Keep a candidate's prices as they are, under their version."""
    session.add(
        CandidatePrice(
            candidate_id=candidate.id,
            version=candidate.price_version,
            input_price_per_million_usd=candidate.input_price_per_million_usd,
            output_price_per_million_usd=candidate.output_price_per_million_usd,
        )
    )
