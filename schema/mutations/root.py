"""The Mutation root: one field for each thing that a user does."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import strawberry
from strawberry.scalars import JSON

from compiled_graphql.selection import selected_names
from db.records import Row
from resolvers import candidate_changes, candidates, inference, integrations, leaderboards, traces
from resolvers.errors import InvalidInputError
from resolvers.inference import InferenceAnswer
from resolvers.inference_request import InferenceRequest
from resolvers.inputs import (
    CandidateChanges,
    LeaderboardChanges,
    NewCandidate,
    NewIntegration,
    NewLeaderboard,
)
from schema.context import Info
from schema.enums import IntegrationProvider
from schema.fields import resolved
from schema.inputs.candidate import AddCandidateInput, RemoveCandidateInput, UpdateCandidateInput
from schema.inputs.fields import given_fields
from schema.inputs.inference import InferInput, SaveIntegrationInput
from schema.inputs.leaderboard import (
    CreateLeaderboardInput,
    DeleteLeaderboardInput,
    UpdateLeaderboardInput,
)
from schema.mutations import datasets as dataset_mutations
from schema.mutations import improvements as improvement_mutations
from schema.mutations import labels as label_mutations
from schema.mutations import production as production_mutations
from schema.mutations import reviews as review_mutations
from schema.mutations import rollouts as rollout_mutations
from schema.mutations import runs as run_mutations
from schema.mutations.changed import Changed
from schema.mutations.datasets import (
    AddFeedbackPayload,
    ConsolidateDatasetPayload,
    CreatePushTokenPayload,
    CreateRowsFromTracesPayload,
    EditRowsPayload,
    PushRowsPayload,
    RevokePushTokensPayload,
)
from schema.mutations.improvements import ImprovementPayload
from schema.mutations.labels import EstimateAutoLabelsPayload, JobPayload
from schema.mutations.production import RollBackProductionPayload
from schema.mutations.redaction import UpdateRedactionPayload, update_redaction
from schema.mutations.reviews import AssignReviewPayload, ReviewPayload
from schema.mutations.rollouts import RolloutPayload, ShadowPayload
from schema.mutations.runs import EstimateRunPayload, RunPayload
from schema.mutations.traces import AddTracePayload, add_trace
from schema.mutations.workspaces import WorkspacePayload, update_workspace
from schema.scalars import read_id
from schema.types.candidate import CandidateModel
from schema.types.leaderboard import Leaderboard
from schema.types.trace import Trace

OWN_ID = frozenset({"id"})
LEADERBOARD_ID = frozenset({"leaderboard_id"})


@strawberry.type(description="What creating or changing a leaderboard changed.")
class LeaderboardPayload:
    """Over `Changed`."""

    leaderboard: Leaderboard = strawberry.field(description="The leaderboard, as it is now.")


@strawberry.type(description="What deleting a leaderboard changed.")
class DeleteLeaderboardPayload:
    """Over `Changed`."""

    deleted_id: strawberry.ID = strawberry.field(description="The leaderboard that is gone.")


@strawberry.type(description="What adding or removing a candidate changed.")
class CandidatePayload:
    """Over `Changed`."""

    candidate: CandidateModel = strawberry.field(description="The candidate, as it is now.")
    leaderboard: Leaderboard = strawberry.field(description="Its leaderboard.")


@strawberry.type(description="A provider key that is saved; the key itself is never shown.")
class Integration:
    """Over rows of `db.models.Integration`."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    provider: IntegrationProvider = strawberry.field(description="The provider.")
    updated_at: datetime = strawberry.field(description="When the key was saved.")


@strawberry.type(description="What saving a key changed.")
class SaveIntegrationPayload:
    """Over `Changed`."""

    integration: Integration = strawberry.field(description="The saved key.")


async def inference_trace(root: strawberry.Parent[InferenceAnswer], info: Info) -> Row:
    """Return the call."""
    columns = selected_names(info, "Trace")
    return await traces.get_trace(info.context.ctx, root.trace_id, columns)


