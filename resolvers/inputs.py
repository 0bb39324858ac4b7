"""What use cases take, checked once for both edges, and how a broken rule is told."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import (
    AliasChoices,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails

from engine.matching import MatchMode, PatternError, check_pattern
from resolvers.call_bounds import find_wrong_bound
from resolvers.errors import InvalidInputError
from resolvers.storable import find_unstorable

SHOWN_VALUE_CHARACTERS = 80
URL_CREDENTIAL = re.compile(r"//[^/?#]*@")
HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"
HEADER_VALUE = r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$"
# What an endpoint is never sent from a caller's fields.
RESERVED_PARAMS = frozenset({"model", "messages", "input", "prompt", "question", "query", "stream"})
# Headers that belong to the connection or to our own request.
RESERVED_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade"}
)
MAX_SEED = 2**63 - 1


def _both_cases(name: str) -> AliasChoices:
    return AliasChoices(name, to_camel(name))


def check_storable(value: object) -> object:
    """Refuse what JSON or PostgreSQL can't hold, at any depth."""
    found = find_unstorable(value)
    if found is not None:
        raise ValueError(f"must not contain {found}")
    return value


class Input(BaseModel):
    """Parent of the inputs: names in snake_case or camelCase, unknown ones refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=AliasGenerator(validation_alias=_both_cases),
        validate_by_name=True,
    )

    def stored(self) -> dict[str, Any]:
        """Return it as a row keeps it: what is not set is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: object) -> object:
        return check_storable(value)


def invalid_input(broken: Sequence[ErrorDetails]) -> InvalidInputError:
    """Tell the caller which fields broke which rule, with the values they gave.

    Args:
        broken: As pydantic lists them.
    """
    problems = []
    # A field that may be left out is a choice between its type and nothing: that it is not
    # nothing is no news, and how the choice calls its type is no part of the field's name.
    choices = {problem["loc"][:-1] for problem in broken if problem["type"] == "none_required"}
    for problem in broken:
        if problem["type"] == "none_required":
            continue
        loc = problem["loc"]
        named = [part for place, part in enumerate(loc) if loc[:place] not in choices]
        field = ".".join(str(part) for part in named)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown field"
        elif problem["type"] == "missing":
            message = "is required"
        elif _may_show(field, problem["input"]):
            message = f"{message} (got {_shown(problem['input'])})"
        problems.append({"field": field, "message": message})
    text = "; ".join(
        f"{p['field']}: {p['message']}" if p["field"] else p["message"] for p in problems
    )
    return InvalidInputError(text, details={"fields": problems})


def _may_show(field: str, value: object) -> bool:
    secret = any(word in field.casefold() for word in ("token", "secret", "key"))
    return not secret and isinstance(value, str | int | float | bool | None)


def _shown(value: object) -> str:
    text = URL_CREDENTIAL.sub("//***@", repr(value))
    return text if len(text) <= SHOWN_VALUE_CHARACTERS else f"{text[:SHOWN_VALUE_CHARACTERS]}..."


# Published as it is checked: something must be left once the spaces at the ends are not.
NOT_BLANK = Field(json_schema_extra={"pattern": r"\S"})
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), NOT_BLANK
]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
Ceiling = Annotated[Decimal, Field(gt=0, le=1_000_000, max_digits=18, decimal_places=9)]
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, max_digits=18, decimal_places=9)]
Url = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000), NOT_BLANK
]
ModelId = Annotated[str, StringConstraints(min_length=1, max_length=300)]
EvalType = Literal["exact", "judge", "human"]
Params = Annotated[dict[str, Any], Field(max_length=50)]
# The default of a field that may be left out, and may not be null.
LeftOut = SkipJsonSchema[None]


