"""The commands about API tokens."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from sqlalchemy import select

from app.commands import DATA_DIR, CommandError, command, data_dir_process
from app.services import Process
from db.models import ApiToken, Workspace
from engine.instants import rfc3339
from engine.money import plain_usd
from resolvers.budgets import Budget, budget_of
from resolvers.tokens import (
    LIFETIMES,
    MAX_BUDGET_USD,
    MAX_LISTED,
    RESET_INTERVALS,
    create_api_token,
    list_api_tokens,
    revoke_api_token,
)

WORKSPACE_ID = click.option("--workspace-id", help="Needed when there are several workspaces.")
AS_JSON = click.option("--json", "as_json", is_flag=True)
HEADINGS = ("PUBLIC ID", "NAME", "STATE", "EXPIRES", "BUDGET USED", "SCOPES")


@click.group()
def token() -> None:
    """API tokens."""


@token.command(name="create")
@DATA_DIR
@click.option("--name", required=True)
@click.option("--scope", "scopes", multiple=True, help="Repeat for several; * is all.")
@click.option("--expires-in", type=click.Choice(list(LIFETIMES)))
@click.option("--budget-usd", help="The most its calls may cost in one window.")
@click.option("--budget-reset", default="none", type=click.Choice(RESET_INTERVALS))
@click.option("--requests-per-minute", type=int, help="Calls of production at most.")
@click.option("--tokens-per-minute", type=int, help="What these may send and generate.")
@WORKSPACE_ID
@AS_JSON
@command
async def create_token(
    *,
    data_dir: Path,
    name: str,
    scopes: tuple[str, ...],
    expires_in: str | None,
    budget_usd: str | None,
    budget_reset: str,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    workspace_id: str | None,
    as_json: bool,
) -> None:
    """Create an API token; it is shown once."""
    async with data_dir_process(data_dir) as process:
        made = await create_api_token(
            process.system_context(await _workspace(process, workspace_id)),
            name=name,
            scopes=list(scopes) or ["*"],
            expires_in=expires_in,
            budget_limit_usd=_usd(budget_usd),
            budget_reset_interval=budget_reset,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
    shown = {
        "id": str(made.id),
        "token": made.token,
        "expires_at": rfc3339(made.expires_at) if made.expires_at else None,
    }
    print(json.dumps(shown) if as_json else made.token)


@token.command(name="list")
@DATA_DIR
@WORKSPACE_ID
@AS_JSON
@command
async def list_tokens(*, data_dir: Path, workspace_id: str | None, as_json: bool) -> None:
    """List the API tokens, newest first; never their secrets."""
    async with data_dir_process(data_dir) as process:
        ctx = process.system_context(await _workspace(process, workspace_id))
        tokens = await list_api_tokens(ctx, limit=MAX_LISTED)
    if as_json:
        print(json.dumps([_shown(each) for each in tokens], indent=2))
    else:
        _print_table([HEADINGS, *(_line(each) for each in tokens)])


@token.command(name="revoke")
@click.argument("public_id_or_id")
@DATA_DIR
@WORKSPACE_ID
@command
async def revoke_token(*, public_id_or_id: str, data_dir: Path, workspace_id: str | None) -> None:
    """Revoke an API token, for good; servers heed it within a second."""
    async with data_dir_process(data_dir) as process:
        ctx = process.system_context(await _workspace(process, workspace_id))
        revoked = await revoke_api_token(ctx, public_id_or_id)
    print(f"revoked {revoked.public_id} ({revoked.name})")


def _state(token: ApiToken) -> str:
    if token.revoked_at is not None:
        return "revoked"
    is_over = token.expires_at is not None and token.expires_at <= datetime.now(UTC)
    return "expired" if is_over else "active"


def _budget(token: ApiToken) -> Budget | None:
    return None if token.budget_limit_usd is None else budget_of(token, datetime.now(UTC))


def _shown(token: ApiToken) -> dict[str, Any]:
    """Return what --json tells of a token."""
    budget = _budget(token)
    return {
        "id": str(token.id),
        "public_id": token.public_id,
        "name": token.name,
        "state": _state(token),
        "scopes": token.scopes,
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(token.expires_at) if token.expires_at else None,
        "revoked_at": rfc3339(token.revoked_at) if token.revoked_at else None,
        "budget_limit_usd": float(budget.limit_usd) if budget else None,
        "budget_used_usd": float(budget.used_usd) if budget else None,
        "budget_reset_interval": token.budget_reset_interval,
    }


def _line(token: ApiToken) -> tuple[str, ...]:
    """Return what the table tells of a token."""
    budget, spent = _budget(token), "unlimited"
    if budget is not None:
        every = token.budget_reset_interval
        spent = f"{plain_usd(budget.used_usd)} of {plain_usd(budget.limit_usd)} USD"
        spent += "" if every == "none" else f" {every}"
    return (
        token.public_id,
        token.name,
        _state(token),
        rfc3339(token.expires_at) if token.expires_at else "never",
        spent,
        " ".join(token.scopes) or "*",
    )


def _print_table(lines: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


async def _workspace(process: Process, wanted: str | None) -> UUID:
    """Return the workspace that is meant."""
    async with process.database.read() as session:
        present = list(await session.scalars(select(Workspace.id).order_by(Workspace.created_at)))
    if wanted is not None:
        match = [each for each in present if str(each) == wanted.casefold()]
        if not match:
            raise CommandError(f"--workspace-id: there is no workspace {wanted!r}")
        return match[0]
    if not present:
        raise CommandError(
            "there is no workspace: make one with `gero workspace create --name <name>`"
        )
    if len(present) > 1:
        raise CommandError(f"there are {len(present)} workspaces: name one with --workspace-id")
    return present[0]


def _usd(text: str | None) -> Decimal | None:
    """Read an amount that a budget can be."""
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise CommandError(f"--budget-usd: {text!r} is not an amount") from error
    if not amount.is_finite():
        raise CommandError(f"--budget-usd: {text!r} is not an amount")
    if not 0 <= amount <= MAX_BUDGET_USD:
        raise CommandError(f"--budget-usd: must be 0 to {MAX_BUDGET_USD} (got {text!r})")
    return amount
