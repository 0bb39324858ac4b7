"""Workspace use cases: the tenant, its people, and who is looking."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from db.models import Member, Workspace
from resolvers.auth import ADMIN, SYSTEM, Principal, requires, signed_in
from resolvers.context import Context
from resolvers.errors import InvalidInputError, NotFoundError
from resolvers.inputs import WorkspaceChanges


@signed_in
async def get_viewer(ctx: Context) -> Principal:
    """Return who is calling."""
    return ctx.principal


@signed_in
async def get_workspace(ctx: Context) -> Workspace:
    """Return the caller's workspace.

    Raises:
        NotFoundError: It was deleted.
    """
    async with ctx.database.read() as session:
        workspace = await session.get(Workspace, ctx.workspace_id)
    if workspace is None:
        raise NotFoundError(f"workspace {ctx.workspace_id} does not exist")
    return workspace


@signed_in
async def list_workspaces(ctx: Context) -> Sequence[Workspace]:
    """Return every workspace that the caller may choose, oldest first."""
    user_id = ctx.principal.user_id
    if user_id is None:
        return [await get_workspace(ctx)]
    async with ctx.database.read() as session:
        statement = (
            select(Workspace)
            .join(Member, Member.workspace_id == Workspace.id)
            .where(Member.user_id == user_id)
            .order_by(Member.created_at, Workspace.id)
        )
        return (await session.scalars(statement)).all()


def trace_retention_days(ctx: Context, workspace: Workspace) -> int:
    """Return for how many days *workspace*'s traces are kept."""
    most = ctx.services.limits.trace_retention_days
    return min(workspace.trace_retention_days or most, most)


@requires(ADMIN)
async def update_workspace(ctx: Context, changes: WorkspaceChanges) -> Workspace:
    """Change the caller's workspace.

    Raises:
        InvalidInputError: Traces can't be kept for so long.
        NotFoundError: It was deleted.
    """
    most = ctx.services.limits.trace_retention_days
    days = changes.trace_retention_days
    if days is not None and days > most:
        raise InvalidInputError(
            f"trace_retention_days: must be at most {most}, which the deployment keeps traces for "
            f"(got {days})"
        )
    async with ctx.database.write() as session:
        workspace = await session.get(Workspace, ctx.workspace_id, with_for_update=True)
        if workspace is None:
            raise NotFoundError(f"workspace {ctx.workspace_id} does not exist")
        for name in changes.model_fields_set:
            setattr(workspace, name, getattr(changes, name))
    return workspace


@requires(SYSTEM)
async def create_workspace(ctx: Context, *, id: UUID, name: str, owner_id: UUID) -> None:
    """Create a workspace with its owner; one that exists is left as it is."""
    async with ctx.database.write() as session:
        if await session.get(Workspace, id) is None:
            session.add(Workspace(id=id, name=name))
            await session.flush()
            session.add(Member(workspace_id=id, user_id=owner_id, role="owner"))
