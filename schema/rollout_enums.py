"""The closed sets of values about rollouts and shadows, with what each value means."""

from enum import Enum

import strawberry
from strawberry import enum_value


@strawberry.enum(description="What decides who serves a request while a canary is out.")
class StickyBy(Enum):
    """`engine.rollouts.StickyBy`."""

    USER = enum_value(
        "user", description="The request's user, and the request itself where none is named."
    )
    TRACE = enum_value("trace", description="The request itself.")


@strawberry.enum(description="How far a rollout has come.")
class RolloutStatus(Enum):
    """`Rollout.status`."""

    RUNNING = enum_value("running", description="Its canary serves a share of the traffic.")
    COMPLETED = enum_value("completed", description="Its canary went into production.")
    ROLLED_BACK = enum_value("rolled_back", description="Its canary was taken back.")
    CANCELLED = enum_value(
        "cancelled", description="Something else took its place, or somebody ended it."
    )


@strawberry.enum(description="Who served a request of a rollout.")
class RolloutArm(Enum):
    """`engine.rollouts.Arm`."""

    CONTROL = enum_value("control", description="The model in production.")
    CANARY = enum_value("canary", description="The model that is promoted.")


@strawberry.enum(description="In what respect a canary is compared with production.")
class Guardrail(Enum):
    """`engine.guardrails.Guardrail`."""

    ERROR_RATE = enum_value("error_rate", description="The difference of their error rates.")
    LATENCY = enum_value("latency", description="The ratio of their geometric mean latencies.")
    COST = enum_value("cost", description="The ratio of their mean costs of a request.")
    SCORE = enum_value("score", description="The difference of their mean judge scores.")


@strawberry.enum(description="How a comparison stands to its limit.")
class GuardrailStanding(Enum):
    """`engine.guardrails.Standing`."""

    UNTESTED = enum_value(
        "untested", description="Too little is known to compare; it holds nothing up."
    )
    WITHIN = enum_value("within", description="What is known lies within the limit.")
    EXCEEDED = enum_value(
        "exceeded", description="It lies beyond, though not surely: the rollout waits."
    )
    VIOLATED = enum_value("violated", description="It surely lies beyond: the canary goes back.")


@strawberry.enum(description="What follows from a look at a rollout.")
class RolloutAction(Enum):
    """`engine.guardrails.Action`."""

    WAIT = enum_value("wait", description="It stays at its step.")
    ADVANCE = enum_value("advance", description="It takes its next step.")
    COMPLETE = enum_value("complete", description="Its canary goes into production.")
    ROLL_BACK = enum_value("roll_back", description="Its canary is taken back.")


@strawberry.enum(description="How far a shadow has come.")
class ShadowStatus(Enum):
    """`Shadow.status`."""

    RUNNING = enum_value("running", description="A share of the requests go to its challenger too.")
    STOPPED = enum_value("stopped", description="Somebody ended it, or something took its place.")
    EXHAUSTED = enum_value(
        "exhausted",
        description="Its budget is spent, or has no room for its smallest call.",
    )
    ENDED = enum_value("ended", description="Its time is over.")
