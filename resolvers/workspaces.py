"""Workspace use cases: the tenant, its people, and who is looking."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from db.models import Member, Workspace
from resolvers.auth import SYSTEM, Principal, requires, signed_in
from resolvers.context import Context
from resolvers.errors import NotFoundError


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


@requires(SYSTEM)
async def create_workspace(ctx: Context, *, id: UUID, name: str, owner_id: UUID) -> None:
    """Create a workspace with its owner; one that exists is left as it is."""
    async with ctx.database.write() as session:
        if await session.get(Workspace, id) is None:
            session.add(Workspace(id=id, name=name))
            await session.flush()
            session.add(Member(workspace_id=id, user_id=owner_id, role="owner"))
