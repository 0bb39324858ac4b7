"""Reading OTLP's JSON, whose mistakes are named."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import orjson

from engine.otlp_spans import Group, OtlpError, WireSpan, check_depth, storable

Value = TypeVar("Value")

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_BASE64_OF_URLS = str.maketrans("-_", "+/")
_INT64, _UINT64, _INT32 = (-(2**63), 2**63), (0, 2**64), (-(2**31), 2**31)


def iterate_json(body: bytes) -> Iterator[Group]:
    """Yield the spans of each scope.

    Raises:
        OtlpError: While it is iterated: a part that is reached is not what it should be.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise OtlpError("", f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise OtlpError("", "the body must be an object")
    for place, from_resource in _objects(request, "resourceSpans"):
        with _inside(place):
            resource = _read_in(from_resource, "resource", _read_pairs)
            scopes = list(_objects(from_resource, "scopeSpans"))
        for inner_place, from_scope in scopes:
            where = f"{place}.{inner_place}"
            with _inside(where):
                names = _read_in(from_scope, "scope", _read_scope)
                spans = _list(from_scope, "spans")
            yield spans, partial(_read_span, where, resource, *names)


@contextmanager
def _inside(place: str) -> Iterator[None]:
    try:
        yield
    except OtlpError as error:
        raise error.inside(place) from error


def _read_span(
    where: str, resource: dict[str, Any], scope_name: str, version: str, place: int, span: Any
) -> WireSpan:
    with _inside(f"{where}.spans[{place}]"):
        if not isinstance(span, dict):
            raise OtlpError("", "must be an object")
        status_code, status_message = _read_in(span, "status", _read_status)
        return WireSpan(
            trace_id=_hex(span, "traceId"),
            span_id=_hex(span, "spanId"),
            parent_span_id=_hex(span, "parentSpanId"),
            name=_string(span, "name"),
            start_ns=_integer(span, "startTimeUnixNano", *_UINT64),
            end_ns=_integer(span, "endTimeUnixNano", *_UINT64),
            status_code=status_code,
            status_message=status_message,
            attributes=_read_pairs(span),
            events=tuple(_read_each(span, "events", _read_event)),
            resource=resource,
            scope_name=scope_name,
            scope_version=version,
        )


def _read_scope(scope: Mapping[str, Any]) -> tuple[str, str]:
    return _string(scope, "name"), _string(scope, "version")


def _read_status(status: Mapping[str, Any]) -> tuple[int, str]:
    return _integer(status, "code", *_INT32), _string(status, "message")


def _read_event(event: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return _string(event, "name"), _read_pairs(event)


def _read_pairs(
    holder: Mapping[str, Any], name: str = "attributes", depth: int = 0
) -> dict[str, Any]:
    return dict(_read_each(holder, name, _read_pair, depth))


def _read_pair(pair: Mapping[str, Any], depth: int) -> tuple[str, Any]:
    return _string(pair, "key"), _read_in(pair, "value", _read_value, depth)


def _read_value(value: Mapping[str, Any], depth: int) -> Any:
    if value.get("stringValue") is not None:
        return _string(value, "stringValue")
    if value.get("boolValue") is not None:
        return _boolean(value, "boolValue")
    if value.get("intValue") is not None:
        return _integer(value, "intValue", *_INT64)
    if value.get("doubleValue") is not None:
        return _double(value, "doubleValue")
    if value.get("arrayValue") is not None:
        check_depth(depth)
        return _read_in(value, "arrayValue", _read_each, "values", _read_value, depth + 1)
    if value.get("kvlistValue") is not None:
        check_depth(depth)
        return _read_in(value, "kvlistValue", _read_pairs, "values", depth + 1)
    if value.get("bytesValue") is not None:
        return _base64(value, "bytesValue")
    return None


def _read_in(
    holder: Mapping[str, Any], name: str, read: Callable[..., Value], *further: Any
) -> Value:
    """Read the object of that name; what is wrong in it is told as within it."""
    inner = _object(holder, name)
    try:
        return read(inner, *further)
    except OtlpError as error:
        raise error.inside(name) from error


def _read_each(
    holder: Mapping[str, Any], name: str, read: Callable[..., Value], *further: Any
) -> list[Value]:
    """Read the objects of an array; what is wrong in one is told as within it."""
    made = []
    for place, value in enumerate(_list(holder, name)):
        try:
            if not isinstance(value, dict):
                raise OtlpError("", "must be an object")
            made.append(read(value, *further))
        except OtlpError as error:
            raise error.inside(f"{name}[{place}]") from error
    return made


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = holder.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OtlpError(name, "must be an object")
    return value


def _list(holder: Mapping[str, Any], name: str) -> list[Any]:
    value = holder.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise OtlpError(name, "must be an array")
    return value


def _objects(holder: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of an array, each with where it is."""
    for place, value in enumerate(_list(holder, name)):
        if not isinstance(value, dict):
            raise OtlpError(f"{name}[{place}]", "must be an object")
        yield f"{name}[{place}]", value


def _string(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise OtlpError(name, "must be a string")
    return storable(value)


def _boolean(holder: Mapping[str, Any], name: str) -> bool:
    value = holder[name]
    if not isinstance(value, bool):
        raise OtlpError(name, "must be true or false")
    return value


def _integer(holder: Mapping[str, Any], name: str, least: int, beyond: int) -> int:
    value = holder.get(name)
    if value is None:
        return 0
    is_text = isinstance(value, str) and _INTEGER.fullmatch(value)
    if is_text or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < beyond:
        raise OtlpError(name, f"must be an integer of {least} to {beyond - 1}, as one or as text")
    return value


def _double(holder: Mapping[str, Any], name: str) -> float:
    value = holder[name]
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError) as error:
        raise OtlpError(name, "must be a number") from error
    raise OtlpError(name, "must be a number")


def _base64(holder: Mapping[str, Any], name: str) -> str:
    """Return base64 text in its usual form; JSON may have the one for URLs, without padding."""
    text = _string(holder, name)
    try:
        padded = text.translate(_BASE64_OF_URLS).rstrip("=")
        content = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except ValueError as error:
        raise OtlpError(name, "must be base64") from error
    return base64.b64encode(content).decode()


def _hex(holder: Mapping[str, Any], name: str) -> bytes:
    text = _string(holder, name)
    if not _HEX.fullmatch(text):
        raise OtlpError(name, "must be hexadecimal digits, two for each byte")
    return bytes.fromhex(text)
