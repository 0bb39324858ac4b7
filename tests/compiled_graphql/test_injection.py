"""Nothing that a client sends becomes code, whatever it sends."""

import ast
import builtins
import keyword
import re
from enum import Enum
from typing import Annotated, Any

import pytest
import strawberry
from graphql import OperationDefinitionNode, parse
from graphql.execution.values import VariableValues, get_variable_values
from strawberry.scalars import JSON

from compiled_graphql.plan import Plan
from tests.compiled_graphql.pairs import both

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@strawberry.enum
class Word(Enum):
    IMPORT = "import"
    NONE = "None"
    CLASS = "__class__"


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Thing(Named):
    count: int | None = 5
    tags: list[str] = strawberry.field(default_factory=lambda: ["t"])
    word: Word = Word.IMPORT
    data: JSON = strawberry.field(default_factory=dict)

    @strawberry.field
    def said(self, text: str = "", word: Word = Word.NONE, many: list[str] | None = None) -> str:
        return f"{text} {word} {many}"

    @strawberry.field
    async def below(self, text: str = "") -> "Thing":
        return Thing(name=text)

    @strawberry.field
    def any(self, value: JSON) -> JSON:
        return value


@strawberry.type
class Query:
    @strawberry.field
    def thing(self) -> Thing:
        return Thing(name="n")

    @strawberry.field
    def named(self) -> list[Named]:
        return [Thing(name="n")]


SCHEMA = strawberry.Schema(Query, types=[Thing])

GENERATED = [
    f"{word}_{number}"
    for word in ("field", "complete", "object", "items", "root", "v", "blank", "leaf", "resolve",
                 "serialize", "record", "get", "type", "by_type", "raw_info")
    for number in (0, 1, 2, 3, 7)
]  # fmt: skip
INNER = ["src", "data", "run", "at", "v", "out", "append", "plain", "items", "error", "is_record",
         "is_awaitable", "Undefined", "no_null", "no_list", "is_special", "special_item",
         "item_failed", "later_list", "of_checked_type", "of_resolved_type", "is_iterable", "self",
         "__builtins__", "__name__", "__import__", "__class__", "__dict__", "__init__", "_", "__",
         "__debug__", "print", "exec", "__builtin__"]  # fmt: skip
HOSTILE_NAMES = sorted({*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *GENERATED, *INNER})
HOSTILE_TEXTS = [
    '"); import os; (',
    "'); import os; ('",
    "\n\nimport os\n",
    "\\",
    "\\'",
    "'''",
    '"""',
    "{src}",
    "{0.__class__}",
    "%s%(a)s",
    "\u2028\u2029\x85",
    "\x00\x1b",
    "é漢🎉\u202e",
    "a" * 10_000,
    "#",
    "\r",
    "${run}",
    "__import__('os').system('x')",
]


def plan_of(text: str, variables: Any = None, *, schema: strawberry.Schema = SCHEMA) -> Plan:
    document = parse(text)
    node = next(d for d in document.definitions if isinstance(d, OperationDefinitionNode))
    values = get_variable_values(schema._schema, node.variable_definitions or (), variables or {})  # noqa: SLF001
    assert isinstance(values, VariableValues), values
    return Plan(schema, document, node, values, record_class=dict)


def strings_of(source: str) -> set[str]:
    constants = [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)]
    return {value for value in constants if isinstance(value, str)}


