"""What use cases take, checked once for both edges; each aggregate's inputs are in its module."""

from resolvers.inputs.base import Input, RuleError, WrittenInstant, check_storable, invalid_input
from resolvers.inputs.candidate import CandidateChanges, NewCandidate
from resolvers.inputs.dataset import (
    NewPushToken,
    PushFields,
    RevokedPushTokens,
    RowEdit,
    RowEdits,
    push_settings,
)
from resolvers.inputs.hub_file import HubFile
from resolvers.inputs.integration import NewIntegration
from resolvers.inputs.labels import NewAutoLabels
from resolvers.inputs.leaderboard import (
    Evaluation,
    LeaderboardChanges,
    NewLeaderboard,
    Promotion,
    ScoreScale,
    check_dataset_type,
    check_judge,
)
from resolvers.inputs.new_trace import MAX_TRACES, NewTrace, NewTraces
from resolvers.inputs.redaction import Redaction, RedactionPattern
from resolvers.inputs.review import NewReview, SkippedReview
from resolvers.inputs.rollout import (
    Guardrails,
    NewShadow,
    RolloutRollback,
    RolloutSettings,
    check_score_guardrail,
)
from resolvers.inputs.run import MAX_SEED, DatasetSize, NewImprovement, NewRun, RowLimit
from resolvers.inputs.serving import Serving
from resolvers.inputs.trace import NewFeedback, RowsFromTraces, TraceConditions
from resolvers.inputs.trace_stats import TraceStatsQuery
from resolvers.inputs.workspace import WorkspaceChanges

__all__ = [
    "MAX_SEED",
    "MAX_TRACES",
    "CandidateChanges",
    "DatasetSize",
    "Evaluation",
    "Guardrails",
    "HubFile",
    "Input",
    "LeaderboardChanges",
    "NewAutoLabels",
    "NewCandidate",
    "NewFeedback",
    "NewImprovement",
    "NewIntegration",
    "NewLeaderboard",
    "NewPushToken",
    "NewReview",
    "NewRun",
    "NewShadow",
    "NewTrace",
    "NewTraces",
    "Promotion",
    "PushFields",
    "Redaction",
    "RedactionPattern",
    "RevokedPushTokens",
    "RolloutRollback",
    "RolloutSettings",
    "RowEdit",
    "RowEdits",
    "RowLimit",
    "RowsFromTraces",
    "RuleError",
    "ScoreScale",
    "Serving",
    "SkippedReview",
    "TraceConditions",
    "TraceStatsQuery",
    "WorkspaceChanges",
    "WrittenInstant",
    "check_dataset_type",
    "check_judge",
    "check_score_guardrail",
    "check_storable",
    "invalid_input",
    "push_settings",
]
