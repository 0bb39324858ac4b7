"""The settings, read once from the environment, and the errors that wrong ones give."""

import base64
import hmac
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from providers.object_store import ObjectStoreOptions

MEBIBYTE = 1024 * 1024
KEEP_ALIVE_SECONDS = 75
DEFAULT_DATA_DIR = Path(".gero")
VAULT_KEY_BYTES = 32
# Of what can be wrong with a value, as pydantic calls it, that of a number, a switch or a choice
# alone: other values may hold a secret.
PLAIN_KINDS = ("int", "float", "finite", "bool", "literal", "greater", "less")


class SettingsError(Exception):
    """The environment holds a wrong setting; the message is one line that names it."""


class Settings(BaseSettings):
    """Every setting; each is an environment variable, `GERO_` and the name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="GERO_", frozen=True, extra="ignore", populate_by_name=True
    )

    database_url: str = Field(
        description="PostgreSQL 15 or later, as postgresql://user:password@host:port/name. "
        "`gero up` starts an embedded server when this is not set."
    )
    secret_key: SecretStr = Field(
        description="32 random bytes in base64, which encrypt stored provider keys. Make one with "
        "`openssl rand -base64 32`, and keep it: without it the stored keys are lost."
    )
    jwt_secret: SecretStr | None = Field(
        default=None,
        description="The Supabase project's JWT secret (HS256). Without it user sessions are "
        "refused, and only API tokens work.",
    )
    jwt_issuer: str = Field(
        default="gero",
        description="The `iss` of user sessions, such as https://<project>.supabase.co/auth/v1.",
    )
    jwt_audience: str = Field(default="authenticated", description="The `aud` of user sessions.")
    cron_secret: SecretStr | None = Field(
        default=None,
        description="What operators' routes (`/metrics`) are called with; without it they are off.",
    )
    public_url: str | None = Field(
        default=None,
        description="The address that clients reach the server at, for the URLs in answers. "
        "The request's own address when it is not set.",
    )
    huggingface_url: str = Field(
        default="https://huggingface.co",
        validation_alias=AliasChoices("GERO_HUGGINGFACE_URL", "HF_ENDPOINT", "huggingface_url"),
        description="The hub that datasets are read from. HF_ENDPOINT is read as well.",
    )
    openrouter_url: str = Field(
        default="https://openrouter.ai/api/v1", description="OpenRouter's API."
    )
    sandbox_url: str | None = Field(
        default=None,
        description="A sandbox provider, which serves the models named sandbox/... and the "
        "datasets of gero-sandbox. `gero up` starts one and sets this.",
    )
    allow_private_endpoints: bool = Field(
        default=False,
        description="Admit candidate endpoints over http and at private addresses. Only for a "
        "machine of your own: it lets users make the server call your internal network.",
    )
    keep_alive_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=KEEP_ALIVE_SECONDS,
        description="How long a client's connection is kept unused. Longer than a load balancer "
        "before the server keeps its own, or calls that cross the closing of one fail: AWS's keeps "
        "them for 60 seconds, Google's for 600.",
    )
    database_pool_size: Annotated[int, Field(ge=2, le=200)] = Field(
        default=20,
        description="Database connections of one process that serve requests; its background "
        "work has as many of its own.",
    )
    database_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=10,
        description="How long a request waits for one answer of the database before it fails "
        "with 503. Background work waits longer.",
    )
    run_concurrency: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=16, description="Calls of a run under way at once, for each workspace and provider."
    )
    judge_models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("anthropic/claude-opus-4.5", "openai/gpt-5.2", "google/gemini-3-pro-preview"),
        description="Judges that `judge_auto` picks from, the best first, with commas between; "
        "one of another family than any candidate is taken. Auto-labels ask the same one, or "
        "else the first, when no model is named.",
    )
    worker_timeout_seconds: Annotated[float, Field(ge=1, le=600)] = Field(
        default=10,
        description="How long a worker may be silent before it is taken for dead and its jobs go "
        "on elsewhere.",
    )
    max_provider_connections: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=500, description="Sockets to providers open at once."
    )
    max_provider_response_bytes: Annotated[int, Field(ge=1_024)] = Field(
        default=10 * MEBIBYTE, description="The largest answer of a model that is read."
    )
    max_body_bytes: Annotated[int, Field(ge=1_024)] = Field(
        default=5 * MEBIBYTE, description="The largest request body; above it, 413."
    )
    max_bodies_bytes: Annotated[int, Field(ge=1_024)] = Field(
        default=256 * MEBIBYTE,
        description="Request bodies in memory at once; a request beyond it is answered 503, to "
        "come back in a second.",
    )
    dataset_max_bytes: Annotated[int, Field(ge=1_024)] = Field(
        default=2_048 * MEBIBYTE, description="The largest dataset file, once uncompressed."
    )
    dataset_max_rows: Annotated[int, Field(ge=1)] = Field(
        default=1_000_000, description="Rows of a dataset at most."
    )
    object_store_url: str | None = Field(
        default=None,
        description="Where snapshots are kept: a directory (an absolute path), "
        "`s3://bucket/prefix` or `gs://bucket/prefix`. The directory `objects` in GERO_DATA_DIR "
        "when it is not set; servers and workers on several machines need a bucket.",
    )
    s3_endpoint_url: str | None = Field(
        default=None, description="A service that speaks S3; Amazon's own when it is not set."
    )
    s3_region: str | None = Field(default=None, description="The bucket's region.")
    s3_access_key_id: str | None = Field(
        default=None,
        description="With GERO_S3_SECRET_ACCESS_KEY; what the machine is given when not set.",
    )
    s3_secret_access_key: SecretStr | None = Field(
        default=None, description="With GERO_S3_ACCESS_KEY_ID."
    )
    push_max_row_bytes: Annotated[int, Field(ge=1_024)] = Field(
        default=MEBIBYTE, description="The largest row that a push may bring, as canonical JSON."
    )
    push_rows_before_models: Annotated[int, Field(ge=0)] = Field(
        default=100,
        description="Rows that a pushed dataset must have accepted before its leaderboard takes "
        "models.",
    )
    trace_retention_days: Annotated[int, Field(ge=1, le=3_650)] = Field(
        default=90,
        description="How long traces are kept, in days; a workspace may choose fewer. Older ones "
        "are not taken, not shown, and dropped within a day.",
    )
    otlp_max_bytes: Annotated[int, Field(ge=1_024)] = Field(
        default=4 * MEBIBYTE,
        description="The largest OTLP request, once uncompressed; above it, 413. "
        "GERO_MAX_BODY_BYTES bounds it as it is sent.",
    )
    otlp_max_spans: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=5_000,
        description="Spans that are taken of an OTLP request; the answer counts the others as "
        "rejected.",
    )
    budget_hold_seconds: Annotated[int, Field(ge=10)] = Field(
        default=180,
        description="How long a budget is held for a call beyond the longest that the call may "
        "take, for the answer to be stored; then a server that died has left it.",
    )
    budget_wait_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        default=10,
        description="How long a call waits for money that its token's other calls hold and may "
        "not need, before it is refused.",
    )
    answer_first: bool = Field(
        default=False,
        description="Answer a call of production before its trace and its charge are stored, which "
        "saves the wait for a commit. What a crash then takes away was answered and is charged to "
        "nobody.",
    )
    max_inferences: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=1_000,
        description="Calls of production under way at once, until they are stored; further ones "
        "are answered 503, to come back in a second.",
    )
    budget_default_max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=1_024,
        description="The max_tokens that a call is sent with, when its token has a budget and "
        "neither the request nor the candidate sets one.",
    )
    idempotency_claim_seconds: Annotated[int, Field(ge=1)] = Field(
        default=60,
        description="How long a repeated request waits, after the server of the first one died, "
        "before it takes over. A first one that is alive keeps its claim, however slow it is.",
    )
    graphql_max_depth: Annotated[int, Field(ge=1)] = Field(
        default=15, description="Levels of a GraphQL operation."
    )
    graphql_max_tokens: Annotated[int, Field(ge=10)] = Field(
        default=5_000, description="Lexical tokens of a GraphQL document."
    )
    graphql_max_aliases: Annotated[int, Field(ge=0)] = Field(
        default=50, description="Aliases in a GraphQL document."
    )
    graphql_max_cost: Annotated[int, Field(ge=1)] = Field(
        default=200_000,
        description="Fields that a GraphQL operation may return, by its page sizes.",
    )
    graphql_compiled: bool = Field(
        default=True,
        description="Compile GraphQL operations to Python; without it graphql-core walks them, "
        "which gives the same answers more slowly.",
    )
    graphql_allow_list: Path | None = Field(
        default=None,
        description="A JSON file of GraphQL documents by SHA-256, or Apollo's manifest; no others "
        "are run, so that GraphiQL and introspection stop working.",
    )
    graphql_introspection: bool = Field(default=True, description="Answer introspection queries.")
    graphiql: bool = Field(default=True, description="Serve GraphiQL at /graphql.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="The least severe messages that are logged; libraries' are from warning on.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Lines of text, or an object of JSON on each line."
    )
    otlp_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "GERO_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint"
        ),
        description="An OpenTelemetry collector's base URL, such as http://127.0.0.1:4318, that "
        "spans are sent to by OTLP over HTTP. OTEL_EXPORTER_OTLP_ENDPOINT is read as well. No "
        "spans are made when it is not set.",
    )
    service_name: str = Field(
        default="gero",
        validation_alias=AliasChoices("GERO_SERVICE_NAME", "OTEL_SERVICE_NAME", "service_name"),
        description="What the spans' service is called. OTEL_SERVICE_NAME is read as well.",
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if not separator or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
            raise ValueError("must start with postgresql://")
        return f"postgresql+asyncpg://{rest}"

    @field_validator("judge_models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("secret_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        try:
            key = base64.b64decode(value.get_secret_value(), validate=True)
        except ValueError as error:
            raise ValueError("must be base64") from error
        if len(key) != VAULT_KEY_BYTES:
            raise ValueError(f"must be {VAULT_KEY_BYTES} bytes in base64, not {len(key)}")
        return value

    @field_validator("otlp_endpoint", mode="before")
    @classmethod
    def _is_set(cls, value: object) -> object:
        return value or None  # OpenTelemetry takes an empty variable for one that is not set

    @field_validator(
        "huggingface_url", "openrouter_url", "sandbox_url", "public_url", "otlp_endpoint"
    )
    @classmethod
    def _is_a_base_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be an http or https URL")
        return value.rstrip("/") if value is not None else None

    @property
    def dsn(self) -> str:
        """Where the database is, as asyncpg writes it."""
        return self.database_url.replace("postgresql+asyncpg://", "postgresql://", 1)

    @property
    def object_store(self) -> str:
        """Where snapshots are kept."""
        data_dir = Path(os.environ.get("GERO_DATA_DIR", DEFAULT_DATA_DIR))
        return self.object_store_url or str((data_dir / "objects").resolve())

    @property
    def object_store_options(self) -> ObjectStoreOptions:
        """How an S3 bucket is reached."""
        secret = self.s3_secret_access_key
        return ObjectStoreOptions(
            endpoint_url=self.s3_endpoint_url,
            region=self.s3_region,
            access_key_id=self.s3_access_key_id,
            secret_access_key=secret.get_secret_value() if secret else None,
            allow_http=bool(self.s3_endpoint_url and self.s3_endpoint_url.startswith("http://")),
        )

    @property
    def operator_secret(self) -> str | None:
        """What operators' routes are called with; None leaves them off."""
        return self.cron_secret.get_secret_value() if self.cron_secret else None

    @property
    def vault_key(self) -> bytes:
        """The key that encrypts stored secrets."""
        return base64.b64decode(self.secret_key.get_secret_value())

    def derive_key(self, purpose: str) -> bytes:
        """Return a key for *purpose* alone, from which the vault's can't be found."""
        return hmac.digest(self.vault_key, f"gero {purpose}".encode(), "sha256")


def variable_names() -> Mapping[str, str]:
    """Return each setting's environment variable, by the setting's name."""
    return {name: f"GERO_{name.upper()}" for name in Settings.model_fields}


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; *overrides* win over it.

    Raises:
        SettingsError: A setting is missing, wrong, or unknown.
    """
    known = set(variable_names().values()) | {"GERO_DATA_DIR"}
    unknown = sorted(name for name in os.environ if name.startswith("GERO_") and name not in known)
    if unknown:
        close = get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SettingsError(f"{unknown[0]} is not a setting{hint}")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = str(problem["loc"][0]) if problem["loc"] else ""
        name = field if field.isupper() else f"GERO_{field.upper()}"
        if problem["type"] == "missing":
            raise SettingsError(f"{name} is not set") from error
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"].startswith(PLAIN_KINDS):
            message += f" (got {problem['input']!r})"
        raise SettingsError(f"{name}: {message}") from error
