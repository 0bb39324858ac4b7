"""GraphiQL in a real browser, with no network but the server itself."""

from contextlib import suppress
from pathlib import Path

import pytest
from playwright.async_api import Page, Request, async_playwright
from playwright.async_api import TimeoutError as PlaywrightTimeoutError

from app.services import Process
from tests.factories import Tenant, make_leaderboard

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def is_operation(request: Request) -> bool:
    """Tell the query in the editor from the page's own introspection."""
    return request.method == "POST" and "IntrospectionQuery" not in (request.post_data or "")


async def press_until_sent(page: Page) -> None:
    """Press the button, which does nothing until the editor behind it is ready, until it does."""
    for _ in range(60):
        with suppress(PlaywrightTimeoutError):
            async with page.expect_request(is_operation, timeout=500):
                await page.click(".graphiql-execute-button")
            return
    raise AssertionError("the button sends nothing")


@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_graphiql_loads_shows_the_schema_and_runs_a_query(
    base_url: str, process: Process, tenant: Tenant
) -> None:
    board = await make_leaderboard(process, tenant.workspace_id, name="ShownInTheBrowser")
    said: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        await page.goto(f"{base_url}/graphql#token={tenant.token}")
        await page.wait_for_selector(".graphiql-container")
        await page.wait_for_selector(".graphiql-query-editor .view-line")
        await press_until_sent(page)
        await page.wait_for_selector(f".graphiql-response >> text={board.name}")
        assert tenant.token not in page.url
        await page.click("[aria-label*='Documentation']")
        await page.wait_for_selector(".graphiql-doc-explorer")
        docs = await page.inner_text(".graphiql-doc-explorer")
        await browser.close()
    assert "Query" in docs
    assert [line for line in said if line.startswith(("error", "warning"))] == []