class ScoreScale(Input):
    """The scores that a judge may give; rankings show them as 0 to 1."""

    low: Annotated[float, Field(ge=-1_000, le=1_000, allow_inf_nan=False)] = 0.0
    high: Annotated[float, Field(ge=-1_000, le=1_000, allow_inf_nan=False)] = 5.0

    @model_validator(mode="after")
    def _has_a_width(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high (got {self.low} and {self.high})")
        return self


class Evaluation(Input):
    """How answers are scored."""

    match: MatchMode = Field(default=MatchMode.EXACT, description="How the two are compared.")
    extract: Annotated[str, StringConstraints(min_length=1, max_length=1_000)] | None = Field(
        default=None,
        description="A regex applied to the answer first: its first group, else its whole match.",
    )
    rubric: Annotated[str, StringConstraints(min_length=1, max_length=20_000)] | None = Field(
        default=None, description="By what a judge judges; a row's own rubric takes its place."
    )
    scale: ScoreScale | None = Field(
        default=None, description="The scores that a judge may give: 0 to 5 when left out."
    )
    judge_votes: Annotated[int, Field(ge=1, le=9)] = Field(
        default=1, description="Scores asked of each answer; their mean counts."
    )
    judge_mode: Literal["score", "pairwise"] = Field(
        default="score",
        description="Score each answer by itself, or compare the answers to a row in pairs.",
    )
    review_mode: Literal["score", "prefer"] = Field(
        default="score",
        description="What reviewers do: score each answer, or prefer one of two to a row.",
    )
    review_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0,
        description="Of a run that people score: how much of it must be reviewed, by chance, "
        "before it is ranked.",
    )
    errors: Literal["zero", "leave_out"] = Field(
        default="zero",
        description="A row on which the call failed scores 0, as users would have seen it fail, "
        "or is left out of the mean.",
    )

    @model_validator(mode="after")
    def _votes_go_with_scores(self) -> Self:
        if self.judge_mode == "pairwise" and self.judge_votes > 1:
            raise ValueError("judge_votes goes with judge_mode score")
        return self

    @field_validator("extract")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                check_pattern(value)
            except PatternError as error:
                raise ValueError(f"is not a valid regex: {error}") from error
        return value


class Promotion(Input):
    """When a new ranking changes production, and whom it may put there."""

    rule: Literal["always", "confident", "cheapest_within"] = Field(
        default="always",
        description="always: the best of each ranking. confident: only one that is better than "
        "the model in production, at the confidence. cheapest_within: the cheapest that is not "
        "worse than the best by more than epsilon, at the confidence.",
    )
    confidence: Annotated[float, Field(gt=0.5, le=0.9999, allow_inf_nan=False)] = 0.95
    epsilon: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None, description="In score, 0 to 1; goes with cheapest_within, which needs it."
    )
    max_cost_per_1k_requests_usd: Price | None = Field(
        default=None, description="Who costs more, or an unknown amount, is not promoted."
    )
    max_latency_ms_p95: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Who is slower is not promoted."
    )
    min_score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        default=None, description="Who scores less is not promoted."
    )

    @model_validator(mode="after")
    def _epsilon_goes_with_its_rule(self) -> Self:
        if (self.rule == "cheapest_within") != (self.epsilon is not None):
            raise ValueError("epsilon goes with rule cheapest_within, which needs it")
        return self


class NewLeaderboard(Input):
    """A leaderboard to create."""

    name: Name
    system_prompt: Prompt = Field(
        validation_alias=AliasChoices(
            "system_prompt", "systemPrompt", "model_prompt", "modelPrompt"
        ),
        description="The task. {input}, {question} and {query} stand for the row's input; "
        "with none of them the input is appended.",
    )
    dataset_type: Literal["GET"] = "GET"
    dataset_url: Url = Field(description="A Hugging Face URL of a .jsonl or .jsonl.gz file.")
    eval_type: EvalType = "exact"
    evaluation: Evaluation = Evaluation()
    judge_provider: Literal["openrouter"] | None = Field(
        default=None, description="Who serves the judge: openrouter when left out."
    )
    judge_model: ModelId | None = Field(
        default=None, description="OpenRouter's name for the judge; eval_type judge needs it."
    )
    judge_auto: bool = Field(
        default=False,
        description="Let each run pick a strong judge of another family than any candidate.",
    )
    promotion: Promotion = Promotion()

    @model_validator(mode="after")
    def _judge_fits_the_evaluation(self) -> Self:
        check_judge(self.eval_type, self.judge_model, is_auto=self.judge_auto)
        return self


