"""Answers as JSON: what a simulated model says, put into the schema that was asked for."""

import json
import re
from typing import Any

# Deeper than any schema that somebody writes; a recursive one ends here.
_DEEPEST = 12
_ANSWER_LINE = re.compile(r"^Answer:[ \t]*(\S.*)$", re.MULTILINE)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def write_json_answer(text: str, schema: dict[str, Any]) -> str:
    """Write an answer as JSON of *schema*: texts and numbers are the answer, the rest is plain.

    An empty schema admits any object, which is then `{"answer": ...}`.

    Args:
        text: What the model would say without a schema.
        schema: The schema that was asked for.
    """
    lines = _ANSWER_LINE.findall(text)
    answer = lines[-1] if lines else text
    value = _fill(schema, schema, answer, _DEEPEST) if schema else {"answer": answer}
    return json.dumps(value, ensure_ascii=False)


def _fill(schema: object, root: dict[str, Any], answer: str, depth: int) -> Any:
    if not isinstance(schema, dict) or not depth:
        return None
    match schema:
        case {"$ref": str(path)}:
            return _fill(_resolve(path, root), root, answer, depth - 1)
        case {"const": value}:
            return value
        case {"enum": [first, *_] as values}:
            return answer if answer in values else first
        case {"anyOf": [first, *_]} | {"oneOf": [first, *_]}:
            return _fill(first, root, answer, depth - 1)
    return _fill_type(schema, root, answer, depth)


def _fill_type(schema: dict[str, Any], root: dict[str, Any], answer: str, depth: int) -> Any:
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "string":
            return answer
        case "integer" | "number" as wanted:
            return _number(answer, is_whole=wanted == "integer")
        case "boolean":
            return True
        case "array":
            return [_fill(schema.get("items"), root, answer, depth - 1)]
        case "null":
            return None
    properties = schema.get("properties")
    names = properties if isinstance(properties, dict) else {}
    return {name: _fill(names[name], root, answer, depth - 1) for name in names}


def _resolve(path: str, root: dict[str, Any]) -> object:
    """Return what a local reference stands for, such as `#/$defs/Step`."""
    found: Any = root
    for name in path.removeprefix("#").split("/")[1:]:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _number(answer: str, *, is_whole: bool) -> float:
    found = _NUMBER.search(answer.replace(",", ""))
    figure = float(found[0]) if found and len(found[0]) < 16 else 0.0  # noqa: PLR2004 - exact
    return int(figure) if is_whole else figure
