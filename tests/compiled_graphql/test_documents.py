"""What a document may say, and what its variables may be: both executors read it alike."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
import strawberry
from graphql import get_introspection_query

from tests.compiled_graphql.pairs import both

# A loop of their own: no task on it is anybody else's.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@strawberry.enum
class Colour(Enum):
    RED = "r"
    BLUE = "b"


@strawberry.input
class Inner:
    words: list[str]
    colour: Colour = Colour.BLUE
    count: int | None = strawberry.UNSET


@strawberry.input
class Outer:
    inner: Inner
    many: list[Inner | None] | None = None
    number: int = 7


@strawberry.type
class Node:
    name: str
    depth: int

    @strawberry.field
    def child(self, name: str = "child") -> "Node":
        return Node(name=name, depth=self.depth + 1)

    @strawberry.field
    def children(self, count: int = 2) -> list["Node"]:
        return [Node(name=f"{self.name}{n}", depth=self.depth + 1) for n in range(count)]

    @strawberry.field
    async def later(self) -> "Node | None":
        return Node(name="later", depth=self.depth + 1)


@strawberry.type
class Query:
    @strawberry.field
    def node(self) -> Node:
        return Node(name="root", depth=0)

    @strawberry.field
    def told(
        self,
        number: int = 1,
        text: str | None = "unsaid",
        flags: list[bool] | None = None,
        colour: Colour = Colour.RED,
        unset: str | None = strawberry.UNSET,
    ) -> str:
        return f"{number} {text!r} {flags} {colour} {unset!r}"

    @strawberry.field
    def given(self, outer: Outer | None = None) -> str:
        return repr(outer)

    @strawberry.field
    def needed(self, outer: Outer, key: strawberry.ID) -> str:
        return f"{outer} {key!r}"

    @strawberry.field
    def matrix(self, rows: list[list[int | None]]) -> list[list[int | None]]:
        return rows


SCHEMA = strawberry.Schema(Query)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("{ __typename }", {"__typename": "Query"}),
        ("{ a: __typename b: __typename }", {"a": "Query", "b": "Query"}),
        ("{ told }", {"told": "1 'unsaid' None Colour.RED UNSET"}),
        ("{ told(text: null) }", {"told": "1 None None Colour.RED UNSET"}),
        (
            '{ told(number: -5, text: "a\\"b\\n", flags: [true], colour: BLUE, unset: null) }',
            {"told": "-5 'a\"b\\n' [True] Colour.BLUE None"},
        ),
        ("{ told(flags: true) }", {"told": "1 'unsaid' [True] Colour.RED UNSET"}),
        (
            "{ one: told(number: 1) two: told(number: 2) one: told(number: 1) }",
            {
                "one": "1 'unsaid' None Colour.RED UNSET",
                "two": "2 'unsaid' None Colour.RED UNSET",
            },
        ),
        ("{ matrix(rows: [[1, null], [], 2]) }", {"matrix": [[1, None], [], [2]]}),
        (
            '{ given(outer: {inner: {words: "w"}, many: [null, {words: [], count: null}]}) }',
            {
                "given": "Outer(inner=Inner(words=['w'], colour=<Colour.BLUE: 'b'>, count=UNSET), "
                "many=[None, Inner(words=[], colour=<Colour.BLUE: 'b'>, count=None)], number=7)"
            },
        ),
    ],
)
async def test_literals_aliases_and_defaults(text: str, data: Any) -> None:
    answer = await both(SCHEMA, text)
    assert (answer.data, answer.errors) == (data, [])


MANY = """query(
  $n: Int = 3, $t: String, $f: [Boolean!], $c: Colour! = BLUE, $o: Outer, $w: [String!]! = ["d"]
) {
  told(number: $n, text: $t, flags: $f, colour: $c, unset: $t)
  given(outer: $o)
  mixed: given(outer: {inner: {words: $w, count: $n, colour: $c}, many: [{words: $w}]})
  child: node { child(name: "x") { children(count: $n) { name depth } } }
}"""


@pytest.mark.parametrize(
    ("variables", "told", "errors"),
    [
        ({}, "3 'unsaid' None Colour.BLUE UNSET", []),
        ({"t": None}, "3 None None Colour.BLUE None", []),
        (
            {"n": 1, "t": "é\u2028'\"", "f": True, "c": "RED"},
            "1 'é\\u2028\\'\"' [True] Colour.RED 'é\\u2028\\'\"'",
            [],
        ),
        ({"unknown": 1, "f": []}, "3 'unsaid' [] Colour.BLUE UNSET", []),
        ({"o": {"inner": {"words": ["a"]}}}, "3 'unsaid' None Colour.BLUE UNSET", []),
    ],
)
async def test_variables_given_missing_and_null(
    variables: Any, told: str, errors: list[str]
) -> None:
    answer = await both(SCHEMA, MANY, variables)
    assert (answer.data["told"], answer.errors) == (told, errors)


WRONG: dict[str, dict[Any, str]] = {
    "n": {
        "x": "Int cannot represent non-integer value: 'x'",
        2**31: "Int cannot represent non 32-bit signed integer value: 2147483648",
    },
    "c": {
        None: "Expected value of non-null type 'Colour!' not to be None.",
        "BLU": "Value 'BLU' does not exist in 'Colour' enum. Did you mean the enum value 'BLUE'?",
    },
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
async def test_wrong_variables_are_told_and_nothing_runs(name: str, value: Any) -> None:
    answer = await both(SCHEMA, MANY, {name: value})
    error = f"Variable '${name}' has invalid value: {WRONG[name][value]}"
    assert (answer.data, answer.errors) == (None, [error])


async def test_a_wrong_item_of_a_variable_is_told_by_its_place() -> None:
    answer = await both(SCHEMA, MANY, {"f": [True, None]})
    told = "Expected value of non-null type 'Boolean!' not to be None."
    assert answer.errors == [f"Variable '$f' has invalid value at [1]: {told}"]


@pytest.mark.parametrize(
    "variables",
    [
        {"n": True, "f": "yes", "c": 5},
        {"o": {}},
        {"o": {"inner": {"words": [5]}}},
        {"o": {"inner": {"words": ["a"], "nope": 1}, "other": 2}},
        {"o": {"inner": {"words": ["a"], "colour": "r"}, "many": [1]}},
        {"o": []},
        {"o": "text"},
        {"w": None},
        {"w": ["a", 1]},
        {"t": ["a"]},
        {"t": {"a": 1}},
    ],
)
async def test_wrong_variables_fail_alike(variables: Any) -> None:
    answer = await both(SCHEMA, MANY, variables)
    assert answer.data is None
    assert answer.errors != []


async def test_errors_of_variables_end_at_the_fiftieth() -> None:
    answer = await both(SCHEMA, "query($f: [Boolean!]) { told(flags: $f) }", {"f": [1] * 60})
    assert len(answer.errors) == 51
    assert answer.errors[0] == (
        "Too many errors processing variables, error limit reached. Execution aborted."
    )


async def test_required_variables_that_are_missing() -> None:
    text = "query($o: Outer!, $k: ID!) { needed(outer: $o, key: $k) }"
    answer = await both(SCHEMA, text)
    assert answer.errors == [
        f"Variable '${name}' has invalid value: Expected a value of non-null type '{type_}!' to "
        "be provided."
        for name, type_ in (("k", "ID"), ("o", "Outer"))
    ]
    answer = await both(SCHEMA, text, {"o": {"inner": {"words": []}}, "k": 5})
    assert answer.data["needed"].endswith("number=7) '5'")


async def test_a_variable_that_is_null_where_a_default_would_be_fails_the_field_alone() -> None:
    text = "query($n: Int = 1) { told(number: $n) node { name } }"
    answer = await both(SCHEMA, text, {"n": None})
    assert answer.data is None
    (error,) = answer.errors
    assert error.startswith("told: Argument 'number'")
    text = "query($n: Int = 1) { node { later { children(count: $n) { name } } name } }"
    answer = await both(SCHEMA, text, {"n": None})
    assert answer.data == {"node": {"later": None, "name": "root"}}


MERGED = """query($yes: Boolean!, $no: Boolean! = false) {
  node { ...A name }
  node { children(count: 1) { depth } ... on Node { ...A } ... { child { later { name } } } }
  ...Q
  ... @include(if: $no) { hidden: node { name } }
  ...Q @skip(if: $yes)
}
fragment A on Node {
  children(count: 1) { name }
  children(count: 1) { depth name ...B @include(if: $yes) }
  child { depth @skip(if: $no) }
}
fragment B on Node { child { name ... on Node { children(count: 1) { ...C } } } }
fragment C on Node { __typename name name again: name depth @include(if: $no) }
fragment Q on Query { node { child { __typename name } } told @skip(if: $no) }
"""


async def test_fragments_that_nest_repeat_and_overlap_merge() -> None:
    answer = await both(SCHEMA, MERGED, {"yes": True})
    child = {"name": "child", "children": [
        {"__typename": "Node", "name": "child0", "again": "child0"}
    ]}  # fmt: skip
    assert answer.data == {
        "node": {
            "children": [{"name": "root0", "depth": 1, "child": child}],
            "child": {
                "depth": 1,
                "later": {"name": "later"},
                "__typename": "Node",
                "name": "child",
            },
            "name": "root",
        },
        "told": "1 'unsaid' None Colour.RED UNSET",
    }
    for variables in ({"yes": False}, {"yes": True, "no": True}, {"yes": False, "no": True}):
        assert (await both(SCHEMA, MERGED, variables)).errors == []


@pytest.mark.parametrize("directive", ["skip", "include"])
@pytest.mark.parametrize("condition", ["true", "false", "$b", "$d"])
@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "{ node { name @D depth } }",
        "{ node @D { name } told }",
        "{ told @D }",
        "{ ... @D { told } node { ... on Node @D { name } depth } }",
        "{ ...F @D } fragment F on Query { node { ...G @D depth } } fragment G on Node { name }",
        "{ node { name @D name child { depth @D __typename @D } } }",
        "{ node { later @D { name } children { name @D } } }",
        "{ node { child { name @O(if: true) @D depth @O(if: false) @D } } }",
    ],
)
async def test_skip_and_include_everywhere(
    directive: str, condition: str, text: str, *, value: bool
) -> None:
    other = "skip" if directive == "include" else "include"
    text = text.replace("@D", f"@{directive}(if: {condition})").replace("@O", f"@{other}")
    used = {"$b": "($b: Boolean!)", "$d": "($d: Boolean! = true)"}.get(condition, "")
    operation = f"query Q{used} {text}"
    answer = await both(SCHEMA, operation, {"b": value} if condition == "$b" else {})
    assert answer.errors == []


async def test_the_whole_schema_introspects_alike() -> None:
    text = get_introspection_query(
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
    )
    answer = await both(SCHEMA, text)
    assert answer.errors == []
    names = {each["name"] for each in answer.data["__schema"]["types"]}
    assert {"Query", "Node", "Outer", "Inner", "Colour", "__Type"} <= names
    typed = """query($n: String!) { __type(name: $n) { name kind fields(includeDeprecated: true) {
      name type { name ofType { name } } args { name defaultValue } } } none: __type(name: "No") {
      name } __typename }"""
    answer = await both(SCHEMA, typed, {"n": "Node"})
    assert (answer.data["__type"]["name"], answer.data["none"]) == ("Node", None)


async def test_the_named_operation_is_executed() -> None:
    text = "query A { told } query B { node { name } } query C { __typename }"
    assert (await both(SCHEMA, text, name="B")).data == {"node": {"name": "root"}}
    assert (await both(SCHEMA, text, name="C")).data == {"__typename": "Query"}


async def test_deep_selections_nest_as_deep() -> None:
    text = "{ node { " + "child { " * 60 + "depth" + " }" * 60 + " } }"
    answer = await both(SCHEMA, text)
    found = answer.data["node"]
    while "child" in found:
        found = found["child"]
    assert found == {"depth": 60}


@dataclass
class Source:
    """A root value whose attributes are what the root fields answer."""

    name: str
    depth: int = 3
    tags: list[str] = field(default_factory=list)


async def test_the_root_value_is_the_source_of_root_fields() -> None:
    @strawberry.type
    class Root:
        name: str
        depth: int | None
        tags: list[str] | None

        @strawberry.field
        def twice(self) -> str:
            return self.name * 2

    schema = strawberry.Schema(Root)
    root = Source("n", tags=["a"])
    answer = await both(schema, "{ name depth tags twice }", root=root)
    assert answer.data == {"name": "n", "depth": 3, "tags": ["a"], "twice": "nn"}
    answer = await both(schema, "{ depth tags }")
    assert answer.data == {"depth": None, "tags": None}
    assert answer.errors == [
        f"{name}: 'NoneType' object has no attribute '{name}'" for name in ("depth", "tags")
    ]
