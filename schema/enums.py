"""Every closed set of values, with what each value means."""

from enum import Enum

import strawberry
from strawberry import enum_value


@strawberry.enum(description="Where a leaderboard's rows come from.")
class DatasetType(Enum):
    """`Leaderboard.dataset_type`."""

    GET = enum_value("GET", description="Read from a Hugging Face URL at each run.")


@strawberry.enum(description="How a leaderboard's answers are evaluated.")
class EvalType(Enum):
    """`Leaderboard.eval_type`."""

    EXACT = enum_value("exact", description="By comparison with the expected output.")


@strawberry.enum(description="How an answer is compared with the expected output.")
class MatchMode(Enum):
    """`engine.matching.MatchMode`."""

    EXACT = enum_value("exact", description="The same string.")
    NORMALIZED = enum_value(
        "normalized",
        description="The same but for case, white space, punctuation and Unicode form.",
    )
    CONTAINS = enum_value("contains", description="The expected output occurs in the answer.")
    NUMBER = enum_value(
        "number",
        description="The same number: the answer's last, or the one after its last marker.",
    )
    REGEX = enum_value("regex", description="The expected output is a pattern found in the answer.")
    JSON = enum_value("json", description="Equal as JSON values.")
    CHOICE = enum_value("choice", description="The same letter of a multiple choice.")


@strawberry.enum(description="Which model serves production.")
class ModelSelection(Enum):
    """`Leaderboard.model_selection`."""

    RANKING_WINNER = enum_value("ranking_winner", description="The best of the latest ranking.")
    MANUAL = enum_value("manual", description="The candidate that is pinned.")


@strawberry.enum(description="Who serves a candidate model.")
class CandidateProvider(Enum):
    """`CandidateModel.provider`."""

    OPENROUTER = enum_value("openrouter", description="OpenRouter, by model id.")
    HUGGINGFACE = enum_value("huggingface", description="A Hugging Face inference endpoint.")
    CUSTOM = enum_value("custom", description="Any endpoint that takes chat messages.")


@strawberry.enum(description="How a candidate endpoint's credential is sent.")
class AuthMethod(Enum):
    """`CandidateModel.auth_method`."""

    BEARER = enum_value("bearer", description="Authorization: Bearer <token>.")
    X_API_KEY = enum_value("x-api-key", description="X-API-Key: <token>.")
    X_DRGERO_API_KEY = enum_value("x-drgero-api-key", description="X-Dr.Gero-API-Key: <token>.")
    AUTHORIZATION_RAW = enum_value("authorization_raw", description="Authorization: <token>.")
    CUSTOM_HEADER = enum_value("custom_header", description="<authHeaderName>: <token>.")


@strawberry.enum(description="How far a run has come.")
class RunStatus(Enum):
    """`Run.status`."""

    QUEUED = enum_value("queued", description="Its dataset has not been read yet.")
    RUNNING = enum_value("running", description="Its calls are being made.")
    COMPLETED = enum_value("completed", description="It has a ranking.")
    FAILED = enum_value("failed", description="It can't go on; its error says why.")


@strawberry.enum(description="What a run does.")
class RunKind(Enum):
    """`Run.kind`."""

    RANKING = enum_value("ranking", description="Ranks candidates.")


@strawberry.enum(description="Which rows of a dataset a run uses.")
class DatasetSizeMode(Enum):
    """`resolvers.inputs.DatasetSize.mode`."""

    ALL = enum_value("ALL", description="Every row.")
    LIMIT = enum_value("LIMIT", description="As many as limit says.")


@strawberry.enum(description="Which rows are taken when they are limited.")
class RowAlgorithm(Enum):
    """`resolvers.inputs.RowLimit.algorithm`."""

    LAST_N = enum_value("LAST_N", description="The last ones, in order.")
    RANDOM_SHUFFLE = enum_value("RANDOM_SHUFFLE", description="Drawn at random by the seed.")


@strawberry.enum(description="What a model call was made for.")
class TraceSource(Enum):
    """`Trace.source`."""

    RUN = enum_value("run", description="A run.")
    INFERENCE = enum_value("inference", description="A request to the model in production.")


@strawberry.enum(description="How a model call ended.")
class CallStatus(Enum):
    """`Trace.status`."""

    OK = enum_value("ok", description="The model answered.")
    ERROR = enum_value("error", description="It did not.")


@strawberry.enum(description="The order of a list.")
class ListOrder(Enum):
    """By time of creation."""

    NEWEST_FIRST = enum_value("NEWEST_FIRST", description="The newest first.")
    OLDEST_FIRST = enum_value("OLDEST_FIRST", description="The oldest first.")


@strawberry.enum(description="The order of a run's results.")
class ResultOrder(Enum):
    """`Run.results(orderBy:)`."""

    STORED = enum_value("STORED", description="As they were stored.")
    BEST_FIRST = enum_value("BEST_FIRST", description="The highest score first.")
    WORST_FIRST = enum_value("WORST_FIRST", description="The lowest score first.")
    SLOWEST_FIRST = enum_value("SLOWEST_FIRST", description="The longest latency first.")


@strawberry.enum(description="A provider that a workspace can save a key of.")
class IntegrationProvider(Enum):
    """`Integration.provider`."""

    OPENROUTER = enum_value("openrouter", description="OpenRouter.")
    HUGGINGFACE = enum_value("huggingface", description="Hugging Face.")