# Of the fields of a change, those that null takes back.
NULLABLE_CHANGES = {"selected_leaderboard_model_id", "judge_provider", "judge_model"}


def check_judge(eval_type: str, judge_model: str | None, *, is_auto: bool) -> None:
    """Check that a leaderboard that is judged has one judge, and that no other has one.

    Raises:
        ValueError: It is otherwise; the text names the field.
    """
    if eval_type != "judge":
        if judge_model is not None or is_auto:
            field = "judge_auto" if is_auto else "judge_model"
            raise ValueError(f"{field} goes with eval_type judge")
        return
    if is_auto and judge_model is not None:
        raise ValueError("judge_model and judge_auto exclude each other")
    if not is_auto and judge_model is None:
        raise ValueError("judge_model is required for eval_type judge, unless judge_auto is true")


class LeaderboardChanges(Input):
    """What to change on a leaderboard; what is left out stays."""

    name: Name | LeftOut = None
    system_prompt: Prompt | LeftOut = Field(
        default=None,
        validation_alias=AliasChoices(
            "system_prompt", "systemPrompt", "model_prompt", "modelPrompt"
        ),
    )
    dataset_type: Literal["GET"] | LeftOut = None
    dataset_url: Url | LeftOut = None
    eval_type: EvalType | LeftOut = None
    evaluation: Evaluation | LeftOut = None
    judge_provider: Literal["openrouter"] | None = None
    judge_model: ModelId | None = None
    judge_auto: bool | LeftOut = None
    promotion: Promotion | LeftOut = None
    model_selection: Literal["ranking_winner", "manual"] | LeftOut = None
    selected_leaderboard_model_id: UUID | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "selected_leaderboard_model_id",
            "selectedLeaderboardModelId",
            "selected_candidate_id",
            "selectedCandidateId",
        ),
        description="The candidate that serves when model_selection is manual.",
    )

    @model_validator(mode="after")
    def _null_only_unpins(self) -> Self:
        for field in self.model_fields_set - NULLABLE_CHANGES:
            if getattr(self, field) is None:
                raise ValueError(f"{field} must not be null")
        return self


# What `NewCandidate` checks by itself, for those who read the contract.
FIELDS_OF_PROVIDERS: Any = [
    {
        "properties": {
            "provider": {"const": "openrouter"},
            "model_id": {"type": "string"},
            "endpoint_url": {"type": "null"},
            "auth_method": {"type": "null"},
            "auth_header_name": {"type": "null"},
            "auth_token": {"type": "null"},
        },
        "required": ["provider", "model_id"],
    },
    {
        "properties": {
            "provider": {"enum": ["huggingface", "custom"]},
            "endpoint_url": {"type": "string"},
        },
        "required": ["provider", "endpoint_url"],
    },
]


