"""Mutations about the workspace."""

from typing import Annotated

import strawberry

from resolvers import workspaces
from resolvers.inputs import WorkspaceChanges
from schema.context import Info
from schema.inputs.fields import given_fields
from schema.inputs.workspace import UpdateWorkspaceInput
from schema.mutations.changed import Changed
from schema.types.workspace import Workspace


@strawberry.type(description="What changing a workspace changed.")
class WorkspacePayload:
    """Over `Changed`."""

    workspace: Workspace = strawberry.field(description="The workspace, as it is now.")


async def update_workspace(
    info: Info,
    input: Annotated[UpdateWorkspaceInput, strawberry.argument(description="What to change.")],
) -> Changed:
    """Change the caller's workspace."""
    changes = WorkspaceChanges.model_validate(given_fields(input))
    return Changed(workspace=await workspaces.update_workspace(info.context.ctx, changes))
