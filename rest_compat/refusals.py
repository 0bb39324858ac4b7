"""Refusals in the form that is spoken where a request went."""

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from resolvers.errors import AppError
from rest_compat.otlp_answers import OTLP_PATHS, encoding_of, failure_response
from rest_compat.problems import problem_response


def refusal_response(scope: Scope, error: AppError) -> Response:
    """Return *error* as an answer to the request that *scope* is of."""
    if scope["path"] in OTLP_PATHS:
        return failure_response(error, encoding_of(Headers(scope=scope)))
    return problem_response(error, scope["path"])
