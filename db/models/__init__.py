"""Row classes, one module per aggregate."""

from db.models.candidate import Candidate
from db.models.charge import CandidatePrice, Charge
from db.models.dataset import (
    Dataset,
    DatasetEdit,
    DatasetRow,
    DatasetSnapshot,
    PushBatch,
    PushedRow,
    PushToken,
)
from db.models.feedback import TraceFeedback
from db.models.idempotency import IdempotencyKey
from db.models.improvement import Improvement, ProposedChange
from db.models.integration import Integration
from db.models.job import Job
from db.models.label import LabelJob, LabelResult
from db.models.leaderboard import Leaderboard
from db.models.persisted_document import PersistedDocument
from db.models.provider import ProviderLease, ProviderState
from db.models.ranking import PromotionEvent, Ranking, RankingEntry
from db.models.review import Review
from db.models.rollout import Rollout, RolloutArm, Shadow, ShadowHold, TraceScore
from db.models.run import (
    DisputedResult,
    JudgeVerdict,
    Run,
    RunCandidate,
    RunComparison,
    RunResult,
)
from db.models.token import ApiToken, BudgetHold
from db.models.trace import (
    Trace,
    TraceHour,
    TraceSum,
    TraceText,
    TraceWords,
    UnsearchedTrace,
)
from db.models.workspace import Member, Workspace

__all__ = [
    "ApiToken",
    "BudgetHold",
    "Candidate",
    "CandidatePrice",
    "Charge",
    "Dataset",
    "DatasetEdit",
    "DatasetRow",
    "DatasetSnapshot",
    "DisputedResult",
    "IdempotencyKey",
    "Improvement",
    "Integration",
    "Job",
    "JudgeVerdict",
    "LabelJob",
    "LabelResult",
    "Leaderboard",
    "Member",
    "PersistedDocument",
    "PromotionEvent",
    "ProposedChange",
    "ProviderLease",
    "ProviderState",
    "PushBatch",
    "PushToken",
    "PushedRow",
    "Ranking",
    "RankingEntry",
    "Review",
    "Rollout",
    "RolloutArm",
    "Run",
    "RunCandidate",
    "RunComparison",
    "RunResult",
    "Shadow",
    "ShadowHold",
    "Trace",
    "TraceFeedback",
    "TraceHour",
    "TraceScore",
    "TraceSum",
    "TraceText",
    "TraceWords",
    "UnsearchedTrace",
    "Workspace",
]
