"""Integration use cases: the workspace's own keys at providers."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from db.base import new_id
from db.models import Integration
from providers.base import ProviderError
from resolvers.auth import ADMIN, requires
from resolvers.context import Context
from resolvers.errors import IntegrationMissingError, InvalidInputError, UpstreamError
from resolvers.inputs import NewIntegration


def _owner(workspace_id: UUID, provider: str) -> str:
    return f"integration/{workspace_id}/{provider}"


async def find_integration_key(ctx: Context, provider: str) -> str | None:
    """Return the workspace's key at *provider*, or None when it has saved none."""
    async with ctx.database.read() as session:
        box = await session.scalar(
            select(Integration.secret_box).where(
                Integration.workspace_id == ctx.workspace_id, Integration.provider == provider
            )
        )
    if box is None:
        return None
    return ctx.services.vault.open(box, owner=_owner(ctx.workspace_id, provider))


async def get_integration_key(ctx: Context, provider: str) -> str:
    """Return the workspace's key at *provider*.

    Raises:
        IntegrationMissingError: It has saved none.
    """
    key = await find_integration_key(ctx, provider)
    if key is None:
        raise IntegrationMissingError(
            f"this needs a key at {provider}: save one with the saveIntegration mutation",
            details={"provider": provider},
        )
    return key


@requires(ADMIN)
async def save_integration(ctx: Context, new: NewIntegration) -> Integration:
    """Check a provider key and save it, in place of the one there was.

    Raises:
        InvalidInputError: The provider refuses the key.
        UpstreamError: The provider can't be asked.
    """
    key = new.token.get_secret_value()
    services = ctx.services
    asked = services.catalogue if new.provider == "openrouter" else services.hub
    try:
        problem = await asked.find_key_problem(key)
    except ProviderError as error:
        raise UpstreamError(
            f"{new.provider} can't be asked: {error}", details={"provider": new.provider}
        ) from error
    if problem is not None:
        raise InvalidInputError(f"token: {problem}")
    now = datetime.now(UTC)
    box = services.vault.seal(key, owner=_owner(ctx.workspace_id, new.provider))
    async with ctx.database.write() as session:
        statement = (
            insert(Integration)
            .values(
                id=new_id(),
                workspace_id=ctx.workspace_id,
                provider=new.provider,
                secret_box=box,
                created_at=now,
                updated_at=now,
            )
            .on_conflict_do_update(
                index_elements=["workspace_id", "provider"],
                set_={"secret_box": box, "updated_at": now},
            )
            .returning(Integration)
        )
        return (await session.scalars(statement)).one()
