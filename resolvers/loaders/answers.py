"""Batched questions about a candidate's answer to a row of a run."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Uuid, bindparam, case, func, select
from typing_extensions import override

from db.models import Run, RunComparison, RunResult
from db.records import Row
from resolvers.columns import Columns
from resolvers.loaders.base import Loader, V, own_workspace
from resolvers.paging import AnySelect

# Run id, candidate id, and the row's position in the run's snapshot.
AnswerPlace: TypeAlias = tuple[UUID, UUID, int]


class _ByAnswerPlace(Loader[AnswerPlace, V]):
    """Parent of what is asked of answers by their places."""

    @staticmethod
    def asked() -> Any:
        """Return the places that are asked for, as a table."""
        return (
            func.unnest(
                bindparam("run_ids", type_=ARRAY(Uuid())),
                bindparam("candidate_ids", type_=ARRAY(Uuid())),
                bindparam("positions", type_=ARRAY(Integer())),
            )
            .table_valued("run_id", "candidate_id", "position")
            .render_derived()
        )

    async def rows_at(self, places: Sequence[AnswerPlace]) -> list[tuple[AnswerPlace, Row]]:
        """Return the statement's rows, each with the place that it is of."""
        run_ids, candidate_ids, positions = (list(part) for part in zip(*places, strict=True))
        rows = await self.rows(run_ids=run_ids, candidate_ids=candidate_ids, positions=positions)
        return [((row["run_id"], row["candidate_id"], row["position"]), row) for row in rows]


class OutputByPlace(_ByAnswerPlace[str | None]):
    """What was answered."""

    @override
    @classmethod
    def write(cls) -> AnySelect:
        asked = cls.asked()
        columns = (RunResult.run_id, RunResult.candidate_id, RunResult.position, RunResult.output)
        return (
            select(*columns)
            .join(
                asked,
                (asked.c.run_id == RunResult.run_id)
                & (asked.c.candidate_id == RunResult.candidate_id)
                & (asked.c.position == RunResult.position),
            )
            .join(Run, Run.id == RunResult.run_id)
            .where(own_workspace(Run.workspace_id))
        )

    @override
    async def fetch(
        self, keys: Sequence[AnswerPlace], columns: Columns
    ) -> Mapping[AnswerPlace, str | None]:
        return {place: row["output"] for place, row in await self.rows_at(keys)}

    @override
    def absent(self, key: AnswerPlace) -> str | None:
        return None


class ComparisonsByPlace(_ByAnswerPlace[Sequence[Row]]):
    """How an answer did against the other candidates', in the run's order of these."""

    @override
    @classmethod
    def write(cls) -> AnySelect:
        asked = cls.asked()
        first_id, second_id = RunComparison.first_candidate_id, RunComparison.second_candidate_id
        is_first = first_id == asked.c.candidate_id
        outcome = RunComparison.outcome
        is_won = ((outcome == "first") & is_first) | ((outcome == "second") & ~is_first)
        return (
            select(
                asked.c.run_id,
                asked.c.candidate_id,
                asked.c.position,
                case((is_first, second_id), else_=first_id).label("other_candidate_id"),
                case((outcome == "tie", "tie"), (is_won, "won"), else_="lost").label("outcome"),
                is_first.label("is_first"),
                RunComparison.judgement,
            )
            .join(
                asked,
                (asked.c.run_id == RunComparison.run_id)
                & (asked.c.position == RunComparison.position)
                & asked.c.candidate_id.in_([first_id, second_id]),
            )
            .join(Run, Run.id == RunComparison.run_id)
            .where(own_workspace(Run.workspace_id))
            .order_by(first_id, second_id)
        )

    @override
    async def fetch(
        self, keys: Sequence[AnswerPlace], columns: Columns
    ) -> Mapping[AnswerPlace, Sequence[Row]]:
        found: dict[AnswerPlace, list[Row]] = defaultdict(list)
        for place, row in await self.rows_at(keys):
            found[place].append(row)
        return found

    @override
    def absent(self, key: AnswerPlace) -> Sequence[Row]:
        return []
