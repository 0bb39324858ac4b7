"""Storing what came of a run's calls: each result once, with its trace, for many calls at once."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from db.bulk import column_arrays, insert_from_arrays
from db.models import Run, RunResult
from db.session import Database, WriteSession
from resolvers.ceilings import release_costs
from resolvers.model_calls import CallResult
from resolvers.patience import retry_outage
from resolvers.redactors import Redactors, StorableTrace
from resolvers.run_lifecycle import notify_run
from resolvers.trace_storage import TraceStore

STORE_RESULTS = insert_from_arrays(RunResult).on_conflict_do_nothing()
STORE_AND_TELL = STORE_RESULTS.returning(RunResult.id)


async def store_call_results(
    database: Database, traces: TraceStore, redactors: Redactors, results: Sequence[CallResult]
) -> None:
    """Store what came of some calls, in one transaction; what is stored already stays.

    What the workspace never stores is in neither, whatever the answers were scored by.

    Raises:
        SQLAlchemyError: The database refused them, or did not come back in time.
    """

    async def store(session: WriteSession) -> None:
        storable = await traces.prepare([each.trace for each in results])
        await traces.store(session, storable)
        rows = [
            await _storable_result(redactors, each, trace)
            for each, trace in zip(results, storable, strict=True)
        ]
        await _store(session, results, rows)

    await store_patiently(database, store)


async def _storable_result(
    redactors: Redactors, made: CallResult, trace: StorableTrace
) -> dict[str, Any]:
    error = await redactors.redact_text(trace["workspace_id"], made.result["error"])
    return {**made.result, "output": trace["output"], "error": error}


async def store_patiently(
    database: Database, store: Callable[[WriteSession], Awaitable[None]]
) -> None:
    """Store what is paid for, in a transaction; an outage of the database is waited for.

    Args:
        database: Where to.
        store: May be done again after a commit whose answer was lost, and must then change
            nothing more.

    Raises:
        SQLAlchemyError: The database refused it, or did not come back in time.
    """

    async def transaction() -> None:
        async with database.write() as session:
            await store(session)

    await retry_outage(transaction)


async def _store(
    session: WriteSession, results: Sequence[CallResult], storable: Sequence[dict[str, Any]]
) -> None:
    rows = column_arrays(RunResult, storable)
    # One for each run: those who follow it look at what is stored by then.
    for run_id in {each.result["run_id"] for each in results}:
        await notify_run(session, run_id)
    if not any(each.released_usd for each in results):
        await session.execute(STORE_RESULTS, rows)
        return
    # After a commit whose answer was lost this is done again, and must not release again.
    stored = set(await session.scalars(STORE_AND_TELL, rows))
    await release_costs(
        session,
        Run,
        [
            (each.result["run_id"], each.released_usd)
            for each in results
            if each.result["id"] in stored
        ],
    )
