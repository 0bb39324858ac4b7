"""Every closed set of values, with what each value means."""

from enum import Enum

import strawberry
from strawberry import enum_value


@strawberry.enum(description="Where a leaderboard's rows come from.")
class DatasetType(Enum):
    """`Leaderboard.dataset_type`."""

    GET = enum_value("GET", description="Read from a Hugging Face URL at each run.")
    PUSH = enum_value("PUSH", description="Pushed by webhook, and consolidated into snapshots.")


@strawberry.enum(description="Whether a push was taken.")
class PushStatus(Enum):
    """`resolvers.push.PushReceipt.status`."""

    ACCEPTED = enum_value("accepted", description="No row was refused.")
    PARTIAL = enum_value("partial", description="Some rows were refused.")
    REJECTED = enum_value("rejected", description="Every row was refused.")


@strawberry.enum(description="What rows that are made of traces expect.")
class ExpectedSource(Enum):
    """`resolvers.inputs.RowsFromTraces.expected`."""

    OUTPUT = enum_value("output", description="What the model answered.")
    FEEDBACK = enum_value(
        "feedback",
        description="What a person said it should have answered, or its answer where a person's "
        "score is high enough; a trace without either is passed over.",
    )
    NONE = enum_value("none", description="Nothing.")


@strawberry.enum(description="What of a row can be edited.")
class EditField(Enum):
    """`engine.edits.EditField`."""

    INPUT = enum_value("input", description="What models are asked.")
    EXPECTED = enum_value("expected", description="What they should answer.")
    RUBRIC = enum_value("rubric", description="By what a judge judges.")
    TAGS = enum_value("tags", description="Its tags.")
    QUALITY = enum_value("quality", description="How good an example it is.")
    WEIGHT = enum_value("weight", description="How likely a weighted draw takes it.")
    EXCLUDED = enum_value("excluded", description="Whether snapshots leave it out.")


@strawberry.enum(description="Who edited a row.")
class EditOrigin(Enum):
    """`engine.edits.EditOrigin`."""

    HUMAN = enum_value("human", description="A person.")
    IMPROVEMENT = enum_value("improvement", description="An improvement that was accepted.")
    MODEL = enum_value("model", description="A labelling model.")


@strawberry.enum(description="How a leaderboard's answers are evaluated.")
class EvalType(Enum):
    """`Leaderboard.eval_type`."""

    EXACT = enum_value("exact", description="By comparison with the expected output.")
    JUDGE = enum_value("judge", description="By a judge model.")
    HUMAN = enum_value("human", description="By people.")


@strawberry.enum(description="What reviewers do.")
class ReviewMode(Enum):
    """`resolvers.inputs.Evaluation.review_mode`."""

    SCORE = enum_value("score", description="Score each answer.")
    PREFER = enum_value("prefer", description="Prefer one of two answers to a row.")


@strawberry.enum(description="Where a review stands.")
class ReviewStatus(Enum):
    """`Review.status`."""

    ASSIGNED = enum_value("assigned", description="Somebody is at it.")
    DONE = enum_value("done", description="It says something.")
    SKIPPED = enum_value("skipped", description="Its reviewer left it to others.")
    EXPIRED = enum_value("expired", description="Its reviewer did not come back in time.")


@strawberry.enum(description="Which of two answers is better.")
class Preference(Enum):
    """`Review.preferred`."""

    FIRST = enum_value("first", description="The first.")
    SECOND = enum_value("second", description="The second.")
    TIE = enum_value("tie", description="Neither.")


@strawberry.enum(description="How an answer did against another one.")
class ComparedOutcome(Enum):
    """`RunComparison.outcome`, as one of the two sees it."""

    WON = enum_value("won", description="It was preferred.")
    LOST = enum_value("lost", description="The other one was preferred.")
    TIE = enum_value("tie", description="Neither was, or the judge's two orders disagreed.")


