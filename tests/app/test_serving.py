"""How the process serves sockets."""

import asyncio
import socket

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.serving import listen, serving, url_of


async def test_an_answer_is_sent_without_waiting_for_acknowledgements() -> None:
    seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        seen.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen("127.0.0.1", 0)
    async with await asyncio.start_server(look, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await seen
        writer.close()


async def is_open(address: tuple[str, int]) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_what_is_under_way_is_answered_and_nothing_more_is_taken() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def wait(_: Request) -> Response:
        asked.set()
        await may_answer.wait()
        return PlainTextResponse("answered")

    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    server = serving(Starlette(routes=[Route("/", wait)]), listener)
    async with httpx2.AsyncClient(base_url=url_of(listener)) as client, asyncio.timeout(10):
        await server.__aenter__()
        under_way = asyncio.create_task(client.get("/"))
        await asked.wait()
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        await asyncio.sleep(0)
        while await is_open(address):
            await asyncio.sleep(0.01)
        assert not stopping.done()
        may_answer.set()
        assert (await under_way).text == "answered"
        await stopping


async def test_a_server_with_nothing_under_way_stops_at_once() -> None:
    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    async with serving(Starlette(), listener):
        began = asyncio.get_running_loop().time()
    # uvicorn's own takes two tenths of a second.
    assert asyncio.get_running_loop().time() - began < 0.1
    assert not await is_open(address)
