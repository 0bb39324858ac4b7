"""Application errors as the published JSON, and the one table from code to status."""

from http import HTTPStatus
from typing import Any, Final

import asyncpg
import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from providers.base import ProviderErrorCode
from resolvers.errors import (
    AppError,
    BodyTooLargeError,
    ErrorCode,
    InvalidInputError,
    MethodNotAllowedError,
    NotFoundError,
)
from resolvers.failures import explain_failure
from resolvers.inputs import invalid_input

GRAPHQL_PATH = "/graphql"
CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
# OpenAI's kinds of errors, by status; of any other it is `api_error`.
KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
NOT_AN_OBJECT = {"missing", "model_attributes_type", "model_type", "dict_type"}

STATUS: Final[dict[ErrorCode, HTTPStatus]] = {
    ErrorCode.INVALID_INPUT: HTTPStatus.BAD_REQUEST,
    ErrorCode.UNSUPPORTED_OPTION: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_DATASET: HTTPStatus.BAD_REQUEST,
    ErrorCode.QUERY_TOO_COSTLY: HTTPStatus.BAD_REQUEST,
    ErrorCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.BUDGET_EXCEEDED: HTTPStatus.PAYMENT_REQUIRED,
    ErrorCode.PRICE_UNKNOWN: HTTPStatus.PAYMENT_REQUIRED,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.DOCUMENT_NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.PERSISTED_QUERY_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCode.CONFLICT: HTTPStatus.CONFLICT,
    ErrorCode.RANKING_NOT_READY: HTTPStatus.CONFLICT,
    ErrorCode.INTEGRATION_MISSING: HTTPStatus.CONFLICT,
    ErrorCode.IDEMPOTENCY_CONFLICT: HTTPStatus.CONFLICT,
    ErrorCode.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.CORRUPT_SNAPSHOT: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.UPSTREAM_ERROR: HTTPStatus.BAD_GATEWAY,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


# Why a model failed that would fail again, where it is the only one that was asked. OpenAI's
# clients ask twice more after any 5xx, unless they are told.
FINAL = {
    ProviderErrorCode.REJECTED.value,
    ProviderErrorCode.CREDENTIAL_REFUSED.value,
    ProviderErrorCode.NOT_FOUND.value,
}


def error_body(error: AppError) -> dict[str, Any]:
    """Return the published form of *error*."""
    return {"error": str(error), "code": error.code.value, "details": error.details}


def graphql_body(error: AppError) -> dict[str, Any]:
    """Return *error* as GraphQL tells one of a whole request."""
    status = int(STATUS[error.code])
    extensions = {"code": error.code, "status": status, "details": error.details}
    return {"errors": [{"message": str(error), "extensions": extensions}]}


def openai_body(error: AppError) -> dict[str, Any]:
    """Return *error* as OpenAI's API tells one."""
    status = int(STATUS[error.code])
    fields = error.details.get("fields") or [{}]
    field = error.details.get("field") or fields[0].get("field")
    return {
        "error": {
            "message": _explained(error),
            "type": KINDS.get(status, "api_error"),
            "param": field if isinstance(field, str) else None,
            "code": error.code.value,
            "details": error.details,
        }
    }


def _explained(error: AppError) -> str:
    """Return what *error* says, and what the model said: many clients show nothing else."""
    answered = error.details.get("upstream_body")
    told = answered.get("error") if isinstance(answered, dict) else None
    said = told.get("message") if isinstance(told, dict) else told
    message = str(error)
    return f"{message}: {said}" if isinstance(said, str) and said not in message else message


def problem_response(error: AppError, path: str = "") -> Response:
    """Return *error* as an answer, in the form that is spoken at *path*."""
    body_of = error_body
    if path == GRAPHQL_PATH:
        body_of = graphql_body
    elif path in {CHAT_PATH, MODELS_PATH} or path.startswith(f"{MODELS_PATH}/"):
        body_of = openai_body
    return Response(
        orjson.dumps(body_of(error)),
        STATUS[error.code],
        problem_headers(error),
        media_type="application/json",
    )


def problem_headers(error: AppError) -> dict[str, str]:
    """Return the headers that go with *error*."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if STATUS[error.code] == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.details.get("reason") in FINAL and "failed" not in error.details:
        headers["X-Should-Retry"] = "false"
    return headers


def not_json(reason: str) -> InvalidInputError:
    """Return the refusal of a body that can't be parsed."""
    return InvalidInputError(f"the body is not valid JSON: {reason}")


def not_an_object() -> InvalidInputError:
    """Return the refusal of a body that is something else than an object."""
    return InvalidInputError(
        "the body must be a JSON object, sent with Content-Type: application/json"
    )


async def _on_error(request: Request, error: Exception) -> Response:
    request_id: str = request.scope.get("request_id", "")
    return problem_response(explain_failure(error, request_id), request.url.path)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return await _on_error(request, error)
    path = request.url.path
    problems: list[Any] = []
    for problem in error.errors():
        if problem["type"] == "json_invalid":
            reason = problem.get("ctx", {}).get("error", "")
            return problem_response(not_json(reason), path)
        problems.append(problem)
    if any(
        problem["loc"] == ("body",) and problem["type"] in NOT_AN_OBJECT for problem in problems
    ):
        return problem_response(not_an_object(), path)
    # The first part of a place says where it was read: body, query or path.
    placed: list[Any] = [{**problem, "loc": problem["loc"][1:]} for problem in problems]
    return problem_response(invalid_input(placed), path)


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _on_error(request, error)
    path, method = request.url.path, request.method
    translated: AppError
    if error.status_code == HTTPStatus.NOT_FOUND:
        translated = NotFoundError(f"there is nothing at {path}")
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        translated = MethodNotAllowedError(f"{path} does not take {method}")
    elif error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        translated = BodyTooLargeError(str(error.detail))
    else:
        translated = InvalidInputError(str(error.detail))
    response = problem_response(translated, path)
    if error.headers:
        response.headers.update(error.headers)
    if "Allow" in response.headers and (allowed := _documented_methods(request)):
        response.headers["Allow"] = ", ".join(allowed)
    return response


def _documented_methods(request: Request) -> list[str]:
    """Return the methods of the path; the router knows only those of its first route there."""
    return sorted(
        method.upper()
        for template, operations in request.app.openapi()["paths"].items()
        if compile_path(template)[0].match(request.url.path)
        for method in operations
    )


def install(app: FastAPI) -> None:
    """Register the handlers on *app*."""
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(AppError, _on_error)
    app.add_exception_handler(ValidationError, _on_error)
    for kind in (
        DBAPIError,
        PoolTimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        OSError,
    ):
        app.add_exception_handler(kind, _on_error)
    app.add_exception_handler(Exception, _on_error)
