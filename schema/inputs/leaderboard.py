"""Inputs about leaderboards."""

import strawberry

from schema.enums import DatasetType, EvalType, MatchMode, ModelSelection


@strawberry.input(description="How answers are scored against what was expected.")
class EvaluationInput:
    """`resolvers.inputs.Evaluation`."""

    match: MatchMode = strawberry.field(
        default=MatchMode.EXACT, description="How the two are compared."
    )
    extract: str | None = strawberry.field(
        default=None,
        description="A regex (RE2) applied to the answer first: its first group, else its match.",
    )


@strawberry.input(description="A leaderboard to create.")
class CreateLeaderboardInput:
    """`resolvers.inputs.NewLeaderboard`."""

    name: str = strawberry.field(description="Its name.")
    system_prompt: str = strawberry.field(
        description="The task; {input}, {question} and {query} stand for a row's input, which is "
        "appended when there is none of them."
    )
    dataset_url: str = strawberry.field(
        description="A Hugging Face URL of a .jsonl or .jsonl.gz file; its first rows are read now."
    )
    dataset_type: DatasetType = strawberry.field(
        default=DatasetType.GET, description="Where its rows come from."
    )
    eval_type: EvalType = strawberry.field(
        default=EvalType.EXACT, description="How answers are evaluated."
    )
    evaluation: EvaluationInput | None = strawberry.field(
        default=strawberry.UNSET, description="The evaluation's settings."
    )


@strawberry.input(description="What to change; what is left out stays.")
class UpdateLeaderboardInput:
    """`resolvers.inputs.LeaderboardChanges`."""

    id: strawberry.ID = strawberry.field(description="The leaderboard.")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="Its name.")
    system_prompt: str | None = strawberry.field(default=strawberry.UNSET, description="The task.")
    dataset_url: str | None = strawberry.field(
        default=strawberry.UNSET, description="Where its rows are read."
    )
    evaluation: EvaluationInput | None = strawberry.field(
        default=strawberry.UNSET, description="The evaluation's settings."
    )
    model_selection: ModelSelection | None = strawberry.field(
        default=strawberry.UNSET, description="Which model serves production."
    )
    selected_candidate_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="Who is pinned; null unpins."
    )


@strawberry.input(description="A leaderboard to delete.")
class DeleteLeaderboardInput:
    """Names it."""

    id: strawberry.ID = strawberry.field(description="The leaderboard.")
