"""The object types by name, so that types can refer to each other in a circle."""

from typing import TYPE_CHECKING, Annotated

import strawberry

if TYPE_CHECKING:
    from schema.types.candidate import CandidateModel
    from schema.types.dataset import DatasetSnapshot
    from schema.types.improvement import Improvement
    from schema.types.job import Job
    from schema.types.leaderboard import Leaderboard
    from schema.types.ranking import Ranking
    from schema.types.rollout import Rollout
    from schema.types.run import Run
    from schema.types.trace import Trace

CandidateRef = Annotated["CandidateModel", strawberry.lazy("schema.types.candidate")]
ImprovementRef = Annotated["Improvement", strawberry.lazy("schema.types.improvement")]
JobRef = Annotated["Job", strawberry.lazy("schema.types.job")]
LeaderboardRef = Annotated["Leaderboard", strawberry.lazy("schema.types.leaderboard")]
RankingRef = Annotated["Ranking", strawberry.lazy("schema.types.ranking")]
RolloutRef = Annotated["Rollout", strawberry.lazy("schema.types.rollout")]
RunRef = Annotated["Run", strawberry.lazy("schema.types.run")]
SnapshotRef = Annotated["DatasetSnapshot", strawberry.lazy("schema.types.dataset")]
TraceRef = Annotated["Trace", strawberry.lazy("schema.types.trace")]
