"""What a GraphQL document may amount to: no few characters keep a server busy, or full."""

from typing import Any

import httpx2
import pytest

from app.server import create_operations
from app.services import Process
from app.settings import Settings
from schema.context import GraphQLContext
from schema.documents import KEPT_CHARACTERS_IN_ALL, Documents
from schema.limits import MAX_SELECTIONS
from schema.operations import Asked
from tests.conftest import ask
from tests.factories import Tenant

PAGES = "query%s { leaderboards(first: $n) { nodes { runs(first: $n) { nodes { %s } } } } }"


def doubling(levels: int) -> str:
    """Return a document that is twice as much for each level."""
    fragments = [f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels)]
    last = f"fragment F{levels} on Query {{ viewer {{ scopes }} }}"
    return " ".join(["{ ...F0 }", *fragments, last])


@pytest.mark.parametrize("levels", [13, 20, 60, 200])
async def test_fragments_that_double_are_refused_before_they_are_walked(
    anonymous: httpx2.AsyncClient, levels: int
) -> None:
    (error,) = (await ask(anonymous, doubling(levels)))["errors"]
    assert error["message"].startswith(f"the document has more than {MAX_SELECTIONS} selections")
    details = {"max": MAX_SELECTIONS}
    assert error["extensions"] == {"code": "query_too_costly", "status": 400, "details": details}


async def test_fragments_that_are_spread_often_are_admitted(client: httpx2.AsyncClient) -> None:
    assert (await ask(client, doubling(5)))["data"]["viewer"]["scopes"]


async def test_a_long_chain_of_fragments_is_refused(client: httpx2.AsyncClient) -> None:
    links = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} }}" for n in range(490))
    text = f"{{ ...F0 }} {links} fragment F490 on Query {{ viewer {{ scopes }} }}"
    (error,) = (await ask(client, text))["errors"]
    assert error["extensions"]["code"] == "invalid_input"
    assert error["message"] == "the document's fragments are nested too deeply"


@pytest.mark.parametrize(
    ("definition", "variables"),
    [("($n: Int)", {"n": 200}), ("($n: Int)", {"n": 200.0}), ("($n: Int = 200)", {})],
)
async def test_a_page_size_counts_however_it_is_given(
    client: httpx2.AsyncClient, tenant: Tenant, definition: str, variables: Any
) -> None:
    fields = " ".join(f"f{n}: id" for n in range(6))
    (error,) = (await ask(client, PAGES % (definition, fields), **variables))["errors"]
    assert error["extensions"]["code"] == "query_too_costly"
    smaller = await ask(client, PAGES % ("($n: Int)", fields), n=50.0)
    assert "errors" not in smaller


@pytest.mark.parametrize("sign", ["", "-"])
async def test_a_number_of_too_many_digits_is_refused(
    client: httpx2.AsyncClient, sign: str
) -> None:
    text = f"{{ leaderboards(first: {sign}{'9' * 5_000}) {{ totalCount }} }}"
    (error,) = (await ask(client, text))["errors"]
    assert error["extensions"]["code"] == "invalid_input"
    assert error["message"] == "a number has too many digits"


@pytest.mark.parametrize("params", [[1], [], "x", 1, True])
async def test_params_that_are_no_object_are_named(
    client: httpx2.AsyncClient, tenant: Tenant, params: Any
) -> None:
    text = """mutation($id: ID!, $params: JSON) {
      infer(input: {leaderboardId: $id, input: "x", params: $params}) { output } }"""
    answer = await ask(client, text, id=str(tenant.workspace_id), params=params)
    assert answer["errors"][0]["message"] == f"params: must be an object (got {params!r})"
    assert answer["errors"][0]["extensions"]["code"] == "invalid_input"


def test_only_so_much_is_kept_and_nothing_invalid(settings: Settings) -> None:
    documents: Documents = create_operations(settings)._documents  # noqa: SLF001
    valid = "{ viewer { scopes } } #" + "x" * 10_000
    for number in range(2 * KEPT_CHARACTERS_IN_ALL // len(valid)):
        assert not documents.prepare(f"{valid}{number:03}").errors
    kept = documents._kept  # noqa: SLF001
    assert KEPT_CHARACTERS_IN_ALL - len(valid) - 3 <= sum(map(len, kept)) <= KEPT_CHARACTERS_IN_ALL
    before = set(kept)
    assert documents.prepare("{ nothing }").errors
    assert set(kept) == before


async def test_servers_of_one_process_keep_limits_of_their_own(
    settings: Settings, process: Process
) -> None:
    lower = settings.model_copy(update={"graphql_max_depth": 1})
    servers = [create_operations(each) for each in (settings, lower, settings)]
    # Strawberry's own execution, whose schema they share, runs subscriptions.
    asked = Asked('subscription { runProgress(runId: "x") { run { id } } }', None, {}, {})
    context = GraphQLContext(process.system_context(), str)
    told = [
        [error.message async for answer in each.stream(asked, context) for error in answer.errors]
        for each in servers
    ]
    assert told == [
        ["runId: 'x' is not a UUID"],
        ["'anonymous' exceeds maximum operation depth of 1"],
        ["runId: 'x' is not a UUID"],
    ]
