"""The CandidateModel object type."""

from datetime import datetime
from decimal import Decimal

import strawberry
from strawberry.scalars import JSON

from db.records import Row
from resolvers import leaderboards
from schema.enums import AuthMethod, CandidateProvider
from schema.fields import referred, resolved
from schema.types.refs import LeaderboardRef


def has_auth_token(root: strawberry.Parent[Row]) -> bool:
    """Tell whether a credential is stored."""
    return root.auth_token_box is not None


@strawberry.type(description="A model that a leaderboard compares; its credential is never shown.")
class CandidateModel:
    """Over rows of `db.models.Candidate`."""

    id: strawberry.ID = strawberry.field(description="Its id; REST says leaderboard_model_id.")
    provider: CandidateProvider = strawberry.field(description="Who serves it.")
    model_id: str | None = strawberry.field(description="The provider's name for it.")
    display_name: str = strawberry.field(description="Its name for people.")
    endpoint_url: str | None = strawberry.field(
        description="Where it is called, unless OpenRouter serves it."
    )
    auth_method: AuthMethod | None = strawberry.field(description="How its credential is sent.")
    auth_header_name: str | None = strawberry.field(description="The header of CUSTOM_HEADER.")
    has_auth_token: bool = resolved(
        has_auth_token, "Whether a credential is stored for it.", needs=["auth_token_box"]
    )
    params: JSON = strawberry.field(description="Sent with every call, such as temperature.")
    input_price_per_million_usd: Decimal | None = strawberry.field(
        description="US dollars a million prompt tokens."
    )
    output_price_per_million_usd: Decimal | None = strawberry.field(
        description="US dollars a million completion tokens."
    )
    price_version: int = strawberry.field(
        description="Of its prices, from 1; traces and charges name the one that held."
    )
    timeout_seconds: float = strawberry.field(description="The longest a call may take.")
    first_byte_timeout_seconds: float | None = strawberry.field(
        description="The longest it may keep silent first; null for as long as the call."
    )
    created_at: datetime = strawberry.field(description="When it was added.")
    removed_at: datetime | None = strawberry.field(
        description="When it was taken off; rankings that it is in keep it."
    )
    leaderboard: LeaderboardRef | None = referred(
        leaderboards.find_leaderboards,
        "Leaderboard",
        "leaderboard_id",
        "Its leaderboard; null once that is deleted.",
    )
