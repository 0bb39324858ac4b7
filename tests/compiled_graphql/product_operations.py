"""Random valid operations over a schema whose lists are Relay connections."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
)

from tests.factories import TWO_ROWS_URL

DEEPEST = 9
# What fields compare two of.
COMPARED = {"runComparison": "run", "snapshotDiff": "datasetSnapshot"}


@dataclass(frozen=True)
class Written:
    """An operation and its variables."""

    text: str
    variables: Mapping[str, Any]


@dataclass
class OperationWriter:
    """Writes operations.

    Attributes:
        schema: graphql-core's.
        rng: Decides everything.
        ids: Ids of the object types that are asked for by id.
        cursors: Cursors that are known so far.
    """

    schema: GraphQLSchema
    rng: random.Random
    ids: Mapping[str, list[str]]
    cursors: list[str]
    _variables: dict[str, tuple[str, Any]] = field(default_factory=dict)
    _fragments: dict[str, str] = field(default_factory=dict)
    _aliases: int = 0

    def write(self) -> Written:
        """Write an operation; most of its values are right."""
        self._variables, self._fragments, self._aliases = {}, {}, 0
        root = self.schema.query_type
        assert root is not None
        names = self.rng.sample(sorted(root.fields), self.rng.randint(1, 2))
        body = " ".join(self._field(name, root.fields[name], 1) for name in names)
        declared = ", ".join(f"${name}: {type_}" for name, (type_, _) in self._variables.items())
        head = f"query Q({declared})" if declared else "query Q"
        values = {name: value for name, (_, value) in self._variables.items()}
        if values and self.rng.random() < 0.05:
            values.pop(next(iter(values)))
        return Written(f"{head} {{ {body} }} {' '.join(self._fragments.values())}", values)

    def _field(self, name: str, definition: GraphQLField, depth: int) -> str:
        rng = self.rng
        given = []
        for argument, declared in definition.args.items():
            if isinstance(declared.type, GraphQLNonNull) or rng.random() < 0.35:
                given.append(f"{argument}: {self._argument(argument, declared, name)}")
        arguments = f"({', '.join(given)})" if given else ""
        alias = ""
        if self._aliases < 40 and rng.random() < 0.15:
            self._aliases += 1
            alias = f"a{self._aliases}: "
        below = get_named_type(definition.type)
        inner = "" if is_leaf_type(below) else f" {self._selections(below, depth + 1)}"
        return f"{alias}{name}{arguments}{self._condition()}{inner}"

    def _condition(self) -> str:
        if self.rng.random() > 0.05:
            return ""
        directive = self.rng.choice(["skip", "include"])
        if self.rng.random() < 0.5:
            return f" @{directive}(if: {self.rng.choice(['true', 'false'])})"
        return f" @{directive}(if: {self._variable('Boolean!', self.rng.random() < 0.5)})"

    def _selections(self, type_: Any, depth: int) -> str:
        assert isinstance(type_, GraphQLObjectType)
        rng = self.rng
        leaves = [n for n, f in type_.fields.items() if is_leaf_type(get_named_type(f.type))]
        objects = [n for n in type_.fields if n not in leaves]
        chosen = [name for name in leaves if rng.random() < 0.5]
        if depth < DEEPEST and objects:
            paged = {"nodes", "edges"} & set(objects)
            most = 2 if depth < 4 or paged else 1
            chosen += rng.sample(objects, rng.randint(1 if paged else 0, min(most, len(objects))))
        parts = [self._field(name, type_.fields[name], depth) for name in chosen]
        if rng.random() < 0.15 or not parts:
            parts.append("__typename")
        rng.shuffle(parts)
        text = " ".join(parts)
        if rng.random() < 0.1:
            return f"{{ ... on {type_.name} {{ {text} }} {rng.choice(leaves or ['__typename'])} }}"
        if rng.random() < 0.1:
            name = f"F{len(self._fragments)}"
            self._fragments[name] = ""  # taken, until what is below has taken its own
            self._fragments[name] = f"fragment {name} on {type_.name} {{ {text} }}"
            return f"{{ ...{name} ...{name}{self._condition()} }}"
        return f"{{ {text} }}"

    # --- arguments --------------------------------------------------------------------------

    def _argument(self, name: str, declared: GraphQLArgument, of: str) -> str:
        value = self._value(name, declared.type, of)
        if self.rng.random() < 0.4:
            return self._variable(str(declared.type), value)
        return _literal(value, declared.type)

    def _variable(self, type_: str, value: Any) -> str:
        name = f"v{len(self._variables)}"
        self._variables[name] = (type_, value)
        return f"${name}"

    def _value(self, name: str, type_: GraphQLInputType, of: str) -> Any:
        rng = self.rng
        if isinstance(type_, GraphQLNonNull):
            return self._value(name, type_.of_type, of)
        if rng.random() < 0.05 and not name.startswith("id"):
            return None if of != "orderBy" and name != "orderBy" else "NEWEST_FIRST"
        if isinstance(type_, GraphQLEnumType):
            return rng.choice(list(type_.values))
        if isinstance(type_, GraphQLInputObjectType):
            chosen = [key for key in type_.fields if rng.random() < 0.3]
            return {key: self._value(key, type_.fields[key].type, of) for key in chosen}
        if name in {"first", "last"}:
            return rng.choice([0, 1, 1, 2, 2, 3, 3, 5, -1, 201])
        if name in {"after", "before"}:
            return rng.choice([*self.cursors[-8:], "not a cursor"][:9])
        if name in {"since", "until"}:
            return rng.choice(["2020-01-01T00:00:00Z", "2100-01-01T00:00:00+02:00"])
        if name == "url":
            return rng.choice([TWO_ROWS_URL, TWO_ROWS_URL.replace("two", "bad-line"), "no url"])
        if type_ is GraphQLBoolean:
            return rng.random() < 0.5
        kind = COMPARED.get(of, of) if name in {"id", "a", "b"} else name.removesuffix("Id")
        known = self.ids.get(kind, [])
        others = ["00000000-0000-7000-8000-000000000000", "no id"]
        return rng.choice(known if known and rng.random() < 0.9 else others)


def _literal(value: Any, type_: Any) -> str:
    """Return *value* as GraphQL writes it."""
    if isinstance(type_, GraphQLNonNull | GraphQLList):
        return _literal(value, type_.of_type)
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(type_, GraphQLEnumType):
        return str(value)
    if isinstance(value, dict):
        inner = (f"{key}: {_literal(each, type_.fields[key].type)}" for key, each in value.items())
        return f"{{{', '.join(inner)}}}"
    return json.dumps(value)
