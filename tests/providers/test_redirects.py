"""Redirects: an endpoint's are not followed, and a hub's to public addresses alone."""

import re
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.serving import listen, serving, url_of
from providers.base import DatasetError
from providers.http import HttpClient
from providers.huggingface import HuggingFaceHub


async def redirect(request: Request) -> Response:
    """Redirect to wherever the file's name says; count how often."""
    request.app.state.count += 1
    return Response(status_code=302, headers={"Location": request.query_params["to"]})


@pytest.fixture
async def hub_app() -> Starlette:
    path = "/datasets/{owner}/{name}/resolve/main/{file}"
    app = Starlette(
        routes=[Route(path, redirect), Route("/elsewhere", redirect, methods=["GET", "POST"])]
    )
    app.state.count = 0
    return app


@pytest.fixture
async def hub_url(hub_app: Starlette) -> AsyncIterator[str]:
    listener = listen("127.0.0.1", 0)
    async with serving(hub_app, listener):
        yield url_of(listener)


@pytest.fixture
async def hub(hub_url: str) -> AsyncIterator[HuggingFaceHub]:
    trusted = HttpClient(max_connections=2, public_only=False)
    guarded = HttpClient(max_connections=2, public_only=True)
    yield HuggingFaceHub(
        trusted=trusted, guarded=guarded, hub_url=hub_url, sandbox_url=None,
        allow_private_endpoints=False,
    )  # fmt: skip
    await trusted.aclose()
    await guarded.aclose()


async def read(hub: HuggingFaceHub, hub_url: str, to: str) -> None:
    url = f"{hub_url}/datasets/o/n/resolve/main/f.jsonl?to={to}"
    async with hub.open_lines(url, token="hf_secret", max_bytes=1000) as lines:
        async for _ in lines:
            pass


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("https://169.254.169.254/latest", "169.254.169.254 is not a public address"),
        ("https://10.0.0.1/x", "10.0.0.1 is not a public address"),
        ("https://[::ffff:127.0.0.1]/x", "is not a public address"),
        ("https://2130706433/x", "2130706433 is not an address in its usual form"),
        ("https://localhost/x", "localhost resolves to "),
        ("http://93.184.215.14/x", "'http' is not https"),
        ("file:///etc/passwd", "'file' is not https"),
        ("https://[::1/x", "the hub redirects to 'https://[::1/x', which is not a URL"),
        ("https://93.184.215.14:99999/x", "which is not a URL"),
    ],
)
async def test_a_redirect_to_an_address_of_ours_is_refused(
    hub: HuggingFaceHub, hub_url: str, hub_app: Starlette, to: str, said: str
) -> None:
    with pytest.raises(DatasetError, match=re.escape(said)) as at:
        await read(hub, hub_url, to)
    assert not at.value.is_retryable
    assert "hf_secret" not in str(at.value)
    assert hub_app.state.count == 1


async def test_redirects_that_never_end_are_given_up(
    hub: HuggingFaceHub, hub_url: str, hub_app: Starlette
) -> None:
    with pytest.raises(DatasetError, match="more than 5 redirects"):
        await read(hub, hub_url, "")
    assert hub_app.state.count == 5


async def test_an_endpoints_redirect_is_an_answer_like_any_other(
    hub_url: str, hub_app: Starlette
) -> None:
    client = HttpClient(max_connections=2, public_only=False)
    response, _ = await client.fetch(
        "POST", f"{hub_url}/elsewhere?to=/elsewhere", headers={}, timeout_seconds=5, max_bytes=100
    )
    await client.aclose()
    assert (response.status, hub_app.state.count) == (302, 1)
