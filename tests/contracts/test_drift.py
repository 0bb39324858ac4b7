"""The contracts in the repository are what the server serves."""

from pathlib import Path
from typing import Any

import httpx2
from graphql import build_schema, find_breaking_changes

from app.commands import NO_DATABASE
from app.reference import REFERENCE_DIR, configuration_page, rest_page
from app.server import contract_text, create_app, create_operations
from app.settings import load_settings
from engine.matching import MatchMode as EngineMatchMode
from schema.enums import MatchMode

ROOT = Path(__file__).parents[2]


def test_schema_graphql_is_what_is_served() -> None:
    kept = (ROOT / "schema.graphql").read_text()
    served = create_operations(load_settings(**NO_DATABASE)).describe() + "\n"
    if kept != served:
        changes = find_breaking_changes(build_schema(kept), build_schema(served))
        breaking = [change.description for change in changes]
        raise AssertionError(f"schema.graphql is stale: run `make drift`; breaking: {breaking}")


def test_openapi_yaml_is_what_is_served() -> None:
    served = contract_text(create_app(load_settings(**NO_DATABASE)).api)
    assert (ROOT / "openapi.yaml").read_text() == served, "run `make drift`"


async def test_the_contract_is_served_byte_for_byte(anonymous: httpx2.AsyncClient) -> None:
    answer = await anonymous.get("/openapi.yaml")
    assert answer.content == (ROOT / "openapi.yaml").read_bytes()


def test_the_references_are_current() -> None:
    assert (REFERENCE_DIR / "configuration.md").read_text() == configuration_page()
    assert (REFERENCE_DIR / "rest.md").read_text() == rest_page()


def test_match_modes_are_the_engines() -> None:
    assert {str(mode.value) for mode in MatchMode} == {mode.value for mode in EngineMatchMode}


def test_everything_in_the_graphql_schema_is_described() -> None:
    schema = build_schema((ROOT / "schema.graphql").read_text())
    bare: list[str] = []

    def check(name: str, thing: Any) -> None:
        if not thing.description:
            bare.append(name)

    for name, kind in schema.type_map.items():
        if name.startswith("__") or name in {"Boolean", "Float", "ID", "Int", "String"}:
            continue
        check(name, kind)
        for field_name, field in getattr(kind, "fields", {}).items():
            check(f"{name}.{field_name}", field)
            for argument_name, argument in getattr(field, "args", {}).items():
                check(f"{name}.{field_name}({argument_name}:)", argument)
        for value_name, value in getattr(kind, "values", {}).items():
            check(f"{name}.{value_name}", value)
    assert bare == []