class NewCandidate(Input):
    """A candidate model to add to a leaderboard."""

    model_config = ConfigDict(json_schema_extra={"oneOf": FIELDS_OF_PROVIDERS})

    provider: Literal["openrouter", "huggingface", "custom"]
    model_id: ModelId | None = Field(
        default=None, description="OpenRouter's name for the model, such as openai/gpt-5.2."
    )
    display_name: Name | None = None
    endpoint_url: Url | None = Field(
        default=None, description="Where a custom or huggingface endpoint is POSTed to."
    )
    auth_method: (
        Literal["bearer", "x-api-key", "x-drgero-api-key", "authorization_raw", "custom_header"]
        | None
    ) = None
    auth_header_name: Annotated[str, Field(json_schema_extra={"pattern": HEADER_NAME})] | None = (
        None
    )
    auth_token: (
        Annotated[SecretStr, Field(max_length=10_000, json_schema_extra={"pattern": HEADER_VALUE})]
        | None
    ) = Field(default=None, description="Stored encrypted; never returned.")
    params: Params = Field(
        default_factory=dict, description="Sent with every call, such as temperature."
    )
    input_price_per_million_usd: Price | None = None
    output_price_per_million_usd: Price | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 60.0

    @field_validator("endpoint_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return value
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            raise ValueError("is not a valid URL") from error
        if "@" in parts.netloc:
            raise ValueError("must not carry a credential; use auth_method and auth_token")
        return value

    @field_validator("params")
    @classmethod
    def _can_be_sent(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(RESERVED_PARAMS & value.keys())
        if taken:
            raise ValueError(f"{taken[0]} can't be set here")
        wrong = find_wrong_bound(value)
        if wrong is not None:
            raise ValueError(" ".join(wrong))
        return value

    @field_validator("auth_token")
    @classmethod
    def _fits_in_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(HEADER_VALUE, value.get_secret_value()):
            raise ValueError("must be printable ASCII, without spaces at its ends")
        return value

    @field_validator("auth_header_name")
    @classmethod
    def _is_a_header_name(cls, value: str | None) -> str | None:
        if value is None:
            return value
        if not re.fullmatch(HEADER_NAME, value):
            raise ValueError("is not a valid HTTP header name")
        if value.casefold() in RESERVED_HEADERS:
            raise ValueError("is a header that can't be replaced")
        return value

    @model_validator(mode="after")
    def _fields_fit_the_provider(self) -> Self:
        if self.provider == "openrouter":
            if self.model_id is None:
                raise ValueError("model_id is required when provider is openrouter")
            for field in ("endpoint_url", "auth_method", "auth_header_name", "auth_token"):
                if getattr(self, field) is not None:
                    raise ValueError(f"{field} does not go with provider openrouter")
        elif self.endpoint_url is None:
            raise ValueError(f"endpoint_url is required when provider is {self.provider}")
        if (self.auth_method is None) != (self.auth_token is None):
            raise ValueError("auth_method and auth_token go together")
        if (self.auth_method == "custom_header") != (self.auth_header_name is not None):
            raise ValueError("auth_header_name goes with auth_method custom_header")
        return self


class RowLimit(Input):
    """At most so many rows, and which."""

    auto: bool = Field(default=False, description="Let the server choose: at most 1,000 rows.")
    rows: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    algorithm: Literal["LAST_N", "RANDOM_SHUFFLE"] = "LAST_N"

    @model_validator(mode="after")
    def _rows_or_auto(self) -> Self:
        if not self.auto and self.rows is None:
            raise ValueError("rows is required unless auto is true")
        return self


class DatasetSize(Input):
    """Which rows of the dataset a run uses."""

    mode: Literal["ALL", "LIMIT"] = "ALL"
    limit: RowLimit | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None, description="Makes a shuffle repeatable; chosen and shown when left out."
    )

    @model_validator(mode="after")
    def _limit_goes_with_its_mode(self) -> Self:
        if (self.mode == "LIMIT") != (self.limit is not None):
            raise ValueError("limit goes with mode LIMIT")
        return self


class NewRun(Input):
    """What a run is asked to rank."""

    dataset: DatasetSize = DatasetSize()
    early_stopping: bool = Field(
        default=False,
        description="Stop asking candidates that can no longer win, at 95% confidence.",
    )
    max_cost_usd: Ceiling | None = Field(
        default=None,
        description="The run stops before its calls can have cost more. Every candidate needs "
        "prices, so that the most a call may cost is known before it is made.",
    )
    leaderboard_model_ids: Annotated[list[UUID], Field(min_length=1, max_length=200)] | None = (
        Field(
            default=None,
            validation_alias=AliasChoices(
                "leaderboard_model_ids", "leaderboardModelIds", "candidate_ids", "candidateIds"
            ),
            description="The candidates to rank; all of them when left out.",
        )
    )


class NewIntegration(Input):
    """A provider key to save."""

    provider: Literal["openrouter", "huggingface"]
    token: Annotated[SecretStr, Field(min_length=1, max_length=1_000)]


class SkippedReview(Input):
    """A review that is passed on."""

    comment: Annotated[str, StringConstraints(max_length=10_000)] | None = None


class NewReview(SkippedReview):
    """What a reviewer says."""

    score: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="On the evaluation's scale."
    )
    preferred: Literal["first", "second", "tie"] | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.score is None) == (self.preferred is None):
            raise ValueError("score or preferred is required, and not both")
        return self
