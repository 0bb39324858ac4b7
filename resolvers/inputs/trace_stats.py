"""Inputs about statistics of traces."""

from typing import Literal

from pydantic import Field

from resolvers.inputs.base import Input, WrittenInstant
from resolvers.trace_filter import TraceSource


class TraceStatsQuery(Input):
    """Which sums of traces are asked for."""

    since: WrittenInstant | None = Field(
        default=None,
        description="From the hour, or the UTC day, that this is in; a day before `until` when "
        "left out.",
    )
    until: WrittenInstant | None = Field(
        default=None,
        description="To the end of the hour, or the UTC day, that is under way then; now when left "
        "out.",
    )
    interval: Literal["hour", "day"] = Field(default="hour", description="What a point spans.")
    by: Literal["none", "model", "source"] = Field(
        default="none", description="What else points are told apart by."
    )
    source: TraceSource | None = Field(default=None, description="Of traces made for this alone.")
    model: str | None = Field(default=None, description="Of traces of this model alone.")