@strawberry.type(description="What the model in production answered.")
class InferPayload:
    """Over `resolvers.inference.InferenceAnswer`."""

    output: str = strawberry.field(description="The answer's text.")
    completion: JSON | None = strawberry.field(
        description="The endpoint's whole chat completion, when it sent one."
    )
    trace_id: strawberry.ID = strawberry.field(description="The call's trace.")
    candidate: CandidateModel = strawberry.field(description="Who answered.")
    prompt_tokens: int | None = strawberry.field(description="Tokens sent.")
    completion_tokens: int | None = strawberry.field(description="Tokens generated.")
    cost_usd: Decimal | None = strawberry.field(description="US dollars; null when unknown.")
    latency_ms: float = strawberry.field(description="Request sent to answer read.")
    trace: Trace = resolved(inference_trace, "The call.")


async def create_leaderboard(
    info: Info,
    input: Annotated[CreateLeaderboardInput, strawberry.argument(description="What to create.")],
) -> Changed:
    """Create a leaderboard."""
    new = NewLeaderboard.model_validate(_with_push(given_fields(input)))
    return Changed(leaderboard=await leaderboards.create_leaderboard(info.context.ctx, new))


async def update_leaderboard(
    info: Info,
    input: Annotated[UpdateLeaderboardInput, strawberry.argument(description="What to change.")],
) -> Changed:
    """Change a leaderboard."""
    given = _with_push(given_fields(input, without=OWN_ID))
    changes = LeaderboardChanges.model_validate(given)
    leaderboard_id = read_id("id", input.id)
    return Changed(
        leaderboard=await leaderboards.update_leaderboard(info.context.ctx, leaderboard_id, changes)
    )


