"""What may be written into generated code, and what may not."""

import ast
import keyword

import pytest

from compiled_graphql.source import is_attribute, string_constant


@pytest.mark.parametrize("name", [*keyword.kwlist, "print", "data", "a", "_", "A9", "__typename"])
def test_names_are_written_as_constants(name: str) -> None:
    assert ast.literal_eval(string_constant(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a'",
        'a"',
        "a\n",
        "\n",
        "a\\",
        "9a",
        "é",
        "a-b",
        "a.b",
        "a(",
        "\uff41",
        "a\x00",
        "a\u2028",
    ],
)
def test_what_is_no_name_is_not_written(text: str) -> None:
    with pytest.raises(ValueError, match="is not a GraphQL name"):
        string_constant(text)


@pytest.mark.parametrize("name", ["a", "_", "__a__", "name_1", "é", "match", "type", "print"])
def test_identifiers_are_attributes(name: str) -> None:
    assert is_attribute(name)


@pytest.mark.parametrize(
    "name",
    ["", "class", "None", "True", "import", "a b", "a.b", "9", "a\n", "a-b", "a()", "lambda"],
)
def test_what_is_no_identifier_is_no_attribute(name: str) -> None:
    assert not is_attribute(name)
