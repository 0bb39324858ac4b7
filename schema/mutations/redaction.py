"""Mutations about what a workspace never stores."""

from dataclasses import dataclass
from typing import Annotated

import strawberry

from db.models import Workspace as WorkspaceRow
from resolvers import redaction
from schema.context import Info
from schema.inputs.fields import given_fields
from schema.inputs.redaction import UpdateRedactionInput
from schema.types.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ChangedRedaction:
    """The source of the payload."""

    workspace: WorkspaceRow


@strawberry.type(description="What changing the redaction changed.")
class UpdateRedactionPayload:
    """Over `ChangedRedaction`."""

    workspace: Workspace = strawberry.field(description="The workspace, as it is now.")


async def update_redaction(
    info: Info,
    input: Annotated[UpdateRedactionInput, strawberry.argument(description="What to change.")],
) -> ChangedRedaction:
    """Change what is never stored."""
    workspace = await redaction.update_redaction(info.context.ctx, given_fields(input))
    return ChangedRedaction(workspace)
