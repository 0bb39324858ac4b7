"""A deployment with an allow-list runs its documents and no others, or does not start."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.server import create_operations
from app.services import Process
from app.settings import Settings, SettingsError
from tests.app.test_processes import variables
from tests.app.test_up import invoke
from tests.conftest import ask
from tests.schema.test_persisted_documents import by_hash, kept, register

NAME = "query Name { workspace { name } }"
TYPE = "query Type { __typename }"
TYPED = {"data": {"__typename": "Query"}}
OTHER = "{ __typename }"
INTROSPECTION = "{ __schema { queryType { name } } }"
NOT_ALLOWED = "this server runs the documents of its allow-list alone"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


FLAT = {sha256(text): text for text in (NAME, TYPE)}
APOLLO = {
    "format": "apollo-persisted-query-manifest",
    "version": 1,
    "operations": [
        {"id": sha256(text), "name": name, "type": "query", "body": text}
        for name, text in (("Name", NAME), ("Type", TYPE))
    ],
}


@pytest.fixture
def manifest() -> Any:
    return FLAT


@pytest.fixture
def setting_overrides(manifest: Any, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "allowed.json"
    path.write_text(json.dumps(manifest))
    return {"graphql_allow_list": path}


@pytest.mark.parametrize("manifest", [FLAT, APOLLO], ids=["by hash", "apollo"])
async def test_its_documents_run_by_hash_and_by_text(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, process: Process
) -> None:
    assert list((await by_hash(client, NAME))["data"]) == ["workspace"]
    assert list((await ask(client, NAME))["data"]) == ["workspace"]
    assert await register(client, TYPE) == TYPED
    assert await by_hash(anonymous, TYPE) == TYPED
    got = await anonymous.get("/graphql", params={"query": TYPE})
    assert got.json() == TYPED
    assert await kept(process) == []


async def test_everything_else_is_403(client: httpx2.AsyncClient) -> None:
    other = {"persistedQuery": {"version": 1, "sha256Hash": sha256(OTHER)}}
    for answer in (
        await client.post("/graphql", json={"query": OTHER}),
        await client.post("/graphql", json={"extensions": other}),
        await client.post("/graphql", json={"query": OTHER, "extensions": other}),
        await client.post("/graphql", json={"query": NAME + " "}),
        await client.post("/graphql", json={"query": "{"}),
        await client.post("/graphql", json={"query": INTROSPECTION}),
        await client.get("/graphql", params={"query": OTHER}),
    ):
        assert (answer.status_code, answer.json()) == (
            403,
            {
                "errors": [
                    {
                        "message": NOT_ALLOWED,
                        "extensions": {
                            "code": "document_not_allowed", "status": 403, "details": {},
                        },
                    }
                ]
            },
        )  # fmt: skip


async def test_a_hash_of_another_text_is_400(client: httpx2.AsyncClient) -> None:
    wrong = {"persistedQuery": {"version": 1, "sha256Hash": sha256(OTHER)}}
    answer = await client.post("/graphql", json={"query": NAME, "extensions": wrong})
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["extensions"]["code"]) == (400, "invalid_input")


WRONG = [
    ("[]", "must be a JSON object"),
    ("{", "is not valid JSON: "),
    (json.dumps({sha256(NAME): 7}), f"document '{sha256(NAME)}': must be a string"),
    (json.dumps({"abc": NAME}), "document 'abc': is not the SHA-256 of its text, which is "),
    (json.dumps({"abc": NAME}), f"{sha256(NAME)}; have the manifest made with SHA-256"),
    (
        json.dumps({sha256("{ nope }"): "{ nope }"}),
        f"document '{sha256('{ nope }')}': Cannot query field 'nope' on type 'Query'.",
    ),
    (json.dumps({sha256("{"): "{"}), f"document '{sha256('{')}': Syntax Error: "),
    (
        json.dumps({**APOLLO, "version": 2}),
        "format: must be apollo-persisted-query-manifest, version 1",
    ),
    (json.dumps({**APOLLO, "operations": {}}), "operations: must be a list"),
    (json.dumps({**APOLLO, "operations": [7]}), "operations[0]: must be an object"),
    (json.dumps({**APOLLO, "operations": [{"id": "x"}]}), "document 'x': must be a string"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), WRONG)
def test_a_wrong_file_is_one_line_that_says_what_is_wrong(
    settings: Settings, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "allowed.json"
    path.write_text(content)
    with pytest.raises(SettingsError) as raised:
        create_operations(settings)
    message = str(raised.value)
    assert message.startswith(f"GERO_GRAPHQL_ALLOW_LIST: {path}")
    assert said in message
    assert "\n" not in message


async def test_a_server_with_a_wrong_list_does_not_start(
    database_url: str, sandbox_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "missing.json"
    given = variables(database_url, sandbox_url, GERO_GRAPHQL_ALLOW_LIST=str(path))
    ended = await invoke("serve", "--port", "0", **given)
    assert (ended.exit_code, ended.stderr) == (
        2, f"gero: GERO_GRAPHQL_ALLOW_LIST: {path} can't be read: No such file or directory\n",
    )  # fmt: skip
