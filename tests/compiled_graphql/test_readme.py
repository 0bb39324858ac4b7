"""What the room's README shows is what happens."""

import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from graphql import OperationDefinitionNode, parse
from graphql.execution.values import VariableValues

from compiled_graphql.plan import Plan

README = Path(__file__).parents[2] / "compiled_graphql" / "README.md"


def block(language: str) -> str:
    """Return the README's one block of *language*."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)
    return str(found)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that the README's Python makes."""
    module = ModuleType("readme_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block("python"), str(README), "exec"), module.__dict__)
    return module


def test_the_code_that_is_shown_is_what_is_generated(example: Any) -> None:
    document = parse(block("graphql"))
    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    plan = Plan(example.schema, document, operation, VariableValues({}, {}))
    if "UPDATE_README" in os.environ:
        written = README.read_text().replace(block("py"), f"{plan.source.strip()}\n")
        README.write_text(written)
    assert block("py").strip() == plan.source.strip()


async def test_the_example_compiles_and_answers(example: Any) -> None:
    context = SimpleNamespace(batch_loaders={})
    result = await example.schema.execute(block("graphql"), context_value=context)
    assert result.errors is None
    assert result.data == {
        "books": [
            {"name": f"volume {n}", "pages": None, "author": {"name": f"who wrote volume {n}"}}
            for n in range(2)
        ]
    }
    assert example.plans.counts == {"compiled": 1}
