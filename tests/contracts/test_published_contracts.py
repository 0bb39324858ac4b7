"""What public linters and the GraphQL over HTTP audit say of the two published contracts."""

import json

import pytest

from tests.contracts.audit_tools import NODE_DIR, ROOT, npm_tool, run
from tests.factories import Tenant

pytestmark = pytest.mark.audit

AUDITS = 61


async def test_redocly_finds_nothing_wrong_in_openapi_yaml() -> None:
    ended = await run(
        npm_tool("redocly"), "lint", ROOT / "openapi.yaml", "--config", NODE_DIR / "redocly.yaml"
    )
    assert ended.code == 0, ended.said


async def test_graphql_eslint_finds_nothing_wrong_in_schema_graphql() -> None:
    ended = await run(
        npm_tool("eslint"), "--config", NODE_DIR / "eslint.config.mjs", "--max-warnings", "0",
        ROOT / "schema.graphql",
    )  # fmt: skip
    assert ended.code == 0, ended.said


@pytest.mark.parametrize("credential", ["a token", "none"])
async def test_graphql_over_http_passes_every_must_and_should(
    base_url: str, tenant: Tenant, credential: str
) -> None:
    assert (NODE_DIR / "node_modules" / "graphql-http").is_dir(), "run `make audit`"
    authorization = [tenant.headers["Authorization"]] if credential == "a token" else []
    audit = NODE_DIR / "graphql_http_audit.mjs"
    ended = await run("node", audit, f"{base_url}/graphql", *authorization)
    assert ended.code == 0, ended.said
    results = json.loads(ended.stdout)
    failed = [f"{r['id']} {r['name']}: {r['reason']}" for r in results if r["status"] != "ok"]
    assert not failed, "\n".join(failed)
    assert len(results) == AUDITS
