"""Runs the tools of `make audit`, which installs npm's in tests/contracts/node."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NODE_DIR = ROOT / "tests" / "contracts" / "node"
# None of them may tell anybody that it ran, or look for a newer version of itself.
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Ended:
    """How a tool ended, and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        return self.stdout + self.stderr


async def run(*command: str | Path, environment: dict[str, str] | None = None) -> Ended:
    """Run *command* to its end, while this process's event loop serves what it may ask."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, **QUIET, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return Ended(process.returncode or 0, stdout.decode(), stderr.decode())


def npm_tool(name: str) -> Path:
    """Return where npm put the command *name*; a missing one fails the test that needs it."""
    path = NODE_DIR / "node_modules" / ".bin" / name
    assert path.exists(), f"{name} is not installed: run `make audit`"
    return path
