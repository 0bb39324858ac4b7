"""Writing Python source: indented lines, and the values that they refer to by name.

Nothing that a client sent is written as code. Names are made here, of a fixed word
and a number; response keys are checked to be GraphQL names and written as string
constants; attributes come from the schema and must be identifiers. Everything else,
such as arguments and types, is referred to by name and never written out.
"""

import keyword
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typing_extensions import override

GRAPHQL_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*\Z")


class Module:
    """The source of one operation, and the names that it may use."""

    def __init__(self, **names: Any) -> None:
        self.names: dict[str, Any] = dict(names)
        self._functions: list[str] = []
        self._made = 0

    @property
    def text(self) -> str:
        """The whole source."""
        return "\n".join(self._functions)

    def refer(self, word: str, value: Any) -> str:
        """Return a name for *value*."""
        name = self.make_name(word)
        self.names[name] = value
        return name

    def make_name(self, word: str) -> str:
        """Return a name that is not taken."""
        self._made += 1
        return f"{word}_{self._made}"

    @contextmanager
    def function(self, name: str, parameters: str) -> "Iterator[Lines]":
        """Write a function, unless writing its body fails."""
        lines = Lines()
        with lines.block(f"def {name}({parameters})"):
            yield lines
        self._functions.append(f"{lines}\n")

    def build(self) -> dict[str, Any]:
        """Run the source, and return everything that it names."""
        code = compile(self.text, "<compiled GraphQL operation>", "exec")
        exec(code, self.names)  # noqa: S102 - see what this module's docstring says of the text
        return self.names


class Lines:
    """Lines of source, at the present depth of indentation."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    @override
    def __str__(self) -> str:
        return "\n".join(self._lines)

    def add(self, *lines: str) -> None:
        """Write *lines*."""
        self._lines.extend("    " * self._depth + line for line in lines)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write *head* and a colon, and what is written meanwhile below it."""
        self.add(f"{head}:")
        self._depth += 1
        yield
        self._depth -= 1


def string_constant(response_key: str) -> str:
    """Return a response key as Python writes it.

    Raises:
        ValueError: It is not a GraphQL name, which no parsed document can hold.
    """
    if not GRAPHQL_NAME.match(response_key):
        raise ValueError(f"{response_key!r} is not a GraphQL name")
    return repr(response_key)


def is_attribute(name: str) -> bool:
    """Tell whether *name* can be written behind a dot."""
    return name.isidentifier() and not keyword.iskeyword(name)
