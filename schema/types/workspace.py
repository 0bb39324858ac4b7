"""The Workspace and Viewer object types."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry

from db.models import Workspace as WorkspaceRow
from resolvers import workspaces
from resolvers.auth import Principal
from resolvers.inputs import Redaction as RedactionRules
from schema.context import Info
from schema.fields import resolved
from schema.types.redaction import Redaction
from schema.types.trace_stats import TraceStatsPoint, workspace_stats


def trace_retention_days(root: strawberry.Parent[WorkspaceRow], info: Info) -> int:
    """Return how long its traces are kept."""
    return workspaces.trace_retention_days(info.context.ctx, root)


def redaction(root: strawberry.Parent[WorkspaceRow]) -> RedactionRules:
    """Return what is never stored."""
    return RedactionRules.model_validate(root.redaction or {})


@strawberry.type(description="A tenant; it owns everything else.")
class Workspace:
    """Over rows of `db.models.Workspace`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    name: str = strawberry.field(description="Its name.")
    created_at: datetime = strawberry.field(description="When it was created.")
    trace_retention_days: int = resolved(
        trace_retention_days, "How long its traces are kept, in days."
    )
    trace_stats: list[TraceStatsPoint] = resolved(
        workspace_stats,
        "What its model calls come to, by the hour or the day; at most 2,000 points.",
    )
    redaction: Redaction = resolved(
        redaction, "What is taken out of traces before they are stored.", needs=["redaction"]
    )


async def workspace(info: Info) -> WorkspaceRow:
    """Return the caller's workspace."""
    return await workspaces.get_workspace(info.context.ctx)


def scopes(root: strawberry.Parent[Principal]) -> Sequence[str]:
    """Return what the caller may do."""
    return sorted(root.grants)


def user_id(root: strawberry.Parent[Principal]) -> UUID | None:
    """Return the session's user."""
    return root.user_id


def token_id(root: strawberry.Parent[Principal]) -> UUID | None:
    """Return the API token used."""
    return root.token_id


@strawberry.type(description="The caller, as the credential tells.")
class Viewer:
    """Over `resolvers.auth.Principal`."""

    workspace: Workspace = resolved(workspace, "The workspace whose rows are seen.")
    user_id: strawberry.ID | None = resolved(user_id, "The session's user, if it is a session.")
    token_id: strawberry.ID | None = resolved(token_id, "The API token used, if one was.")
    scopes: list[str] = resolved(scopes, "What the credential grants.")
