"""Inputs about workspaces."""

import strawberry


@strawberry.input(description="What to change of the caller's workspace; what is left out stays.")
class UpdateWorkspaceInput:
    """`resolvers.inputs.WorkspaceChanges`."""

    trace_retention_days: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="How long traces are kept, in days, from 1 to as many as the deployment keeps "
        "them; null for those. Older ones are gone from sight at once.",
    )
