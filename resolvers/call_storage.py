"""What came of the calls of production: their traces, their charges, and what is given back.

Many calls share one statement and so one commit; a call that is stored twice counts once.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final
from uuid import UUID

import asyncpg

from db.records import Row, write_query
from db.writing import StatementWriter, array_literal
from engine.rollouts import ArmDelta, Observation, increments_of
from resolvers.budgets import ZERO, Budget, window_end, window_start
from resolvers.failures import OUTAGES, describe
from resolvers.patience import retry_outage
from resolvers.redactors import StorableTrace
from resolvers.reservations import Reservation
from resolvers.rollout_sums import ADD_UP, increment_arrays
from resolvers.trace_storage import (
    GIVEN,
    WRITER,
    TraceStore,
    storing_values,
    storing_values_alone,
    write_fresh,
    write_storing,
)

log = logging.getLogger("gero.calls")

ADD_TO_ARMS: Final = write_query(ADD_UP)
# What the statement takes of each call beside its trace.
CHARGE: Final = {
    "charged_usd": "numeric",
    "freed_tokens": "bigint",
    "window_start": "timestamptz",
    "lease_id": "uuid",
}
FREEING: Final = """, freed AS (
    DELETE FROM budget_hold WHERE id = ANY($%d::text::uuid[]) RETURNING token_id, amount_usd
)"""
UNSPENT: Final = " WHERE NOT EXISTS (SELECT FROM spent WHERE spent.id = lease_id)"
UNSPENT_ALONE: Final = " WHERE NOT EXISTS (SELECT FROM spent)"
# Tokens are locked in one order by everybody, so that nobody waits for who waits for him.
LOCKING: Final = """, locked AS (
    SELECT owed.* FROM api_token AS token JOIN owed ON owed.token_id = token.id
    ORDER BY token.id FOR NO KEY UPDATE OF token
)"""


def _write_charging(fresh: str, *, alone: bool) -> str:
    """Return the part of a statement that stores calls' traces, and what they are charged.

    Args:
        fresh: From `write_fresh`.
        alone: See `write_storing`.
    """
    telling = " ON CONFLICT DO NOTHING RETURNING id" * (not alone)
    return f"""{write_storing(CHARGE, alone=alone)}, charges AS (
    INSERT INTO charge (id, workspace_id, leaderboard_id, candidate_id, token_id, amount_usd,
                        source, price_version)
    SELECT id, workspace_id, leaderboard_id, candidate_id, token_id, charged_usd, cost_source,
           price_version
    FROM {fresh}{telling}
)"""  # noqa: S608 - made of our own columns' names


def _write_settled(fresh: str, *, alone: bool) -> str:
    """Return a query for what it takes of the calls whose tokens have limits."""
    return f"""
    SELECT token_id, charged_usd, freed_tokens, window_start, lease_id
    FROM {fresh}{" JOIN charges USING (id)" * (not alone)} WHERE freed_tokens IS NOT NULL
    """  # noqa: S608 - as above


def _write_spending(settled: str, *, alone: bool) -> str:
    """Return the part that charges leases.

    What is spent of a lease stands in its own row, which no other server writes to. A lease that
    was taken for a dead server's is gone: then the token is charged.
    """
    lent = "SELECT lease_id, sum(charged_usd) AS charged_usd FROM settled GROUP BY lease_id"
    return f""", spent AS (
    UPDATE budget_hold AS lease SET spent_usd = lease.spent_usd + charged_usd
    FROM {settled if alone else f"({lent}) AS lent"} WHERE lease.id = lease_id RETURNING lease.id
)"""  # noqa: S608 - as above


def _write_owed(settled: str, *, frees: bool) -> str:
    """Return the query for what calls owe, token by token.

    Args:
        settled: Where what they are charged, and no lease is, comes from.
        frees: See `write_settling`.
    """
    changes = [_write_owed_alone(settled, frees=False)]
    changes += ["SELECT token_id, 0, amount_usd, 0, NULL FROM freed"] * frees
    return f"""
    SELECT token_id, sum(charged_usd) AS charged_usd, sum(freed_usd) AS freed_usd,
        sum(freed_tokens) AS freed_tokens, max(window_start) AS window_start
    FROM ({" UNION ALL ".join(changes)}) AS changes GROUP BY token_id
    """  # noqa: S608 - as above


def _write_owed_alone(settled: str, *, frees: bool) -> str:
    """Return the query for what one call owes."""
    freed_usd = "coalesce((SELECT sum(amount_usd) FROM freed), 0)" if frees else "0"
    return (
        f"SELECT token_id, charged_usd, {freed_usd} AS freed_usd, freed_tokens, window_start"  # noqa: S608 - as above
        f" FROM {settled}"
    )


@cache
def write_settling(*, alone: bool, frees: bool, lends: bool, locks: bool) -> str:
    """Return the statement that stores calls, without the parts that a batch has no need of.

    Each part takes some time to be set up, which the calls wait for.

    Args:
        alone: It is one call, stored for the first time.
        frees: Holds end.
        lends: Some of the calls were lent from leases.
        locks: They are of several tokens, whose rows have to be locked in order.
    """
    fresh = write_fresh(CHARGE, alone=alone)
    query = _write_settled(fresh, alone=alone)
    settled = f"({query}) AS settled" if alone else "settled"
    # One that was lent, and has a hold of its own besides, owes in two ways.
    is_simple = alone and not (frees and lends)
    write_owed = _write_owed_alone if is_simple else _write_owed
    parts = [_write_charging(fresh, alone=alone)]
    if not alone:
        parts.append(f", settled AS ({query})")
    if frees:
        parts.append(FREEING % (2 + len(GIVEN) + len(CHARGE) if alone else 3))
    if lends:
        parts.append(_write_spending(settled, alone=alone))
        settled += UNSPENT_ALONE if alone else UNSPENT
    return f"""{"".join(parts)}, owed AS (
    {write_owed(settled, frees=frees)}
){LOCKING * locks}
UPDATE api_token AS token SET
    budget_used_usd = charged_usd
        + CASE WHEN budget_window_started_at < window_start THEN 0 ELSE budget_used_usd END,
    budget_held_usd = budget_held_usd - freed_usd,
    budget_window_started_at = greatest(budget_window_started_at, window_start),
    tokens_free_at = tokens_free_at
        - freed_tokens * interval '60 seconds' / nullif(tokens_per_minute, 0)
