"""What the serving path has to know of a leaderboard's rollout and shadow, and nothing else."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select

from db.models import Rollout, Shadow
from db.session import ReadSession
from engine.rollouts import Arm, Observation, StickyBy, is_sampled, takes_part


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """A rollout that runs.

    Attributes:
        step: Which its requests are counted under.
        share: Of the traffic, below 1.
    """

    rollout_id: UUID
    canary_candidate_id: UUID
    step: int
    share: float
    sticky_by: StickyBy

    def assign(self, trace_id: UUID, user: str | None) -> Arm:
        """Return who serves a request.

        Args:
            trace_id: The request's trace.
            user: The request's `user`, if it names one.
        """
        key = user if user and self.sticky_by == "user" else str(trace_id)
        return Arm.CANARY if takes_part(key, self.rollout_id, self.share) else Arm.CONTROL

    def note(self, arm: Arm) -> dict[str, Any]:
        """Return what the metadata of a request's trace must hold: by it, answers are judged."""
        return {"rollout": {"id": str(self.rollout_id), "step": self.step, "arm": arm.value}}

    def observe(
        self, arm: Arm, *, is_error: bool, latency_ms: float, cost_usd: Decimal | None
    ) -> Observation:
        """Return what counts of a request that has ended."""
        return Observation(self.rollout_id, self.step, arm, is_error, latency_ms, cost_usd)


@dataclass(frozen=True, slots=True)
class ShadowPlan:
    """A shadow that runs.

    Attributes:
        share: Of the requests.
        ends_at: From then on nobody is sampled; None for no such time.
    """

    shadow_id: UUID
    challenger_id: UUID
    share: float
    ends_at: datetime | None

    def samples(self, trace_id: UUID, now: datetime) -> bool:
        """Tell whether a request also goes to the challenger."""
        is_over = self.ends_at is not None and now >= self.ends_at
        return not is_over and is_sampled(str(trace_id), self.shadow_id, self.share)

    def note(self, trace_id: UUID) -> dict[str, Any]:
        """Return what the metadata of the challenger's trace must hold: whose shadow it is."""
        return {"shadow": {"id": str(self.shadow_id), "trace_id": str(trace_id)}}


async def load_plans(
    session: ReadSession, leaderboard_id: UUID
) -> tuple[RolloutPlan | None, ShadowPlan | None]:
    """Return a leaderboard's rollout and shadow, as far as they run."""
    rollout = await session.scalar(
        select(Rollout).where(Rollout.leaderboard_id == leaderboard_id, Rollout.status == "running")
    )
    shadow = await session.scalar(
        select(Shadow).where(Shadow.leaderboard_id == leaderboard_id, Shadow.status == "running")
    )
    return None if rollout is None else _plan(rollout), None if shadow is None else _try(shadow)


def _plan(rollout: Rollout) -> RolloutPlan:
    sticky_by: StickyBy = rollout.settings["sticky_by"]
    return RolloutPlan(rollout.id, rollout.to_candidate_id, rollout.step, rollout.share, sticky_by)


def _try(shadow: Shadow) -> ShadowPlan:
    return ShadowPlan(shadow.id, shadow.challenger_id, shadow.share, shadow.ends_at)
