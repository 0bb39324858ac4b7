"""The demo workspace: a leaderboard over the sandbox, ranked by a real run."""

import asyncio
from uuid import UUID

from sqlalchemy import select

from app.services import Process
from db.models import Leaderboard
from engine.matching import MatchMode
from resolvers.candidates import add_candidate
from resolvers.inputs import Evaluation, NewCandidate, NewLeaderboard, NewRun
from resolvers.leaderboards import create_leaderboard
from resolvers.run_requests import start_run
from resolvers.runs import get_run
from resolvers.workspaces import create_workspace

# Fixed, so that every start finds the same ones.
WORKSPACE_ID = UUID("01900000-0000-7000-8000-000000000001")
OWNER_ID = UUID("01900000-0000-7000-8000-000000000002")
LEADERBOARD_ID = UUID("01900000-0000-7000-8000-000000000003")
RUN_ID = UUID("01900000-0000-7000-8000-000000000004")
DATASET_URL = "https://huggingface.co/datasets/gero-sandbox/tasks/resolve/main/tasks.jsonl"
PROMPT = "Solve the task. End with one line: Answer: <the answer, and nothing else>.\n\n{input}"
MODELS = ("careful-large", "balanced-medium", "quick-small", "erratic-mini")
POLL_SECONDS = 0.1
LONGEST_SECONDS = 120


async def create_demo_workspace(process: Process) -> None:
    """Create the demo workspace and its owner, unless they are there."""
    await create_workspace(
        process.system_context(), id=WORKSPACE_ID, name="Demo", owner_id=OWNER_ID
    )


async def create_demo_leaderboard(process: Process) -> None:
    """Create the demo leaderboard, its candidates and its first run, unless they are there.

    A start that was killed half way is taken up where it ended.
    """
    ctx = process.system_context(WORKSPACE_ID)
    async with process.database.read() as session:
        present = await session.scalar(select(Leaderboard).where(Leaderboard.id == LEADERBOARD_ID))
    if present is not None and present.deleted_at is not None:
        return  # its owner did not want it
    new = NewLeaderboard(
        name="Demo: everyday tasks (simulated models)",
        system_prompt=PROMPT,
        dataset_url=DATASET_URL,
        evaluation=Evaluation(match=MatchMode.NORMALIZED, extract=r"Answer:\s*(.+)"),
    )
    if present is None:
        await create_leaderboard(ctx, new, id=LEADERBOARD_ID)
    for number, name in enumerate(MODELS):
        candidate = NewCandidate(
            provider="openrouter",
            model_id=f"sandbox/{name}",
            params={"temperature": 0, "max_tokens": 400},
        )
        candidate_id = UUID(int=LEADERBOARD_ID.int + 0x100 + number)
        await add_candidate(ctx, LEADERBOARD_ID, candidate, id=candidate_id)
    await start_run(ctx, LEADERBOARD_ID, NewRun(), id=RUN_ID)


async def await_demo_ranking(process: Process) -> str:
    """Wait for the demo's first run to end, and return its status."""
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            run = await get_run(process.system_context(WORKSPACE_ID), RUN_ID)
            if run.status in {"completed", "failed"}:
                return str(run.status)
            await asyncio.sleep(POLL_SECONDS)
