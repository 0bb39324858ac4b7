"""What the routes that take traces in answer."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from rest_compat.shapes import Shape


class AddedTraceShape(Shape):
    """A trace that is stored now."""

    id: UUID = Field(validation_alias="trace_id")
    is_new: bool = Field(description="Whether it was not stored before.")


class AddedTracesShape(Shape):
    """Traces that are stored now."""

    leaderboard_id: UUID
    added: int = Field(description="How many are new.")
    duplicates: int = Field(description="How many were stored before, which stay as they were.")
    traces: list[AddedTraceShape] = Field(description="Each of them, in order.")


class RpcStatus(BaseModel):
    """A failure, as OTLP tells it: a google.rpc.Status."""

    code: int = Field(description="A google.rpc.Code.")
    message: str = Field(default="", description="For people.")
    details: list[dict[str, Any]] = Field(
        default=[], description="A google.rpc.BadRequest, when a field of the body is wrong."
    )


class PartialSuccess(BaseModel):
    """What was not taken."""

    rejectedSpans: str | None = Field(  # noqa: N815 - OTLP's name
        default=None, description="How many spans, a 64-bit integer as protobuf's JSON writes it."
    )
    errorMessage: str | None = Field(  # noqa: N815 - OTLP's name
        default=None, description="Why."
    )


class SpansAnswer(BaseModel):
    """An ExportTraceServiceResponse: empty when every span was taken."""

    partialSuccess: PartialSuccess | None = None  # noqa: N815 - OTLP's name
