"""Mutations about reviews: taking one, saying what is to be said, or passing it on."""

from typing import Annotated

import strawberry

from resolvers import reviews
from resolvers.inputs import NewReview, SkippedReview
from schema.context import Info
from schema.inputs.fields import given_fields
from schema.inputs.review import AssignReviewInput, SkipReviewInput, SubmitReviewInput
from schema.mutations.changed import Changed
from schema.scalars import read_id, read_optional_id
from schema.types.review import Review

OWN_ID = frozenset({"id"})


@strawberry.type(description="What there is to review.")
class AssignReviewPayload:
    """Over `Changed`."""

    review: Review | None = strawberry.field(description="Null when nothing is left for you.")


@strawberry.type(description="The review that was done or skipped.")
class ReviewPayload:
    """Over `Changed`."""

    review: Review = strawberry.field(description="The review, as it is now.")


async def assign_review(
    info: Info,
    input: Annotated[AssignReviewInput, strawberry.argument(description="Of which run.")],
) -> Changed:
    """Take something to review."""
    review = await reviews.assign_review(
        info.context.ctx,
        read_id("runId", input.run_id),
        result_id=read_optional_id("resultId", input.result_id),
    )
    return Changed(review=review)


async def submit_review(
    info: Info,
    input: Annotated[SubmitReviewInput, strawberry.argument(description="What you say.")],
) -> Changed:
    """Say what is to be said."""
    new = NewReview.model_validate(given_fields(input, without=OWN_ID))
    review = await reviews.submit_review(info.context.ctx, read_id("id", input.id), new)
    return Changed(review=review)


async def skip_review(
    info: Info,
    input: Annotated[SkipReviewInput, strawberry.argument(description="What you pass on.")],
) -> Changed:
    """Pass a review on."""
    new = SkippedReview.model_validate(given_fields(input, without=OWN_ID))
    review = await reviews.skip_review(info.context.ctx, read_id("id", input.id), new)
    return Changed(review=review)
