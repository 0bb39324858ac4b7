"""Inputs about candidate models."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from resolvers.call_bounds import find_wrong_bound
from resolvers.inputs.base import Input, LeftOut, ModelId, Name, Price, RuleError, Url

HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"
HEADER_VALUE = r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$"
# What an endpoint is never sent from a caller's fields.
RESERVED_PARAMS = frozenset({"model", "messages", "input", "prompt", "question", "query", "stream"})
# Headers that belong to the connection or to our own request.
RESERVED_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade"}
)
Seconds = Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)]
Params = Annotated[dict[str, Any], Field(max_length=50)]

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
    timeout_seconds: Seconds = 60.0
    first_byte_timeout_seconds: Seconds | None = Field(
        default=None, description="The longest that it may keep silent first, in seconds."
    )

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
                raise RuleError("model_id", "is required when provider is openrouter")
            for field in ("endpoint_url", "auth_method", "auth_header_name", "auth_token"):
                if getattr(self, field) is not None:
                    raise RuleError(field, "does not go with provider openrouter")
        elif self.endpoint_url is None:
            raise RuleError("endpoint_url", f"is required when provider is {self.provider}")
        if (self.auth_method is None) != (self.auth_token is None):
            fields = ("auth_method", "auth_token")
            missing, given = fields if self.auth_method is None else reversed(fields)
            raise RuleError(missing, f"goes with {given}")
        if (self.auth_method == "custom_header") != (self.auth_header_name is not None):
            raise RuleError("auth_header_name", "goes with auth_method custom_header")
        return self


class CandidateChanges(Input):
    """What to change of a candidate; what rankings rest on stays as it is."""

    display_name: Name | LeftOut = None
    input_price_per_million_usd: Price | None = None
    output_price_per_million_usd: Price | None = None
    timeout_seconds: Seconds | LeftOut = None
    first_byte_timeout_seconds: Seconds | None = None

    @model_validator(mode="after")
    def _null_takes_back_what_may_be_missing(self) -> Self:
        for field in {"display_name", "timeout_seconds"} & self.model_fields_set:
            if getattr(self, field) is None:
                raise RuleError(field, "must not be null")
        return self
