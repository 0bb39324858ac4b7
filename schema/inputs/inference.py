"""Inputs about inference and integrations."""

import strawberry
from strawberry.scalars import JSON

from schema.enums import IntegrationProvider


@strawberry.input(description="A request to the model in production.")
class InferInput:
    """`resolvers.inference_request.InferenceRequest`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Whose model.")
    input: str | None = strawberry.field(
        default=strawberry.UNSET, description="Rendered into the leaderboard's prompt."
    )
    messages: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="OpenAI chat messages, sent as they are instead."
    )
    params: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="Forwarded to the model, such as temperature."
    )


@strawberry.input(description="A provider key to save.")
class SaveIntegrationInput:
    """`resolvers.inputs.NewIntegration`."""

    provider: IntegrationProvider = strawberry.field(description="The provider.")
    token: str = strawberry.field(description="The key; stored encrypted, never shown.")