FROM {"locked" if locks else "owed"} AS owed WHERE owed.token_id = token.id
RETURNING token.id, budget_limit_usd, budget_used_usd
"""  # noqa: S608 - made of our own parts


@dataclass(slots=True)
class EndedCall:
    """A call of production that has ended, and what it leaves.

    Attributes:
        trace: The columns of its trace.
        charged_usd: What it is charged, in US dollars.
        reservations: What was reserved for it, to be given back.
        used_tokens: What it sent and generated.
        observation: What counts of it in a rollout.
        budget: Its token's budget afterwards, once it is stored; None when that has none. It
            lacks what other servers have spent of leases within the last second.
    """

    trace: dict[str, Any]
    charged_usd: Decimal
    reservations: Sequence[Reservation]
    used_tokens: int
    observation: Observation | None = None
    budget: Budget | None = None

    @property
    def lent(self) -> Reservation | None:
        """What it was lent, if a lease is charged for it: not if it cost more than that."""
        first = self.reservations[0] if self.reservations else None
        if first is None or first.lease is None or self.charged_usd > first.amount_usd:
            return None
        return first

    @property
    def freed_tokens(self) -> int:
        """What it was allowed to send and generate, did not, and still keeps from others.

        Less than none if it was more than it was allowed.
        """
        allowed = sum(each.token_count for each in self.reservations)
        unused = allowed - self.used_tokens
        if unused <= 0:
            return unused
        return min(unused, sum(each.tokens_to_free for each in self.reservations))


async def store_calls(
    writer: StatementWriter, traces: TraceStore, calls: Sequence[EndedCall]
) -> None:
    """Store what came of calls, in one transaction; an outage of the database is waited for.

    Raises:
        asyncpg.PostgresError: The database refused them.
        OSError: It did not come back in time; they are to be stored later.
    """

    async def store() -> Sequence[Row]:
        storable = await traces.prepare([call.trace for call in calls])
        if len(calls) == 1:
            try:
                return await writer.fetch(*_settling(calls, storable, alone=True))
            except asyncpg.UniqueViolationError:
                log.debug("a call was stored before, by a commit whose answer was lost")
        return await writer.fetch(*_settling(calls, storable))

    began_at = datetime.now(UTC)
    rows = await retry_outage(store, is_awaited=True)
    _tell_leases(calls)
    observed = [call.observation for call in calls if call.observation is not None]
    if observed:
        await _count(writer, increments_of(observed))
    charged = {row.id: row for row in rows if row.budget_limit_usd is not None}
    _note_budgets(calls, charged, began_at)


def _tell_leases(calls: Sequence[EndedCall]) -> None:
    """Tell leases of what calls that were lent from them have spent, once of each."""
    for call in calls:
        for first in call.reservations[:1]:
            if first.lease is not None and not first.is_settled:
                first.is_settled = True
                first.lease.settle(first.amount_usd, call.charged_usd if call.lent else ZERO)


def _note_budgets(calls: Sequence[EndedCall], charged: Mapping[UUID, Row], now: datetime) -> None:
    """Note on calls what the budgets of their tokens are.

    Args:
        calls: Those that are stored.
        charged: The tokens that have a budget, and were charged themselves.
        now: When storing began: the window may be another one by now.
    """
    budgets: dict[UUID, Budget] = {}
    for call in calls:
        for first in call.reservations[:1]:
            if first.token_id not in budgets:
                budget = _budget(first, charged.get(first.token_id), now)
                if budget is None:
                    continue
                budgets[first.token_id] = budget
            call.budget = budgets[first.token_id]


def _budget(reserved: Reservation, charged: Row | None, now: datetime) -> Budget | None:
    """Return the budget of a call's token; None when it has none."""
    account = reserved.account
    if charged is not None:
        limit_usd, used_usd = charged.budget_limit_usd, charged.budget_used_usd
        if account is None:
            return Budget(limit_usd, used_usd, window_end(reserved.interval, now))
        account.hear(limit_usd, used_usd, window_start(reserved.interval, now))
    elif reserved.lease is None:
        return None
    return None if account is None else account.budget(reserved.interval, now)


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


