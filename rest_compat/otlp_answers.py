"""OTLP over HTTP: how requests say what they are, and how they are answered."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from engine.inflate import Coding
from engine.otlp_wire import OtlpEncoding, encode_answer, encode_failure
from resolvers.errors import AppError, UnsupportedMediaTypeError
from resolvers.span_intake import SpanReceipt
from rest_compat.problems import STATUS, problem_response

# The second is what SDKs make of a base address, OTEL_EXPORTER_OTLP_ENDPOINT.
OTLP_PATHS: Final = ("/v1/otlp/traces", "/v1/otlp/v1/traces")
UNCOMPRESSED: Final = ("", "identity")


def encoding_of(headers: Mapping[str, str]) -> OtlpEncoding:
    """Return the encoding to answer in: that of the request, or else JSON."""
    is_protobuf = _media_type(headers) == OtlpEncoding.PROTOBUF
    return OtlpEncoding.PROTOBUF if is_protobuf else OtlpEncoding.JSON


def check_media_type(headers: Mapping[str, str]) -> None:
    """Refuse a body of another type than OTLP has.

    Raises:
        UnsupportedMediaTypeError: It is.
    """
    given = _media_type(headers)
    if given not in set(OtlpEncoding):
        known = " or ".join(OtlpEncoding)
        raise UnsupportedMediaTypeError(f"Content-Type: must be {known} (got {given!r})")


def coding_of(headers: Mapping[str, str]) -> Coding | None:
    """Return how the body is compressed; None when it is not.

    Raises:
        UnsupportedMediaTypeError: In a way that is not read here.
    """
    given = headers.get("content-encoding", "").strip().lower()
    if given in UNCOMPRESSED:
        return None
    try:
        return Coding(given)
    except ValueError as error:
        known = " or ".join(Coding)
        raise UnsupportedMediaTypeError(
            f"Content-Encoding: must be {known} (got {given!r})"
        ) from error


def receipt_response(receipt: SpanReceipt, encoding: OtlpEncoding) -> Response:
    """Return what became of a request's spans as an answer."""
    body = encode_answer(encoding, rejected_count=receipt.rejected_count, message=receipt.message)
    return Response(body, media_type=encoding)


def failure_response(error: AppError, encoding: OtlpEncoding) -> Response:
    """Return an error as an answer: a google.rpc.Status, in the encoding of the request."""
    fields = error.details.get("fields") or [{}]
    status = STATUS[error.code]
    body = encode_failure(encoding, status, str(error), field=fields[0].get("field"))
    response = problem_response(error)
    kept = {name: response.headers[name] for name in ("retry-after", "www-authenticate")
            if name in response.headers}  # fmt: skip
    return Response(body, status, kept, media_type=encoding)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
