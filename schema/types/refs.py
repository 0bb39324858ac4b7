"""The object types by name, so that types can refer to each other in a circle."""

from typing import Annotated

import strawberry

CandidateRef = Annotated["CandidateModel", strawberry.lazy("schema.types.candidate")]
LeaderboardRef = Annotated["Leaderboard", strawberry.lazy("schema.types.leaderboard")]
RankingRef = Annotated["Ranking", strawberry.lazy("schema.types.ranking")]
RunRef = Annotated["Run", strawberry.lazy("schema.types.run")]
TraceRef = Annotated["Trace", strawberry.lazy("schema.types.trace")]
