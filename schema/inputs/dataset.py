"""Inputs about datasets."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import strawberry
from strawberry.scalars import JSON

from resolvers.where import ChangeFilter
from schema.enums import ChangeDecision, ChangeKind, ExpectedSource
from schema.inputs.run import DatasetSizeInput
from schema.inputs.trace import TraceFilterInput


@strawberry.input(description="What a pushed dataset takes, and when it is consolidated.")
class PushSettingsInput:
    """`resolvers.inputs.PushFields`."""

    auto_limit_size: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="Have snapshots keep at most maxSamplesToGather rows, instead of taking no "
        "more rows.",
    )
    max_samples_to_gather: int | None = strawberry.field(
        default=strawberry.UNSET, description="Rows that it holds at most."
    )
    daily_event_limit: int | None = strawberry.field(
        default=strawberry.UNSET, description="Rows accepted in a UTC day."
    )
    monthly_event_limit: int | None = strawberry.field(
        default=strawberry.UNSET, description="Rows accepted in a UTC month."
    )
    consolidate_every_events: int | None = strawberry.field(
        default=strawberry.UNSET, description="Make a snapshot when so many rows are pending."
    )
    consolidate_every_hours: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="Make a snapshot when rows have been pending for so long.",
    )
    dedupe: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Take the same content once: true when left out."
    )
    near_duplicate_threshold: float | None = strawberry.field(
        default=strawberry.UNSET,
        description="Leave rows out of snapshots whose inputs are as similar as this to another "
        "one's, 0.5 to 1.",
    )
    end_date: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="When it takes no more rows."
    )


@strawberry.input(description="Rows to push.")
class PushRowsInput:
    """Of `resolvers.push.push_rows`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Whose dataset it is.")
    rows: list[JSON] = strawberry.field(
        description="Objects, 1,000 at most. One of input, prompt, question, query and messages "
        "says what goes in; one of output, response, completion, answer and expected, what should "
        "come out; one of id, example_id and trace_id, which row it is. Also rubric, metadata "
        "and tags."
    )


@strawberry.input(description="A dataset to consolidate.")
class ConsolidateDatasetInput:
    """Names it."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Its leaderboard.")


@strawberry.input(
    description="What you say of a row; what is left out stays, and null takes it away or back."
)
class RowEditInput:
    """`resolvers.inputs.RowEdit`."""

    row_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="A row of a snapshot, by its DatasetRow's id."
    )
    external_id: str | None = strawberry.field(
        default=strawberry.UNSET, description="Or the id that it was given."
    )
    input: str | None = strawberry.field(
        default=strawberry.UNSET, description="What models are asked."
    )
    expected: str | None = strawberry.field(
        default=strawberry.UNSET, description="What they should answer."
    )
    rubric: str | None = strawberry.field(
        default=strawberry.UNSET, description="By what a judge judges."
    )
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="Its tags.")
    quality: float | None = strawberry.field(
        default=strawberry.UNSET, description="How good an example it is, 0 to 1."
    )
    weight: float | None = strawberry.field(
        default=strawberry.UNSET,
        description="How likely WEIGHTED_SHUFFLE draws it, against others of weight 1; 0 to 1,000.",
    )
    excluded: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Leave it out of snapshots."
    )
    reason: str | None = strawberry.field(
        default=strawberry.UNSET, description="Why, for whoever reads the history."
    )


@strawberry.input(description="Rows to label, correct or exclude.")
class EditRowsInput:
    """`resolvers.inputs.RowEdits`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Whose dataset it is.")
    rows: list[RowEditInput] = strawberry.field(description="1,000 at most.")


@strawberry.input(description="Traces to make rows of.")
class CreateRowsFromTracesInput:
    """`resolvers.inputs.RowsFromTraces`."""

    leaderboard_id: strawberry.ID = strawberry.field(
        description="Whose traces, and whose dataset, which must be a pushed one."
    )
    filter: TraceFilterInput | None = strawberry.field(
        default=None, description="Which of its traces; failed calls are passed over."
    )
    trace_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="These alone, of those that the filter admits."
    )
    limit: int = strawberry.field(
        default=1_000, description="Traces at most, the newest first; 10,000 at most."
    )
    expected: ExpectedSource = strawberry.field(
        default=ExpectedSource.NONE, description="What the rows expect."
    )
    min_score: float = strawberry.field(
        default=1.0, description="The score from which FEEDBACK takes the answer, 0 to 1."
    )
    tags: list[str] = strawberry.field(default_factory=list, description="The rows' tags.")


@strawberry.input(description="What you say of a model call.")
class AddFeedbackInput:
    """`resolvers.inputs.NewFeedback`."""

    trace_id: strawberry.ID = strawberry.field(description="The call.")
    score: float | None = strawberry.field(
        default=strawberry.UNSET, description="How good the answer was, 0 to 1."
    )
    correction: str | None = strawberry.field(
        default=strawberry.UNSET, description="What it should have been."
    )
    comment: str | None = strawberry.field(default=strawberry.UNSET, description="What else.")


@strawberry.input(description="Which of an improvement's changes.")
class ChangeFilterInput:
    """`resolvers.where.ChangeFilter`."""

    kind: ChangeKind | None = strawberry.field(default=None, description="Of this kind.")
    decision: ChangeDecision | None = strawberry.field(
        default=None, description="Of which this became."
    )


def read_change_filter(given: ChangeFilterInput | None) -> ChangeFilter:
    """Return the filter that was given."""
    if given is None:
        return ChangeFilter()
    kind: Any = given.kind.value if given.kind else None
    decision: Any = given.decision.value if given.decision else None
    return ChangeFilter(kind=kind, decision=decision)


@strawberry.input(description="Changes to accept or reject.")
class DecideChangesInput:
    """Names them."""

    improvement_id: strawberry.ID = strawberry.field(description="The improvement, or its run.")
    change_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Which changes; all that are not decided yet when left out."
    )


@strawberry.input(description="A dataset to improve.")
class ImproveDatasetInput:
    """`resolvers.inputs.NewImprovement`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Whose dataset it is.")
    dataset: DatasetSizeInput | None = strawberry.field(
        default=strawberry.UNSET, description="Which rows; every row when left out."
    )
    max_cost_usd: Decimal | None = strawberry.field(
        default=strawberry.UNSET,
        description="US dollars; the run stops before its calls can have cost more.",
    )
    candidate_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="Whom to ask; all candidates when left out."
    )
    auto_apply: bool = strawberry.field(
        default=False, description="Accept all that is proposed, instead of leaving it to a person."
    )


@strawberry.input(description="A push token to create.")
class CreatePushTokenInput:
    """`resolvers.inputs.NewPushToken`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Whom it may push to.")
    name: str = strawberry.field(description="For people.")


@strawberry.input(description="Push tokens to revoke.")
class RevokePushTokensInput:
    """`resolvers.inputs.RevokedPushTokens`."""

    leaderboard_id: strawberry.ID = strawberry.field(description="Whose they are.")
    token_id: strawberry.ID | None = strawberry.field(
        default=None, description="One of them; all when left out."
    )