@strawberry.enum(description="What a judge is asked.")
class JudgeMode(Enum):
    """`resolvers.inputs.Evaluation.judge_mode`."""

    SCORE = enum_value("score", description="To score each answer by itself.")
    PAIRWISE = enum_value(
        "pairwise",
        description="To compare the answers to a row in pairs, each pair in both orders; when "
        "the two disagree it is a tie.",
    )


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

    QUEUED = enum_value(
        "queued", description="Its dataset is not read yet, or another run is before it."
    )
    RUNNING = enum_value("running", description="Its calls are being made.")
    AWAITING_REVIEW = enum_value(
        "awaiting_review", description="It is answered, and people have to score the answers."
    )
    COMPLETED = enum_value("completed", description="It has a ranking, unless it is a replay.")
    FAILED = enum_value("failed", description="It can't go on; its error says why.")
    CANCELLED = enum_value("cancelled", description="Somebody ended it; what was done stays.")


@strawberry.enum(description="What a run does.")
class RunKind(Enum):
    """`Run.kind`."""

    RANKING = enum_value("ranking", description="Asks candidates, and ranks them.")
    RESCORE = enum_value("rescore", description="Scores what another run was answered, and ranks.")
    REPLAY = enum_value("replay", description="Asks another run's questions again; ranks nobody.")
    IMPROVE_DATASET = enum_value(
        "improve_dataset", description="Asks candidates, and proposes changes of the dataset."
    )


@strawberry.enum(description="Why a row is to be changed.")
class ChangeKind(Enum):
    """`engine.improvement.ChangeKind`."""

    FILL = enum_value(
        "fill", description="It expects nothing, and the answers say what it should expect."
    )
    FLAG = enum_value("flag", description="Most candidates agree against what it expects.")
    EASY = enum_value("easy", description="Every candidate gets it right, here and lately.")
    SEPARATES = enum_value("separates", description="Some get it right and some wrong.")
    NEUTRAL = enum_value("neutral", description="It is neither easy nor telling any longer.")


@strawberry.enum(description="What became of a proposed change.")
class ChangeDecision(Enum):
    """`ProposedChange.decision`."""

    PENDING = enum_value("pending", description="Nobody has decided.")
    ACCEPTED = enum_value("accepted", description="Snapshots carry it.")
    REJECTED = enum_value("rejected", description="It is not wanted.")


@strawberry.enum(description="Where an improvement stands.")
class ImprovementStatus(Enum):
    """`Improvement.status`."""

    PENDING = enum_value("pending", description="Some of its changes are not decided.")
    ACCEPTED = enum_value("accepted", description="All are decided, and one at least accepted.")
    REJECTED = enum_value("rejected", description="None was accepted.")


@strawberry.enum(description="When a new ranking changes production.")
class PromotionRule(Enum):
    """`engine.promotion.Rule`, and `manual` for a pinned model."""

    ALWAYS = enum_value("always", description="The best of each ranking serves.")
    CONFIDENT = enum_value(
        "confident",
        description="The best serves once it is shown to be better than the model in production.",
    )
    CHEAPEST_WITHIN = enum_value(
        "cheapest_within",
        description="The cheapest serves that is shown to be no worse than the best by epsilon.",
    )


@strawberry.enum(description="What a ranking means for production.")
class Verdict(Enum):
    """`engine.promotion.Verdict`."""

    PROMOTE = enum_value("PROMOTE", description="Production changes.")
    HOLD = enum_value("HOLD", description="Production stays.")
    INSUFFICIENT = enum_value(
        "INSUFFICIENT", description="Production stays: the rows could not have shown anything else."
    )


@strawberry.enum(description="What changed a leaderboard's production model.")
class PromotionCause(Enum):
    """`PromotionEvent.cause`."""

    PROMOTION = enum_value("promotion", description="A run's ranking.")
    SELECTION = enum_value("selection", description="Somebody pinned or unpinned a model.")
    REMOVAL = enum_value("removal", description="The model that served left the leaderboard.")
    ROLLBACK = enum_value("rollback", description="Somebody undid an earlier change.")
    ROLLOUT = enum_value("rollout", description="A rollout was completed.")
    ROLLOUT_ROLLBACK = enum_value(
        "rollout_rollback",
        description="A canary was taken back; production is as it was.",
    )