def _with_push(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with those of a pushed dataset among them, as the use case takes them."""
    pushed = given.pop("push", None) or {}
    return {**given, **pushed}


async def delete_leaderboard(
    info: Info,
    input: Annotated[DeleteLeaderboardInput, strawberry.argument(description="What to delete.")],
) -> Changed:
    """Delete a leaderboard."""
    leaderboard_id = read_id("id", input.id)
    await leaderboards.delete_leaderboard(info.context.ctx, leaderboard_id)
    return Changed(deleted_id=leaderboard_id)


async def add_candidate(
    info: Info,
    input: Annotated[AddCandidateInput, strawberry.argument(description="What to add.")],
) -> Changed:
    """Add a candidate."""
    ctx = info.context.ctx
    new = NewCandidate.model_validate(given_fields(input, without=LEADERBOARD_ID))
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    candidate = await candidates.add_candidate(ctx, leaderboard_id, new)
    return Changed(
        candidate=candidate,
        leaderboard=await leaderboards.get_leaderboard(ctx, leaderboard_id),
    )


async def update_candidate(
    info: Info,
    input: Annotated[UpdateCandidateInput, strawberry.argument(description="What to change.")],
) -> Changed:
    """Change a candidate."""
    ctx = info.context.ctx
    changes = CandidateChanges.model_validate(
        given_fields(input, without=LEADERBOARD_ID | {"candidate_id"})
    )
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    candidate = await candidate_changes.update_candidate(
        ctx, leaderboard_id, read_id("candidateId", input.candidate_id), changes
    )
    return Changed(
        candidate=candidate,
        leaderboard=await leaderboards.get_leaderboard(ctx, leaderboard_id),
    )


async def remove_candidate(
    info: Info,
    input: Annotated[RemoveCandidateInput, strawberry.argument(description="What to remove.")],
) -> Changed:
    """Take a candidate off."""
    ctx = info.context.ctx
    leaderboard_id = read_id("leaderboardId", input.leaderboard_id)
    candidate = await candidates.remove_candidate(
        ctx, leaderboard_id, read_id("candidateId", input.candidate_id)
    )
    return Changed(
        candidate=candidate,
        leaderboard=await leaderboards.get_leaderboard(ctx, leaderboard_id),
    )


async def infer(
    info: Info,
    input: Annotated[InferInput, strawberry.argument(description="What to ask.")],
) -> InferenceAnswer:
    """Ask the model in production."""
    given = given_fields(input, without=LEADERBOARD_ID)
    params = given.pop("params", None)
    if not isinstance(params, dict | None):
        raise InvalidInputError(f"params: must be an object (got {params!r})")
    ctx = info.context.ctx
    return await inference.infer(
        ctx,
        read_id("leaderboardId", input.leaderboard_id),
        InferenceRequest.model_validate({**(params or {}), **given}),
        metadata={"request_id": ctx.request_id},
    )


async def save_integration(
    info: Info,
    input: Annotated[SaveIntegrationInput, strawberry.argument(description="What to save.")],
) -> Changed:
    """Save a provider key."""
    new = NewIntegration.model_validate(given_fields(input))
    return Changed(integration=await integrations.save_integration(info.context.ctx, new))


@strawberry.type(description="What can be done.")
class Mutation:
    """The mutation root."""

    create_leaderboard: LeaderboardPayload = resolved(
        create_leaderboard,
        "Create a leaderboard, once its dataset's first rows have been read.",
    )
    update_leaderboard: LeaderboardPayload = resolved(
        update_leaderboard,
        "Change a leaderboard; runs under way keep what they started with.",
    )
    delete_leaderboard: DeleteLeaderboardPayload = resolved(
        delete_leaderboard, "Delete a leaderboard; its runs stop."
    )
    add_candidate: CandidatePayload = resolved(
        add_candidate, "Add a candidate model to a leaderboard."
    )
    update_candidate: CandidatePayload = resolved(
        update_candidate,
        "Change a candidate's name, prices or time-outs; calls from now on are charged by the new "
        "prices.",
    )
    remove_candidate: CandidatePayload = resolved(
        remove_candidate,
        "Take a candidate off its leaderboard; rankings that it is in keep it.",
    )
    start_run: RunPayload = resolved(
        run_mutations.start_run,
        "Queue a run of a leaderboard's candidates; the runs of a leaderboard go one by one.",
    )
    cancel_run: RunPayload = resolved(
        run_mutations.cancel_run,
        "End a run: no further call begins within a second, and what is done stays.",
    )
    rescore_run: RunPayload = resolved(
        run_mutations.rescore_run,
        "Queue a run that scores what another one was answered by the evaluation of today. It "
        "makes no call, and ranks as any other run does.",
    )
    replay_run: RunPayload = resolved(
        run_mutations.replay_run,
        "Queue a run that asks another one's questions again, with its inputs as they were then. "
        "It changes neither the ranking nor production; runComparison tells the differences.",
    )
    estimate_run: EstimateRunPayload = resolved(
        run_mutations.estimate_run,
        "Work out what a run would cost; no model is called.",
    )
    assign_review: AssignReviewPayload = resolved(
        review_mutations.assign_review,
        "Take an answer to review, or two to compare; what you have in hand is given again.",
    )
    submit_review: ReviewPayload = resolved(
        review_mutations.submit_review,
        "Say what you think of it. A run that has enough reviews is ranked.",
    )
    skip_review: ReviewPayload = resolved(
        review_mutations.skip_review, "Leave it to others; you are not given it again."
    )
    roll_back_production: RollBackProductionPayload = resolved(
        production_mutations.roll_back_production,
        "Put the model back that served before a change of production.",
    )
    start_rollout: RolloutPayload = resolved(
        rollout_mutations.start_rollout,
        "Promote a model step by step, which ends in production or takes itself back; a rollout "
        "that runs gives way to it.",
    )
    advance_rollout: RolloutPayload = resolved(
        rollout_mutations.advance_rollout,
        "Take a rollout's next step now; the last one puts its canary into production.",
    )
    cancel_rollout: RolloutPayload = resolved(
        rollout_mutations.cancel_rollout,
        "End a rollout for no fault of its canary; production serves everybody again.",
    )
    roll_back_rollout: RolloutPayload = resolved(
        rollout_mutations.roll_back_rollout,
        "Take a canary back, which is recorded; production serves everybody again.",
    )
    start_shadow: ShadowPayload = resolved(
        rollout_mutations.start_shadow,
        "Have a share of production's requests go to a challenger too, which is traced and "
        "answers nobody; one that runs gives way to it.",
    )
    stop_shadow: ShadowPayload = resolved(
        rollout_mutations.stop_shadow, "End a shadow: no further request goes to its challenger."
    )
    push_rows: PushRowsPayload = resolved(
        dataset_mutations.push_rows,
        "Take rows into a dataset; those that the receipt calls accepted are stored.",
    )
    consolidate_dataset: ConsolidateDatasetPayload = resolved(
        dataset_mutations.consolidate_dataset,
        "Make a snapshot of a pushed dataset's pending rows and edits now.",
    )
    edit_rows: EditRowsPayload = resolved(
        dataset_mutations.edit_rows,
        "Label, correct or exclude rows by hand; the next snapshot carries it.",
    )
    create_rows_from_traces: CreateRowsFromTracesPayload = resolved(
        dataset_mutations.create_rows_from_traces,
        "Push rows made of a leaderboard's traces into its dataset; a trace becomes a row once.",
    )
    add_feedback: AddFeedbackPayload = resolved(
        dataset_mutations.add_feedback,
        "Say what a model call was worth, and what it should have answered.",
    )
    add_trace: AddTracePayload = resolved(
        add_trace, "Store a model call that was made elsewhere; it is stored when this answers."
    )
    improve_dataset: RunPayload = resolved(
        improvement_mutations.improve_dataset,
        "Queue a run that proposes changes of a dataset by what its candidates answer.",
    )
    accept_changes: ImprovementPayload = resolved(
        improvement_mutations.accept_changes,
        "Accept changes that a run proposes; the next snapshot carries them.",
    )
    reject_changes: ImprovementPayload = resolved(
        improvement_mutations.reject_changes, "Reject changes that a run proposes."
    )
    start_auto_labels: JobPayload = resolved(
        label_mutations.start_auto_labels,
        "Have a model label rows, never over what they came with or a person said; the next "
        "snapshot carries it.",
    )
    estimate_auto_labels: EstimateAutoLabelsPayload = resolved(
        label_mutations.estimate_auto_labels,
        "Work out what that would cost; no model is called.",
    )
    cancel_job: JobPayload = resolved(
        label_mutations.cancel_job,
        "End a job: no further call begins within a second, and what is done stays.",
    )
    create_push_token: CreatePushTokenPayload = resolved(
        dataset_mutations.create_push_token,
        "Create a token that pushes rows to one leaderboard, and does nothing else.",
    )
    revoke_push_tokens: RevokePushTokensPayload = resolved(
        dataset_mutations.revoke_push_tokens,
        "Revoke a leaderboard's push tokens, or one of them; within a second they are refused.",
    )
    infer: InferPayload = resolved(
        infer,
        "Ask the model in production; the trace is stored before the answer is sent.",
    )
    update_workspace: WorkspacePayload = resolved(
        update_workspace,
        "Change the caller's workspace; for owners and admins, signed in as users.",
    )
    update_redaction: UpdateRedactionPayload = resolved(
        update_redaction,
        "Change what is taken out of traces before they are stored, from the next one on; for "
        "owners and admins, signed in as users.",
    )
    save_integration: SaveIntegrationPayload = resolved(
        save_integration,
        "Check a provider key and save it; for owners and admins, signed in as users.",
    )
