"""Redaction use cases: what a workspace never stores, and trying that out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from db.models import Workspace
from engine.redaction import compile_redactor
from resolvers.auth import ADMIN, requires, signed_in
from resolvers.context import Context
from resolvers.errors import InvalidInputError, NotFoundError
from resolvers.inputs import Redaction
from resolvers.redactors import redact_text

MAX_PREVIEW_CHARACTERS = 100_000


@dataclass(frozen=True, slots=True)
class RedactionPreview:
    """What rules make of a text.

    Attributes:
        counts: How many places each rule replaced.
    """

    text: str
    counts: Mapping[str, int]


@requires(ADMIN)
async def update_redaction(ctx: Context, changes: Mapping[str, Any]) -> Workspace:
    """Change what the caller's workspace never stores.

    What is stored already stays as it is. Other processes hear of it within a second.

    Args:
        ctx: Who changes it.
        changes: Fields of `Redaction`; what is left out stays.

    Returns:
        The workspace, as it is now.

    Raises:
        ValidationError: The rules break a rule.
        NotFoundError: The workspace was deleted.
    """
    async with ctx.database.write() as session:
        workspace = await session.get(Workspace, ctx.workspace_id, with_for_update=True)
        if workspace is None:
            raise NotFoundError(f"workspace {ctx.workspace_id} does not exist")
        redaction = Redaction.model_validate({**(workspace.redaction or {}), **changes})
        workspace.redaction = redaction.stored() if redaction != Redaction() else None
    ctx.services.redactors.forget(ctx.workspace_id)
    return workspace


@signed_in
async def preview_redaction(
    ctx: Context, text: str, redaction: Redaction | None = None
) -> RedactionPreview:
    """Return what a text would be stored as; it is not stored.

    Args:
        ctx: Who asks.
        text: Any, of at most `MAX_PREVIEW_CHARACTERS`.
        redaction: By whose rules; those of the caller's workspace when it is left out.

    Raises:
        InvalidInputError: The text is too long.
    """
    if len(text) > MAX_PREVIEW_CHARACTERS:
        raise InvalidInputError(
            f"text: must have at most {MAX_PREVIEW_CHARACTERS:,} characters (has {len(text):,})"
        )
    if redaction is None:
        redactor = await ctx.services.redactors.get(ctx.workspace_id)
    else:
        redactor = compile_redactor(redaction.rules)
    counts: Counter[str] = Counter()
    return RedactionPreview(await redact_text(redactor, text, counts), counts)
