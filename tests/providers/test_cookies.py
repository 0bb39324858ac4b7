"""What an endpoint sets in one call is not sent with another's."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.serving import listen, serving, url_of
from providers.http import HttpClient


async def test_cookies_are_not_kept_from_one_call_to_the_next() -> None:
    sent: list[str | None] = []

    async def answer(request: Request) -> Response:
        sent.append(request.headers.get("cookie"))
        response = PlainTextResponse("ok")
        response.set_cookie("session", "of-another-workspace")
        return response

    listener = listen("127.0.0.1", 0)
    client = HttpClient(max_connections=2, public_only=False)
    async with serving(Starlette(routes=[Route("/", answer)]), listener):
        for _ in range(2):
            url = url_of(listener) + "/"
            response, _ = await client.fetch(
                "GET", url, headers={}, timeout_seconds=5, max_bytes=100
            )
            assert response.status == 200
        await client.aclose()
    assert sent == [None, None]
