"""Inputs about workspaces."""

from typing import Annotated

from pydantic import Field

from resolvers.inputs.base import Input


class WorkspaceChanges(Input):
    """What to change of a workspace; what is not set stays."""

    trace_retention_days: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="How long traces are kept, in days; null for as long as the deployment keeps "
        "them.",
    )
