"""Room for a call within its token's limits: money held, and requests and tokens a minute.

One conditional UPDATE decides for every call that came while the last one was decided. Rates are
kept as the instant at which all of a minute's room is free again.

Source: the generic cell rate algorithm, ITU-T I.371, annex A; with a burst of one minute's room.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

from db.records import Row
from db.writing import StatementWriter, array_literal
from resolvers.budgets import ZERO, Budget, window_end, window_start

if TYPE_CHECKING:
    from resolvers.lease_accounts import Account, Lease

RESERVE = """
WITH asked AS (
    SELECT * FROM unnest(
        $1::text::uuid[], $2::text::numeric[], $3::text::integer[], $4::text::bigint[],
        $5::text::timestamptz[]
    ) AS asked(token_id, amount_usd, requests, tokens, window_start)
), locked AS (
    SELECT token.id, asked.*, budget_limit_usd, budget_held_usd, requests_per_minute,
        tokens_per_minute,
        CASE WHEN budget_window_started_at < window_start THEN 0 ELSE budget_used_usd END
            AS used_usd,
        greatest(requests_free_at, now()) AS requests_free_at,
        greatest(tokens_free_at, now()) AS tokens_free_at
    FROM api_token AS token JOIN asked ON asked.token_id = token.id
    ORDER BY token.id FOR NO KEY UPDATE OF token
), timed AS (
    SELECT *,
        requests_free_at + requests * interval '60 seconds' / requests_per_minute AS requests_until,
        tokens_free_at + tokens * interval '60 seconds' / tokens_per_minute AS tokens_until
    FROM locked
), judged AS (
    SELECT *,
        (budget_limit_usd IS NULL OR amount_usd <= budget_limit_usd - used_usd - budget_held_usd)
        AND (requests_until IS NULL OR requests_until <= now() + interval '60 seconds')
        AND (tokens_until IS NULL OR tokens_until <= now() + interval '60 seconds') AS has_room
    FROM timed
), taken AS (
    UPDATE api_token AS token SET
        budget_used_usd = judged.used_usd,
        budget_held_usd = token.budget_held_usd + judged.amount_usd,
        budget_window_started_at = greatest(budget_window_started_at, window_start),
        requests_free_at = judged.requests_until,
        tokens_free_at = judged.tokens_until
    FROM judged WHERE judged.id = token.id AND judged.has_room
), holds AS (
    INSERT INTO budget_hold (id, token_id, amount_usd, expires_at)
    SELECT hold.* FROM unnest(
        $6::text::uuid[], $7::text::uuid[], $8::text::numeric[], $9::text::timestamptz[]
    ) AS hold(id, token_id, amount_usd, expires_at)
    JOIN judged ON judged.id = hold.token_id AND judged.has_room
    WHERE hold.amount_usd > 0
)
SELECT id, has_room, budget_limit_usd, used_usd, budget_held_usd, requests_per_minute,
    tokens_per_minute,
    extract(epoch FROM requests_free_at - now())::float8 AS requests_seconds,
    extract(epoch FROM tokens_free_at - now())::float8 AS tokens_seconds
FROM judged
"""
MINUTE_SECONDS = 60.0

Limit = Literal["budget", "requests", "tokens"]


class Rate(NamedTuple):
    """What is left of a limit a minute.

    Attributes:
        limit: Requests or tokens a minute.
        left: Of these, now.
        reset_seconds: Until all of it is free again.
    """

    limit: int
    left: int
    reset_seconds: float


class TokenState(NamedTuple):
    """A token's limits, as they were when a call was decided on, its own share taken."""

    limit_usd: Decimal | None
    used_usd: Decimal
    held_usd: Decimal
    requests: Rate | None
    tokens: Rate | None


@dataclass(slots=True)
class Reservation:
    """What a call may use of its token's limits.

    Attributes:
        id: Of the hold of money.
        amount_usd: The most that it may cost, in US dollars; 0 of a token without a budget.
        request_count: 1; 0 of what is held in addition for a call that has begun.
        token_count: The most tokens that it may send and generate.
        interval: How often the token's budget begins anew.
        expires_at: When the hold of a server that died is given back.
        refused: What left no room, once that is decided.
        state: What that was decided on.
        decided_at: When it was decided, by the monotonic clock.
        account: What the process knows of the token; None where it does not lend to it.
        lease: The hold that it is a part of, when it is no hold of its own.
        is_settled: Whether the lease knows that it is.
    """

    id: UUID
    token_id: UUID
    amount_usd: Decimal
    request_count: int
    token_count: int
    interval: str
    expires_at: datetime
    refused: Limit | None = None
    state: TokenState | None = None
    decided_at: float = 0.0
    account: "Account | None" = None
    lease: "Lease | None" = None
    is_settled: bool = False

    def budget(self) -> Budget | None:
        """Return the token's budget as it was when this was decided; None when it has none."""
        now = datetime.now(UTC)
        if self.lease is not None and self.account is not None:
            return self.account.budget(self.interval, now)
        if self.state is None or self.state.limit_usd is None:
            return None
        return Budget(self.state.limit_usd, self.state.used_usd, window_end(self.interval, now))

    @property
    def tokens_to_free(self) -> int:
        """How many of its tokens can be given back by now, at most.

        A rate frees what is taken of it as time goes by, whether it was used or not: what it has
        freed by itself others may have taken, and is not to be given back to them again.
        """
        rate = self.state.tokens if self.state is not None else None
        if rate is None:
            return self.token_count
        left_seconds = self.decided_at + rate.reset_seconds - time.monotonic()
        return min(self.token_count, max(0, int(left_seconds * rate.limit / MINUTE_SECONDS)))


