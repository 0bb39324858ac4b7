"""`gero doctor`: what is wrong with a deployment, and what to do about it."""

import httpx2

from app.health import Check, check_database
from app.services import Process
from app.settings import Settings

TIMEOUT_SECONDS = 10.0


async def examine(settings: Settings) -> list[Check]:
    """Check the database, its version, migrations, the job engine and the providers."""
    process = Process(settings)
    try:
        checks = await check_database(process.database)
        if checks[0].problem is None:
            checks.insert(1, await _check_version(process))
    finally:
        await process.aclose()
    providers = {
        "huggingface": settings.huggingface_url,
        "openrouter": f"{settings.openrouter_url}/models",
    }
    if settings.sandbox_url is not None:
        providers["sandbox"] = settings.sandbox_url
    for name, url in providers.items():
        checks.append(await _check_reachable(name, url))
    return checks


async def _check_version(process: Process) -> Check:
    async with process.database.engine.connect() as connection:
        info = connection.dialect.server_version_info or (0,)
    too_old = int(info[0]) < 15  # noqa: PLR2004 - the oldest that is tested
    return Check(
        "version", f"PostgreSQL {info[0]} is too old: use 15 or later" if too_old else None
    )


async def _check_reachable(name: str, url: str) -> Check:
    try:
        async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            await client.head(url)
    except httpx2.HTTPError as error:
        return Check(
            name,
            f"{url} can't be reached ({type(error).__name__}): check the network, or set "
            f"GERO_{name.upper()}_URL",
        )
    return Check(name, None)