@strawberry.enum(description="How two candidates are compared.")
class ComparisonMethod(Enum):
    """`engine.comparisons.Method`."""

    MCNEMAR_EXACT = enum_value(
        "mcnemar_exact", description="McNemar's exact test, of scores that are 0 or 1."
    )
    SIGN_FLIP = enum_value(
        "sign_flip", description="A permutation test that flips the signs of the differences."
    )


@strawberry.enum(description="What a job does.")
class JobKind(Enum):
    """Of the jobs that users ask for."""

    AUTO_LABELS = enum_value("auto_labels", description="A model labels a dataset's rows.")


@strawberry.enum(description="How far a job has come.")
class JobStatus(Enum):
    """`LabelJob.status`."""

    QUEUED = enum_value("queued", description="Its rows are not chosen yet.")
    RUNNING = enum_value("running", description="Its calls are being made.")
    COMPLETED = enum_value("completed", description="Every row is dealt with.")
    FAILED = enum_value("failed", description="It can't go on; its error says why.")
    CANCELLED = enum_value("cancelled", description="Somebody ended it; what was done stays.")


@strawberry.enum(description="Which labels a model is asked for.")
class LabelMode(Enum):
    """`LabelJob.mode`."""

    MISSING = enum_value("missing", description="What rows lack.")
    ALL = enum_value("all", description="Also anew what a model said earlier.")


@strawberry.enum(description="What a model can label.")
class LabelField(Enum):
    """`engine.label_prompts.LABELLED_FIELDS`."""

    EXPECTED = enum_value("expected", description="What models should answer.")
    TAGS = enum_value("tags", description="Its tags.")
    QUALITY = enum_value("quality", description="How good an example it is.")
    RUBRIC = enum_value("rubric", description="By what a judge judges.")


@strawberry.enum(description="What an expected cost rests on.")
class EstimateBasis(Enum):
    """`resolvers.run_costs.CandidateEstimate.basis`."""

    MEASURED = enum_value("measured", description="The mean cost of its latest calls.")
    ASSUMED = enum_value("assumed", description="Its prices, and a guess of the tokens.")


@strawberry.enum(description="What a row counts on which a call failed.")
class ErrorScoring(Enum):
    """`resolvers.inputs.Evaluation.errors`."""

    ZERO = enum_value("zero", description="0, as users would have seen it fail.")
    LEAVE_OUT = enum_value("leave_out", description="Nothing: the mean is over the other rows.")


@strawberry.enum(description="Which rows of a dataset a run uses.")
class DatasetSizeMode(Enum):
    """`resolvers.inputs.DatasetSize.mode`."""

    ALL = enum_value("ALL", description="Every row.")
    LIMIT = enum_value("LIMIT", description="As many as limit says.")


@strawberry.enum(description="Which rows are taken when they are limited.")
class RowAlgorithm(Enum):
    """`resolvers.inputs.RowLimit.algorithm`."""

    LAST_N = enum_value(
        "LAST_N",
        description="The last ones, in order: of a pushed dataset those that were pushed last.",
    )
    RANDOM_SHUFFLE = enum_value("RANDOM_SHUFFLE", description="Drawn at random by the seed.")
    WEIGHTED_SHUFFLE = enum_value(
        "WEIGHTED_SHUFFLE",
        description="Drawn by the seed and the rows' weights; a row of weight 0 never is.",
    )


@strawberry.enum(
    description="The sides of a dataset. A row's input puts it on one of them for ever."
)
class DatasetSplit(Enum):
    """`resolvers.inputs.DatasetSize.split`."""

    ALL = enum_value("ALL", description="Both.")
    TRAIN = enum_value("TRAIN", description="What models may be trained on.")
    VALIDATION = enum_value(
        "VALIDATION", description="What models are never trained on: a fifth of the inputs."
    )


@strawberry.enum(description="What a model call was made for.")
class TraceSource(Enum):
    """`Trace.source`."""

    RUN = enum_value("run", description="A run.")
    INFERENCE = enum_value("inference", description="A request to the model in production.")
    SHADOW = enum_value(
        "shadow", description="A request to the model in production, which a challenger got too."
    )
    DATASET = enum_value("dataset", description="An event of a dataset.")
    MANUAL = enum_value("manual", description="Nothing here: a client has sent it.")