async def store_reservations(writer: StatementWriter, reservations: Sequence[Reservation]) -> None:
    """Decide on reservations, and store those that there is room for.

    Of one token they are taken in order: each that fits in what the ones before it leave. Those
    of a token that is gone have no state afterwards.
    """
    asked: dict[UUID, list[Reservation]] = defaultdict(list)
    for each in reservations:
        asked[each.token_id].append(each)
    while asked:
        fitting: dict[UUID, list[Reservation]] = {}
        for row in await writer.fetch(RESERVE, _values(asked)):
            if row.has_room:
                _admit(row, asked[row.id])
            elif rest := _refuse(row, asked[row.id]):
                fitting[row.id] = rest
        asked = fitting


def _values(asked: Mapping[UUID, Sequence[Reservation]]) -> list[Any]:
    now = datetime.now(UTC)
    holds = [each for together in asked.values() for each in together]
    arrays: Sequence[Iterable[object]] = (
        asked,
        [sum((each.amount_usd for each in together), ZERO) for together in asked.values()],
        [sum(each.request_count for each in together) for together in asked.values()],
        [sum(each.token_count for each in together) for together in asked.values()],
        [window_start(together[0].interval, now) for together in asked.values()],
        [each.id for each in holds],
        [each.token_id for each in holds],
        [each.amount_usd for each in holds],
        [each.expires_at for each in holds],
    )
    return [array_literal(array) for array in arrays]


def _state(row: Row, held_usd: Decimal, requests: int, tokens: int) -> TokenState:
    (
        _, _, limit_usd, used_usd, before_usd, requests_per_minute, tokens_per_minute,
        requests_seconds, tokens_seconds,
    ) = row  # fmt: skip
    return TokenState(
        limit_usd=limit_usd,
        used_usd=used_usd,
        held_usd=before_usd + held_usd,
        requests=_rate(requests_per_minute, requests_seconds, requests),
        tokens=_rate(tokens_per_minute, tokens_seconds, tokens),
    )


def _rate(limit: int | None, seconds: float, taken: int) -> Rate | None:
    """Return what is left of a rate, *taken* later than *seconds* were until it was free."""
    if limit is None:
        return None
    busy_seconds = max(seconds, 0.0) + taken * MINUTE_SECONDS / limit
    left = math.floor((MINUTE_SECONDS - busy_seconds) * limit / MINUTE_SECONDS + 1e-6)
    return Rate(limit, max(left, 0), busy_seconds)


def _admit(row: Row, asked: Sequence[Reservation]) -> None:
    held_usd, requests, tokens = ZERO, 0, 0
    now = time.monotonic()
    for each in asked:
        held_usd += each.amount_usd
        requests += each.request_count
        tokens += each.token_count
        each.state = _state(row, held_usd, requests, tokens)
        each.decided_at = now


def _refuse(row: Row, asked: Sequence[Reservation]) -> list[Reservation]:
    """Refuse those that don't fit, and return the others."""
    fitting: list[Reservation] = []
    held_usd, requests, tokens = ZERO, 0, 0
    for each in asked:
        state = _state(row, held_usd, requests, tokens)
        each.refused = _find_refusal(each, state)
        if each.refused is None:
            fitting.append(each)
            held_usd += each.amount_usd
            requests += each.request_count
            tokens += each.token_count
        else:
            each.state = state
    if len(fitting) == len(asked):
        # What was asked of together did not fit, by a rounding of the rates: the last one waits.
        last = fitting.pop()
        last.refused = "tokens" if last.token_count else "requests"
        last.state = _state(row, held_usd, requests, tokens)
    return fitting


def _find_refusal(asked: Reservation, state: TokenState) -> Limit | None:
    if state.limit_usd is not None:
        free_usd = state.limit_usd - state.used_usd - state.held_usd
        if asked.amount_usd > free_usd:
            return "budget"
    if state.requests is not None and asked.request_count > state.requests.left:
        return "requests"
    if state.tokens is not None and asked.token_count > state.tokens.left:
        return "tokens"
    return None