def names_of(source: str) -> set[str]:
    """Return every name that *source* reads, writes, defines or looks up."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.arg | ast.keyword):
            found.add(str(node.arg))
        elif isinstance(node, ast.FunctionDef | ast.ExceptHandler):
            found.add(str(node.name))
    return found


MADE_NAME = re.compile(r"[a-z_]+_\d+")
# What the compiler itself writes, beside names that it makes.
KNOWN_NAMES = {
    *INNER[: INNER.index("self")], "isinstance", "Exception", "len", "iter", "hasattr", "copy",
    "__class__", "list", "str", "int", "dict", "start", "collect", "failed", "arguments", "info",
    "null", "True", "False", "None", "float",
}  # fmt: skip
ATTRIBUTES = {"name", "count", "tags", "word", "data"}


@pytest.mark.parametrize("chunk", range(4))
async def test_response_keys_may_be_any_name(chunk: int) -> None:
    names = HOSTILE_NAMES[chunk::4]
    fields = " ".join(
        f"{name}: {field}"
        for name, field in zip(
            names,
            ["name", "count", "tags", "word", "__typename", "said", "below { name }"] * len(names),
            strict=False,
        )
    )
    answer = await both(
        SCHEMA, f"{{ thing {{ {fields} }} named {{ ... on Thing {{ {fields} }} }} }}"
    )
    assert list(answer.data["thing"]) == names
    assert answer.errors == []
    roots = " ".join(f"{name}: thing {{ {name}: name }}" for name in names)
    answer = await both(SCHEMA, f"{{ {roots} }}")
    assert answer.data == {name: {name: "n"} for name in names}


async def test_generated_source_holds_no_more_than_names_as_constants() -> None:
    fields = " ".join(
        f'{name}: said(text: "{name}!") {name}_: below {{ {name}: name }}' for name in HOSTILE_NAMES
    )
    source = plan_of(f"{{ thing {{ {fields} }} named {{ name ... on Thing {{ count }} }} }}").source
    own = {name for name in names_of(source) if not MADE_NAME.fullmatch(name)}
    assert own - KNOWN_NAMES - ATTRIBUTES == set()
    keys = {*HOSTILE_NAMES, *(f"{name}_" for name in HOSTILE_NAMES)}
    assert strings_of(source) == keys | {"thing", "named", "name", "count", "__aiter__"}


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=lambda text: repr(text)[:20])
async def test_texts_of_arguments_and_variables_stay_data(text: str) -> None:
    written = "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in text)
    operation = f"""query($t: String = "{written}", $v: String!, $m: [String!], $j: JSON!) {{
      thing {{ said(text: "{written}", many: ["{written}"])
      a: said(text: $t, many: $m) b: said(text: $v)
      below(text: "{written}") {{ name below(text: $v) {{ name }} }}
      any(value: {{ key: "{written}", v: $v }}) c: any(value: $j) }} }}"""
    variables = {"v": text, "m": [text], "j": {text: [text]}}
    answer = await both(SCHEMA, operation, variables)
    assert answer.errors == []
    assert answer.data["thing"] == {
        "said": f"{text} Word.NONE {[text]}",
        "a": f"{text} Word.NONE {[text]}",
        "b": f"{text} Word.NONE None",
        "below": {"name": text, "below": {"name": text}},
        "any": {"key": text, "v": text},
        "c": {text: [text]},
    }
    source = plan_of(operation, variables).source
    assert strings_of(source) == {"thing", "said", "a", "b", "below", "name", "any", "c"}
    assert text not in source or text in "{}#"


@pytest.mark.parametrize("name", ["import", "__class__", "run", "data", "v_1", "None"])
async def test_names_of_variables_fragments_and_operations_stay_names(name: str) -> None:
    operation = f"""query {name}(${name}: Boolean!, ${name}_: Word = IMPORT) {{
      thing {{ ...{name} @include(if: ${name}) said(word: ${name}_) }} }}
      fragment {name} on Thing {{ {name}: name }}"""
    answer = await both(SCHEMA, operation, {name: True})
    assert answer.data == {"thing": {name: "n", "said": " Word.IMPORT None"}}
    source = plan_of(operation, {name: True}).source
    assert strings_of(source) == {"thing", name, "said"}
    assert (await both(SCHEMA, operation, {name: False, f"{name}_": "CLASS"})).data == {
        "thing": {"said": " Word.CLASS None"}
    }


async def test_many_aliases_are_as_many_fields() -> None:
    fields = " ".join(f'a{n}: name b{n}: said(text: "{n}")' for n in range(400))
    answer = await both(SCHEMA, f"{{ thing {{ {fields} }} }}")
    assert len(answer.data["thing"]) == 800
    assert answer.data["thing"]["b399"] == "399 Word.NONE None"


class Source:
    """The source of a type whose attributes are keywords."""


WORDS = ["class", "import", "None", "lambda", "def", "print", "src", "run"]


def keyword_schema() -> strawberry.Schema:
    source: Any = Source()
    members: dict[str, Any] = {"__annotations__": {}}
    for number, word in enumerate(WORDS):
        setattr(source, word, f"the {word}")
        members["__annotations__"][f"w{number}"] = str
        members[f"w{number}"] = strawberry.field(name=word)
    keywords: Any = strawberry.type(type("Keywords", (), members))
    for field, word in zip(keywords.__strawberry_definition__.fields, WORDS, strict=True):
        field.python_name = word

    def resolve() -> Any:
        return source

    def say(
        class_: Annotated[str, strawberry.argument(name="class")] = "c",
        src: str = "s",
        run: str = "r",
        v: str = "v",
        data: str = "d",
    ) -> str:
        return f"{class_} {src} {run} {v} {data}"

    root = {
        "__annotations__": {"keywords": keywords, "said": str},
        "keywords": strawberry.field(resolver=resolve),
        "said": strawberry.field(resolver=say),
    }
    return strawberry.Schema(strawberry.type(type("Root", (), root)))


async def test_attributes_and_arguments_of_a_schema_may_be_keywords() -> None:
    schema = keyword_schema()
    answer = await both(
        schema,
        f"""query($class: String) {{ keywords {{ {" ".join(WORDS)} }} said
          a: said(class: $class, src: "1", run: "2", v: "3", data: "4") b: said(class: "x") }}""",
        {"class": "import"},
    )
    assert answer.errors == []
    assert answer.data == {
        "keywords": {word: f"the {word}" for word in WORDS},
        "said": "c s r v d",
        "a": "import 1 2 3 4",
        "b": "x s r v d",
    }
