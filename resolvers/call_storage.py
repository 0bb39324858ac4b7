"""What came of the calls of production: their traces, their charges, and what is given back.

Many calls share one statement and so one commit; a call that is stored twice counts once.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg

from db.records import Row, write_query
from db.writing import StatementWriter, array_literal
from engine.rollouts import ArmDelta, Observation, increments_of
from resolvers.budget_leases import Lease
from resolvers.budgets import ZERO, Budget, window_end, window_start
from resolvers.failures import OUTAGES, describe
from resolvers.patience import retry_outage
from resolvers.redactors import StorableTrace
from resolvers.reservations import Reservation
from resolvers.rollout_sums import ADD_UP, increment_arrays
from resolvers.trace_storage import (
    STORING,
    STORING_PARAMETERS,
    WRITER,
    TraceStore,
    storing_values,
)

log = logging.getLogger("gero.calls")

ADD_TO_ARMS: Final = write_query(ADD_UP)
_NEXT: Final = STORING_PARAMETERS + 1
# Tokens are locked in one order by everybody, so that nobody waits for who waits for him.
SETTLE = f"""{STORING}, charges AS (
    INSERT INTO charge (id, workspace_id, leaderboard_id, candidate_id, token_id, amount_usd,
                        source, price_version)
    SELECT id, workspace_id, leaderboard_id, candidate_id, token_id, charged_usd, cost_source,
           price_version
    FROM given JOIN stored USING (id)
    JOIN unnest(${_NEXT}::text::uuid[], ${_NEXT + 1}::text::numeric[])
        AS charged(id, charged_usd) USING (id)
    ON CONFLICT DO NOTHING RETURNING id, amount_usd
), freed AS (
    DELETE FROM budget_hold WHERE id = ANY(${_NEXT + 2}::text::uuid[])
    RETURNING token_id, amount_usd
), shrunk AS (
    UPDATE budget_hold AS hold SET amount_usd = hold.amount_usd - lent.amount_usd
    FROM (
        SELECT hold_id, sum(lent.amount_usd) AS amount_usd
        FROM charges JOIN unnest(
            ${_NEXT + 8}::text::uuid[], ${_NEXT + 9}::text::uuid[], ${_NEXT + 10}::text::numeric[]
        ) AS lent(id, hold_id, amount_usd) USING (id)
        GROUP BY hold_id
    ) AS lent
    WHERE hold.id = lent.hold_id RETURNING hold.token_id, lent.amount_usd
), changes AS (
    SELECT token_id, amount_usd AS charged_usd, 0 AS freed_usd, freed_tokens
    FROM charges JOIN unnest(
        ${_NEXT + 3}::text::uuid[], ${_NEXT + 4}::text::uuid[], ${_NEXT + 5}::text::bigint[]
    ) AS limited(id, token_id, freed_tokens) USING (id)
    UNION ALL
    SELECT token_id, 0, amount_usd, 0 FROM freed
    UNION ALL
    SELECT token_id, 0, amount_usd, 0 FROM shrunk
), owed AS (
    SELECT token_id, sum(charged_usd) AS charged_usd, sum(freed_usd) AS freed_usd,
        sum(freed_tokens) AS freed_tokens
    FROM changes GROUP BY token_id
), locked AS (
    SELECT token.id, owed.charged_usd, owed.freed_usd, owed.freed_tokens, window_start
    FROM api_token AS token JOIN owed ON owed.token_id = token.id
    LEFT JOIN unnest(${_NEXT + 6}::text::uuid[], ${_NEXT + 7}::text::timestamptz[])
        AS windows(token_id, window_start) ON windows.token_id = token.id
    ORDER BY token.id FOR NO KEY UPDATE OF token
)
UPDATE api_token AS token SET
    budget_used_usd = charged_usd
        + CASE WHEN budget_window_started_at < window_start THEN 0 ELSE budget_used_usd END,
    budget_held_usd = budget_held_usd - freed_usd,
    budget_window_started_at = greatest(budget_window_started_at, window_start),
    tokens_free_at = tokens_free_at
        - freed_tokens * interval '60 seconds' / nullif(tokens_per_minute, 0)