def _settling(
    calls: Sequence[EndedCall], traces: Sequence[StorableTrace], *, alone: bool = False
) -> tuple[str, list[Any]]:
    """Return the statement that stores calls, and its parameters."""
    now = datetime.now(UTC)
    starts = {
        interval: window_start(interval, now)
        for interval in {call.reservations[0].interval for call in calls if call.reservations}
    }
    charges = [_charge(call, starts) for call in calls]
    freed = {
        each.id
        for call in calls
        for each in call.reservations
        if each.lease is None and each.amount_usd > ZERO
    }
    statement = write_settling(
        alone=alone,
        frees=bool(freed),
        lends=any("lease_id" in charge for charge in charges),
        locks=len({call.trace["token_id"] for call in calls}) > 1,
    )
    if alone:
        values = storing_values_alone(traces[0], map(charges[0].get, CHARGE))
    else:
        values = storing_values(traces, charges)
    return statement, [*values, array_literal(freed)] if freed else values


def _charge(call: EndedCall, starts: Mapping[str, datetime | None]) -> dict[str, Any]:
    """Return the columns of `CHARGE`: those of a token's limits only if it has any."""
    charge: dict[str, Any] = {"charged_usd": call.charged_usd}
    if call.reservations:
        first = call.reservations[0]
        charge["freed_tokens"] = call.freed_tokens
        charge["window_start"] = starts[first.interval]
        if (lent := call.lent) is not None:
            charge["lease_id"] = lent.id
    return charge
