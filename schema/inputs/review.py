"""Inputs about reviews."""

import strawberry

from schema.enums import Preference


@strawberry.input(description="What to review.")
class AssignReviewInput:
    """Names the run."""

    run_id: strawberry.ID = strawberry.field(
        description="A run that awaits review, or a completed one that a judge has scored."
    )
    result_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="This result; one drawn by chance when left out. What is chosen corrects its "
        "own score alone: it does not stand for others.",
    )


@strawberry.input(description="What a reviewer says: a score or a preference.")
class SubmitReviewInput:
    """`resolvers.inputs.NewReview`."""

    id: strawberry.ID = strawberry.field(description="The review.")
    score: float | None = strawberry.field(
        default=None, description="On the evaluation's scale: 0 to 5 unless it says otherwise."
    )
    preferred: Preference | None = strawberry.field(
        default=None, description="Which of the two answers is better."
    )
    comment: str | None = strawberry.field(default=None, description="Your words.")


@strawberry.input(description="A review to pass on.")
class SkipReviewInput:
    """Names it."""

    id: strawberry.ID = strawberry.field(description="The review.")
    comment: str | None = strawberry.field(default=None, description="Why.")