FROM locked WHERE locked.id = token.id
RETURNING token.id, budget_limit_usd, budget_used_usd
"""  # noqa: S608 - made of numbers of parameters


@dataclass(slots=True)
class EndedCall:
    """A call of production that has ended, and what it leaves.

    Attributes:
        trace: The columns of its trace.
        charged_usd: What it is charged, in US dollars.
        reservations: What was reserved for it, to be given back.
        used_tokens: What it sent and generated.
        observation: What counts of it in a rollout.
        budget: Its token's budget afterwards, once it is stored; None when that has none.
    """

    trace: dict[str, Any]
    charged_usd: Decimal
    reservations: Sequence[Reservation]
    used_tokens: int
    observation: Observation | None = None
    budget: Budget | None = None

    @property
    def freed_tokens(self) -> int:
        """What it was allowed to send and generate, and did not."""
        return sum(each.token_count for each in self.reservations) - self.used_tokens


async def store_calls(
    writer: StatementWriter, traces: TraceStore, calls: Sequence[EndedCall]
) -> None:
    """Store what came of calls, in one transaction; an outage of the database is waited for.

    Raises:
        asyncpg.PostgresError: The database refused them.
        OSError: It did not come back in time.
    """

    async def store() -> Sequence[Row]:
        storable = await traces.prepare([call.trace for call in calls])
        return await writer.fetch(SETTLE, _values(calls, storable, ended))

    ended = _ended_leases(calls)
    rows = await retry_outage(store)
    _tell_leases(calls, ended)
    deltas = increments_of(call.observation for call in calls if call.observation is not None)
    if deltas:
        await _count(writer, deltas)
    now = datetime.now(UTC)
    settled = {row.id: row for row in rows if row.budget_limit_usd is not None}
    for call in calls:
        for reserved in call.reservations[:1]:
            row = settled.get(reserved.token_id)
            if row is not None:
                end = window_end(reserved.interval, now)
                call.budget = Budget(row.budget_limit_usd, row.budget_used_usd, end)
                _note_used(reserved.lease, call.budget)


def _ended_leases(calls: Sequence[EndedCall]) -> Collection[Lease]:
    """Return the leases that nobody has anything of once these calls are settled."""
    counts = Counter(
        each.lease
        for call in calls
        for each in call.reservations
        if each.lease is not None and not each.is_settled
    )
    return {lease for lease, count in counts.items()
            if lease.is_closed and lease.lent_count == count}  # fmt: skip


def _tell_leases(calls: Sequence[EndedCall], ended: Collection[Lease]) -> None:
    """Tell leases that what they have lent to calls has come back, once of each."""
    for lease in ended:
        lease.is_released = True
    for call in calls:
        for each in call.reservations:
            if each.lease is not None and not each.is_settled:
                each.is_settled = True
                each.lease.settled()


def _note_used(lease: Lease | None, budget: Budget) -> None:
    if lease is not None and lease.hold.state is not None:
        lease.hold.state = lease.hold.state._replace(
            limit_usd=budget.limit_usd, used_usd=budget.used_usd
        )


async def _count(writer: StatementWriter, deltas: Sequence[ArmDelta]) -> None:
    """Add to the sums of rollouts, by itself: the calls are stored, and are answered anyway.

    Should that fail, or the server die just now, a rollout has seen a few calls less.
    """
    try:
        values = increment_arrays(deltas, WRITER)
        await writer.fetch(ADD_TO_ARMS.sql, ADD_TO_ARMS.arguments(values))
    except (asyncpg.PostgresError, *OUTAGES) as error:
        told = describe(error)
        log.warning("calls of %d arms are not counted in their rollouts: %s", len(deltas), told)


def _freed_ids(calls: Sequence[EndedCall], ended: Collection[Lease]) -> Iterable[UUID]:
    """Return the holds that end: those of calls, and leases of which these are the last."""
    every = (each for call in calls for each in call.reservations if each.amount_usd > ZERO)
    return {each.id for each in every if each.lease is None or each.lease in ended}


def _values(
    calls: Sequence[EndedCall], traces: Sequence[StorableTrace], ended: Collection[Lease]
) -> list[Any]:
    now = datetime.now(UTC)
    limited = [(call, call.reservations[0]) for call in calls if call.reservations]
    lent = [
        (call.trace["id"], each)
        for call in calls
        for each in call.reservations
        if each.lease is not None and each.lease not in ended
    ]
    interval_of: dict[UUID, str] = {first.token_id: first.interval for _, first in limited}
    arrays: Sequence[Iterable[object]] = (
        [call.trace["id"] for call in calls],
        [call.charged_usd for call in calls],
        _freed_ids(calls, ended),
        [call.trace["id"] for call, _ in limited],
        [first.token_id for _, first in limited],
        [call.freed_tokens for call, _ in limited],
        interval_of,
        [window_start(interval, now) for interval in interval_of.values()],
        [trace_id for trace_id, _ in lent],
        [each.id for _, each in lent],
        [each.amount_usd for _, each in lent],
    )
    return [*storing_values(traces), *map(array_literal, arrays)]
