"""Inputs about candidates."""

from decimal import Decimal

import strawberry
from strawberry.scalars import JSON

from schema.enums import AuthMethod, CandidateProvider


@strawberry.input(description="A candidate model to add.")
class AddCandidateInput:
    """`resolvers.inputs.NewCandidate`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Where to.")
    provider: CandidateProvider = strawberry.field(description="Who serves it.")
    model_id: str | None = strawberry.field(
        default=strawberry.UNSET, description="OpenRouter's name for it, such as openai/gpt-5.2."
    )
    display_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="Its name for people."
    )
    endpoint_url: str | None = strawberry.field(
        default=strawberry.UNSET, description="Where a custom or Hugging Face endpoint is called."
    )
    auth_method: AuthMethod | None = strawberry.field(
        default=strawberry.UNSET, description="How the credential is sent."
    )
    auth_header_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="The header of CUSTOM_HEADER."
    )
    auth_token: str | None = strawberry.field(
        default=strawberry.UNSET, description="The credential; stored encrypted, never shown."
    )
    params: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="Sent with every call, such as temperature."
    )
    input_price_per_million_usd: Decimal | None = strawberry.field(
        default=strawberry.UNSET, description="US dollars a million prompt tokens."
    )
    output_price_per_million_usd: Decimal | None = strawberry.field(
        default=strawberry.UNSET, description="US dollars a million completion tokens."
    )
    timeout_seconds: float = strawberry.field(
        default=60.0, description="The longest a call may take."
    )
    first_byte_timeout_seconds: float | None = strawberry.field(
        default=strawberry.UNSET, description="The longest it may keep silent first."
    )


@strawberry.input(description="What to change of a candidate; what is left out stays.")
class UpdateCandidateInput:
    """`resolvers.inputs.CandidateChanges`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Its leaderboard.")
    candidate_id: strawberry.ID = strawberry.field(description="The candidate.")
    display_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="Its name for people."
    )
    input_price_per_million_usd: Decimal | None = strawberry.field(
        default=strawberry.UNSET, description="US dollars a million prompt tokens; null if unknown."
    )
    output_price_per_million_usd: Decimal | None = strawberry.field(
        default=strawberry.UNSET,
        description="US dollars a million completion tokens; null if unknown.",
    )
    timeout_seconds: float | None = strawberry.field(
        default=strawberry.UNSET, description="The longest a call may take."
    )
    first_byte_timeout_seconds: float | None = strawberry.field(
        default=strawberry.UNSET, description="The longest it may keep silent first; null for any."
    )


@strawberry.input(description="A candidate to take off its leaderboard.")
class RemoveCandidateInput:
    """Names it."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Its leaderboard.")
    candidate_id: strawberry.ID = strawberry.field(description="The candidate.")
