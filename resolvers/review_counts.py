"""How far the review of a run has come, and what preferences amount to."""

import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, select, union_all, update
from sqlalchemy.orm import aliased

from db.models import Review, Run, RunCandidate, RunComparison, RunResult
from db.session import ReadSession, WriteSession
from resolvers.loaders.base import among_keys, own_workspace
from resolvers.paging import AnySelect


@dataclass(frozen=True, slots=True)
class ReviewCounts:
    """How far a run's review has come, in answers, or in pairs of them where those are compared.

    Attributes:
        needed: Reviews that the ranking takes; 0 for a run that a judge has scored.
        done: Reviews there are.
        assigned: Reviews that somebody is at.
        skipped: Reviews that somebody would not do.
    """

    needed: int
    done: int
    assigned: int
    skipped: int

    @property
    def left(self) -> int:
        """Reviews that the ranking still waits for."""
        return max(self.needed - self.done, 0)


def write_counts() -> AnySelect:
    """Return the statement of the counts of the runs whose ids are the parameter `keys`."""
    answers, reviews, compared = _write_answers(), _write_reviews(), _write_compared()
    return (
        select(
            Run.id,
            Run.evaluation,
            answers.c.answers,
            answers.c.pairs,
            answers.c.scored,
            compared.c.compared,
            func.coalesce(reviews.c.done, 0).label("done"),
            func.coalesce(reviews.c.assigned, 0).label("assigned"),
            func.coalesce(reviews.c.skipped, 0).label("skipped"),
        )
        .outerjoin(answers, answers.c.run_id == Run.id)
        .outerjoin(reviews, reviews.c.run_id == Run.id)
        .outerjoin(compared, compared.c.run_id == Run.id)
        .where(among_keys(Run.id), own_workspace(Run.workspace_id))
    )


def _write_answers() -> Any:
    """Return how much there is to review of each run that people score, and what is scored."""
    of_people = Run.evaluation.has_key("human")
    by_row = (
        select(
            RunResult.run_id,
            func.count(RunResult.output).label("answered"),
            func.count(RunResult.human_score).label("scored"),
        )
        .join(Run, Run.id == RunResult.run_id)
        .where(among_keys(RunResult.run_id), of_people)
        .group_by(RunResult.run_id, RunResult.position)
        .subquery()
    )
    answered = by_row.c.answered
    return (
        select(
            by_row.c.run_id,
            func.sum(answered).label("answers"),
            func.sum(answered * (answered - 1) / 2).label("pairs"),
            func.sum(by_row.c.scored).label("scored"),
        )
        .group_by(by_row.c.run_id)
        .subquery()
    )


def _write_reviews() -> Any:
    """Return how many reviews of each run are in which state."""
    return (
        select(
            Review.run_id,
            *(
                func.count().filter(Review.status == status).label(status)
                for status in ("done", "skipped")
            ),
            func.count()
            .filter(Review.status == "assigned", Review.expires_at > func.now())
            .label("assigned"),
        )
        .where(among_keys(Review.run_id))
        .group_by(Review.run_id)
        .subquery()
    )


def _write_compared() -> Any:
    """Return how many pairs of each run's answers have been compared."""
    return (
        select(RunComparison.run_id, func.count().label("compared"))
        .where(among_keys(RunComparison.run_id))
        .group_by(RunComparison.run_id)
        .subquery()
    )


def read_counts(row: Any) -> ReviewCounts:
    """Return the counts in a row of `write_counts`."""
    evaluation, needed, done = row.evaluation, 0, row.done
    if "human" in evaluation:
        # What people have said of the answers that are scored again counts as well.
        is_prefer = evaluation["review_mode"] == "prefer"
        total, done = (row.pairs, row.compared) if is_prefer else (row.answers, row.scored)
        needed = math.ceil(round(int(total or 0) * evaluation["review_share"], 9))
    return ReviewCounts(needed, int(done or 0), row.assigned, row.skipped)


async def count_reviews(session: ReadSession, run: Run) -> ReviewCounts:
    """Return how far the review of *run* has come."""
    values = {"keys": [run.id], "workspace_id": run.workspace_id}
    return read_counts((await session.execute(write_counts(), values)).one())


def is_comparing(run: Run) -> bool:
    """Tell whether reviewers of *run* compare two answers."""
    return "human" in run.evaluation and run.evaluation["review_mode"] == "prefer"


def reviewables(run: Run) -> Any:
    """Return a statement of what there is to review: position, candidate_id, other_candidate_id.

    Of one answer both candidates are the same.
    """
    answered = aliased(RunResult)
    one = (answered.run_id == run.id, answered.output.is_not(None))
    if not is_comparing(run):
        return select(
            answered.position,
            answered.candidate_id,
            answered.candidate_id.label("other_candidate_id"),
            answered.id,
        ).where(*one, answered.human_score.is_(None))
    other = aliased(RunResult)
    compared = (
        select(RunComparison.run_id)
        .where(
            RunComparison.run_id == answered.run_id,
            RunComparison.position == answered.position,
            RunComparison.first_candidate_id == answered.candidate_id,
            RunComparison.second_candidate_id == other.candidate_id,
        )
        .exists()
    )
    place, other_place = aliased(RunCandidate), aliased(RunCandidate)
    return (
        select(
            answered.position,
            answered.candidate_id,
            other.candidate_id.label("other_candidate_id"),
            answered.id,
        )
        .join(other, (other.run_id == answered.run_id) & (other.position == answered.position))
        .join(
            place,
            (place.run_id == answered.run_id) & (place.candidate_id == answered.candidate_id),
        )
        .join(
            other_place,
            (other_place.run_id == other.run_id) & (other_place.candidate_id == other.candidate_id),
        )
        .where(*one, other.output.is_not(None), place.position < other_place.position, ~compared)
    )


async def settle_preferences(session: WriteSession, run: Run) -> None:
    """Score each answer that was compared by the share of its comparisons that it won."""
    if not is_comparing(run):
        return
    own = RunComparison.run_id == run.id
    sides = [
        select(
            RunComparison.position,
            candidate.label("candidate_id"),
            case(
                (RunComparison.outcome == side, 1.0),
                (RunComparison.outcome == "tie", 0.5),
                else_=0.0,
            ).label("worth"),
        ).where(own)
        for candidate, side in (
            (RunComparison.first_candidate_id, "first"),
            (RunComparison.second_candidate_id, "second"),
        )
    ]
    both = union_all(*sides).subquery()
    shares = (
        select(both.c.position, both.c.candidate_id, func.avg(both.c.worth).label("score"))
        .group_by(both.c.position, both.c.candidate_id)
        .subquery()
    )
    await session.execute(
        update(RunResult)
        .where(
            RunResult.run_id == run.id,
            RunResult.position == shares.c.position,
            RunResult.candidate_id == shares.c.candidate_id,
            RunResult.is_pending,
        )
        .values(score=shares.c.score, is_pending=False)
        .execution_options(synchronize_session=False)
    )
