"""What openapi.yaml says beside the routes themselves: credentials, failures, servers."""

from copy import deepcopy
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from resolvers.inputs import NewTrace, NewTraces
from rest_compat.shapes import OpenAIProblem, Problem, TraceList
from rest_compat.trace_shapes import RpcStatus

DESCRIPTION: Final = """\
Rank language models on your own task, and serve the winner behind one endpoint.

The same use cases answer GraphQL at `/graphql`. Names in bodies may be snake_case or camelCase;
answers are snake_case. Unknown fields are refused.
"""
SCHEMES: Final = {
    "apiToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API token (drgero_...) or a user session's JWT.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "geroApiKey": {"type": "apiKey", "in": "header", "name": "X-Dr.Gero-API-Key"},
}
OPERATOR_SCHEMES: Final = {
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "description": "The deployment's GERO_CRON_SECRET.",
    },
    "operatorKey": {"type": "apiKey", "in": "header", "name": "X-Cron-Secret"},
}
TAGS: Final = {
    "leaderboards": "A task, its dataset, and which model serves it.",
    "models": "The candidate models that a leaderboard compares.",
    "datasets": "The rows that models are compared on.",
    "runs": "Calling every candidate on every row, and ranking them.",
    "inference": "Answers by the model in production.",
    "openai": "Production, as OpenAI's clients call it.",
    "traces": "Every model call, as it was made.",
    "health": "Whether the server can serve, and what it serves.",
}
PUBLIC: Final = {"healthz", "readyz", "openapi"}
OPERATORS: Final = {"metrics", "consolidateDueDatasets"}
# Spans are told apart by their own ids.
SPANS: Final = {"exportSpans", "exportSpansAlias"}
# POSTs that take no Idempotency-Key: those that create nothing and spend nothing, too.
NOT_REPEATABLE: Final = {"checkHuggingFaceDataset", *SPANS}
COMMON: Final = {
    400: "The body, the query or an option is not valid.",
    401: "There is no credential, or it is not valid.",
    403: "The credential does not grant this.",
    500: "An internal error, which is logged.",
    503: "The database can't be reached; try again.",
}
PROBLEM: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
OPENAI_PROBLEM: Final = {
    "application/json": {"schema": {"$ref": "#/components/schemas/OpenAIProblem"}}
}
RPC_STATUS: Final = {
    "application/json": {"schema": {"$ref": "#/components/schemas/RpcStatus"}},
    "application/x-protobuf": {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "A google.rpc.Status.",
        }
    },
}
OPERATORS_ONLY: Final = {
    401: COMMON[401],
    404: "The deployment has no GERO_CRON_SECRET.",
    500: COMMON[500],
}
NOT_FOUND: Final = {404: "There is no such thing in the workspace."}
BODY_REFUSED: Final = {413: "The body is too large.", 415: "The body is compressed."}
ALSO: Final[dict[str, dict[int, str]]] = {
    "createLeaderboard": {409: "The Idempotency-Key was used otherwise.", 502: "The hub failed."},
    "updateLeaderboard": {409: "Nothing is selected for manual selection.", 502: "The hub failed."},
    "addLeaderboardModel": {
        409: "A key at OpenRouter is needed, or there are too many models.",
        502: "OpenRouter failed.",
    },
    "removeLeaderboardModel": {409: "It is pinned, or in a run under way."},
    "startRun": {409: "There are no candidate models, or no snapshot."},
    "improveDataset": {409: "There are no candidate models, or no snapshot."},
    "startAutoLabels": {
        409: "Another job labels the dataset, or a key at OpenRouter is needed.",
        502: "OpenRouter's model list can't be read.",
    },
    "infer": {
        402: "The token's budget can't cover the call, or what it may cost is not known.",
        409: "No ranking is complete.",
        429: "The token has had its requests or tokens of this minute.",
        502: "The model in production failed.",
        503: "The server has as many calls under way as it can hold, or no database.",
    },
}
ALSO["createChatCompletion"] = ALSO["infer"] | {404: "There is no such leaderboard."}
ALSO["inferAlias"] = ALSO["infer"]
ALSO["pushRows"] = {409: "The dataset is read from a URL.", 413: "More than 1,000 rows, or 5 MiB."}
ALSO["pushRowsAlias"] = ALSO["pushRows"]
ALSO["consolidateDataset"] = {
    409: "The Idempotency-Key was used otherwise.",
    502: "The hub failed.",
}
ALSO["addTraces"] = ALSO["addTracesAlias"] = {
    409: "The Idempotency-Key was used otherwise.",
    413: "More than 1,000 traces, or 5 MiB.",
}
ALSO["exportSpans"] = ALSO["exportSpansAlias"] = {
    413: "The body is too large, as it is sent or once it is uncompressed.",
    415: "The body is of another type or coding than those that are read.",
    503: "The server has as many requests as it can hold, or no database; try again.",
}
ALSO["downloadDataset"] = {409: "There is no snapshot yet."}
ALSO["createPushToken"] = {409: "The dataset is read from a URL, or has too many tokens."}
PUSH_SCHEMES: Final = {
    "pushToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Dr.Gero-Push-Token",
        "description": "A leaderboard's push token (hpd_...); also as a bearer token.",
    },
}
PUSHES: Final = {"pushRows", "pushRowsAlias"}
USD: Final = {"type": "string", "pattern": r"^(\d+\.\d{2,}|unlimited)$"}
HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Request-Id": {
        "description": "Names the request in the server's log; the caller's own, if it sent one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,100}$"},
    },
    "WWW-Authenticate": {"required": True, "schema": {"type": "string", "const": "Bearer"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": r"^\d+$"}},
    "Idempotent-Replayed": {
        "description": "This answer was given before, to the same Idempotency-Key.",
        "schema": {"type": "string", "const": "true"},
    },
    "X-Dr.Gero-Trace-Id": {"required": True, "schema": {"type": "string", "format": "uuid"}},
    "X-Dr.Gero-Selected-Model": {"required": True, "schema": {"type": "string"}},
    "X-Dr.Gero-Selected-Provider": {"required": True, "schema": {"type": "string"}},
    "X-Dr.Gero-Fallback-Reason": {
        "description": "Of an answer by another model: which one failed before, and how.",
        "schema": {"type": "string"},
    },
    "X-Dr.Gero-Token-Budget-Limit-Usd": {"required": True, "schema": USD},
    "X-Dr.Gero-Token-Budget-Used-Usd": {"required": True, "schema": USD},
    "X-Dr.Gero-Token-Budget-Remaining-Usd": {
        "description": "Zero, too, when a call cost more than was left.",
        "required": True,
        "schema": USD,
    },
    "X-Dr.Gero-Token-Budget-Reset-At": {
        "description": "RFC 3339, or never, or unlimited.",
        "required": True,
        "schema": {"type": "string"},
    },
    **{
        f"X-RateLimit-{what}-{kind}": {
            "description": f"Of a token with a limit of {kind.lower()} a minute.",
            "schema": {"type": "string"},
        }
        for kind in ("Requests", "Tokens")
        for what in ("Limit", "Remaining", "Reset")
    },
}
EXPORT_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Dr.Gero-Leaking-Rows": {
        "description": "Of the training side alone: rows that are left out because they are near "
        "to a validation row.",
        "schema": {"type": "string", "pattern": r"^\d+$"},
    },
    "X-Dr.Gero-Skipped-Rows": {
        "description": "Of the format openai alone: rows that are left out because they have no "
        "expected output, beside those that leak.",
        "schema": {"type": "string", "pattern": r"^\d+$"},
    },
}
HEADERS_OF_STATUS: Final = {
    "401": ["WWW-Authenticate"],
    "429": ["Retry-After"],
    "503": ["Retry-After"],
}
INFERENCE_HEADERS: Final = [
    name for name in HEADERS if name.startswith(("X-Dr.Gero-", "X-RateLimit-"))
]
# What failures of production tell, as far as it is known.
LIMIT_HEADERS: Final = [
    name for name in HEADERS if name.startswith(("X-Dr.Gero-Token-", "X-RateLimit-"))
]
STANDING_HEADERS: Final = {
    "402": LIMIT_HEADERS,
    "429": LIMIT_HEADERS,
    "502": ["X-Dr.Gero-Trace-Id", *LIMIT_HEADERS],
}
SERVED: Final = {"infer", "inferAlias", "createChatCompletion"}
OPENAI: Final = {"createChatCompletion", "listServedModels", "getServedModel"}
IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and body get the same answer; the same key with another body, "
    "409. Answers are kept for a day.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def describe(app: FastAPI) -> None:
    """Make *app* describe itself as the published contract does."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": "http://127.0.0.1:8000", "description": "A server of your own."}],
        routes=app.routes,
        separate_input_output_schemas=True,
    )
    schemas = document["components"]["schemas"]
    schemas |= _schemas_of_no_route()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["headers"] = HEADERS | EXPORT_HEADERS
    document["components"]["securitySchemes"] = SCHEMES | PUSH_SCHEMES | OPERATOR_SCHEMES
    document["tags"] = [
        {"name": name, "description": description} for name, description in TAGS.items()
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            takes_key = method == "post" and operation["operationId"] not in NOT_REPEATABLE
            _finish(path, operation, repeatable=takes_key)
    return document


def _schemas_of_no_route() -> dict[str, Any]:
    """Return the answers that FastAPI can't see: failures, and what is streamed."""
    _, definitions = models_json_schema(
        [
            (Problem, "serialization"),
            (OpenAIProblem, "serialization"),
            (TraceList, "serialization"),
            (RpcStatus, "serialization"),
            (NewTrace, "validation"),
            (NewTraces, "validation"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    return definitions["$defs"]  # type: ignore[no-any-return]


def _finish(path: str, operation: dict[str, Any], *, repeatable: bool) -> None:
    """Replace FastAPI's own failures by ours, and say which credential is needed."""
    name = operation["operationId"]
    responses = operation["responses"]
    responses.pop("422", None)
    if name in PUBLIC:
        operation["security"] = []
        _name_headers(name, responses, repeatable=False)
        return
    is_operators = name in OPERATORS
    schemes = OPERATOR_SCHEMES if is_operators else SCHEMES
    schemes = schemes | PUSH_SCHEMES if name in PUSHES else schemes
    operation["security"] = [{scheme: []} for scheme in schemes]
    failures = COMMON | (NOT_FOUND if "{" in path else {}) | ALSO.get(name, {})
    failures = OPERATORS_ONLY if is_operators else failures
    if "requestBody" in operation:
        failures = BODY_REFUSED | failures
    for status, description in sorted(failures.items()):
        content = deepcopy(_failure_of(name))
        responses[str(status)] = {"description": description, "content": content}
    repeatable = repeatable and not is_operators
    if repeatable:
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
    _name_headers(name, responses, repeatable=repeatable)


def _failure_of(name: str) -> dict[str, Any]:
    """Return the form that an operation's failures have."""
    if name in OPENAI:
        return OPENAI_PROBLEM
    return RPC_STATUS if name in SPANS else PROBLEM


def _name_headers(name: str, responses: dict[str, Any], *, repeatable: bool) -> None:
    for status, response in responses.items():
        names = ["X-Request-Id", *HEADERS_OF_STATUS.get(status, [])]
        if status.startswith("2"):
            names += INFERENCE_HEADERS if name in SERVED else []
        if repeatable and (status.startswith("2") or status == "502"):
            names.append("Idempotent-Replayed")
        if status == "200" and name == "downloadDataset":
            names += EXPORT_HEADERS
        response["headers"] = {each: {"$ref": f"#/components/headers/{each}"} for each in names}
        if name in SERVED and status in STANDING_HEADERS:
            response["headers"] |= {
                each: HEADERS[each] | {"required": False} for each in STANDING_HEADERS[status]
            }