@strawberry.enum(description="What a point of statistics spans.")
class StatsInterval(Enum):
    """`resolvers.inputs.TraceStatsQuery.interval`."""

    HOUR = enum_value("hour", description="An hour.")
    DAY = enum_value("day", description="A UTC day.")


@strawberry.enum(description="What points of statistics are told apart by, beside their time.")
class StatsSeries(Enum):
    """`resolvers.inputs.TraceStatsQuery.by`."""

    NONE = enum_value("none", description="Nothing.")
    MODEL = enum_value("model", description="The model that was called.")
    SOURCE = enum_value("source", description="What the call was made for.")


@strawberry.enum(description="How a model call ended.")
class CallStatus(Enum):
    """`Trace.status`."""

    OK = enum_value("ok", description="The model answered.")
    ERROR = enum_value("error", description="It did not.")
    CANCELLED = enum_value("cancelled", description="Its caller went away, and it was stopped.")


@strawberry.enum(description="What becomes of a call on a budget whose most can't be told.")
class UnknownPrice(Enum):
    """`Serving.unknown_price`."""

    REFUSE = enum_value("refuse", description="It is refused with price_unknown.")
    ALLOW = enum_value("allow", description="It is made, and holdUsd set aside for it.")


@strawberry.enum(description="Who says what a model call cost.")
class CostSource(Enum):
    """`Trace.cost_source`."""

    PROVIDER = enum_value("provider", description="The provider's own figure.")
    COMPUTED = enum_value("computed", description="Tokens times the candidate's prices.")
    UNKNOWN = enum_value("unknown", description="Nobody: there is no figure.")


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
    MOST_DISPUTED_FIRST = enum_value(
        "MOST_DISPUTED_FIRST",
        description="The rows first whose highest and lowest scores are the farthest apart.",
    )


@strawberry.enum(description="A provider that a workspace can save a key of.")
class IntegrationProvider(Enum):
    """`Integration.provider`."""

    OPENROUTER = enum_value("openrouter", description="OpenRouter.")
    HUGGINGFACE = enum_value("huggingface", description="Hugging Face.")


@strawberry.enum(description="Which side of the split a row is on for ever, as its input decides.")
class DatasetSide(Enum):
    """`resolvers.stored_rows.PlacedRow.side`."""

    TRAIN = enum_value("TRAIN", description="Models may be trained on it.")
    VALIDATION = enum_value(
        "VALIDATION", description="Models are judged on it, and never trained on it."
    )


@strawberry.enum(description="Why a snapshot leaves a row out.")
class DropReason(Enum):
    """`resolvers.dropped_rows.DroppedRow.reason`."""

    EXCLUDED = enum_value("excluded", description="Somebody excluded it.")
    NEAR_DUPLICATE = enum_value("near_duplicate", description="It is near to a row that stays.")
    OVER_LIMIT = enum_value("over_limit", description="There were more rows than are kept.")


@strawberry.enum(description="What redaction finds by itself.")
class RedactionDetector(Enum):
    """The names of `engine.detectors.DETECTORS`."""

    EMAIL = enum_value("email", description="Addresses of e-mail.")
    CARD = enum_value("card", description="Numbers of payment cards, by their check digit.")
    IBAN = enum_value("iban", description="International bank account numbers, likewise.")
    US_SSN = enum_value("us_ssn", description="Social security numbers of the United States.")
    PHONE = enum_value(
        "phone",
        description="Telephone numbers that begin with a plus sign, and the national forms of "
        "North America, the United Kingdom and France.",
    )
    IPV4 = enum_value("ipv4", description="Addresses of version 4 of the Internet Protocol.")
    IPV6 = enum_value("ipv6", description="Those of version 6.")
    API_KEY = enum_value("api_key", description="Keys in the forms that providers publish.")
    JWT = enum_value("jwt", description="JSON Web Tokens.")
    PRIVATE_KEY = enum_value("private_key", description="Private keys in PEM.")
    BEARER = enum_value("bearer", description="What follows the word Bearer.")
