"""Which connection a call gets: how many there are, who is first, and what is never used again."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from providers.base import ProviderError, ProviderErrorCode
from providers.http import HttpClient
from tests.providers.http_peer import (
    LONG_SECONDS,
    SHORT_SECONDS,
    Exchange,
    HttpPeer,
    http_client,
    http_peer,
)
from tests.providers.test_http import answer_ok, failure_of, post

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@asynccontextmanager
async def counting_peer(pauses: int = 3) -> AsyncIterator[tuple[HttpPeer, list[int]]]:
    """Serve after some turns of the loop; yield how many requests were answered at once too."""
    at_once = [0, 0]

    async def answer(exchange: Exchange) -> None:
        at_once[0] += 1
        at_once[1] = max(at_once)
        try:
            for _ in range(pauses):
                await asyncio.sleep(0)
            await exchange.answer(b"ok")
        finally:
            at_once[0] -= 1

    async with http_peer(answer) as peer:
        yield peer, at_once


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_500_calls_at_once_share_50_connections() -> None:
    async with counting_peer() as (peer, at_once), http_client(max_connections=50) as client:
        answers = await asyncio.gather(*(post(client, peer.url) for _ in range(500)))
    assert [body for _, body in answers] == [b"ok"] * 500
    assert (peer.connections, len(peer.requests)) == (50, 500)
    assert at_once[1] <= 50


async def test_who_waits_for_longest_is_next() -> None:
    async with http_peer(answer_ok) as peer, http_client(max_connections=1) as client:
        await asyncio.gather(*(post(client, peer.url, b"%d" % number) for number in range(50)))
    assert [exchange.body for exchange in peer.requests] == [b"%d" % number for number in range(50)]


@pytest.mark.parametrize("max_connections", [1, 2])
async def test_wherever_calls_are_cancelled_every_place_is_given_back(max_connections: int) -> None:
    """Each round cancels some of the calls that hold or await a place, a turn later than before."""
    async with (
        counting_peer() as (peer, at_once),
        http_client(max_connections=max_connections) as client,
    ):
        for turn in range(40):
            calls = [asyncio.create_task(post(client, peer.url)) for _ in range(6)]
            await turns(turn)
            for call in calls[::2]:
                call.cancel()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert [each[1] for each in ended[1::2] if isinstance(each, tuple)] == [b"ok"] * 3
        # All places are free again, and there are not more of them than before.
        await asyncio.gather(*(post(client, peer.url) for _ in range(20)))
        assert at_once[1] <= max_connections + 1  # a server may not know yet that it was left
        usage = client.usage
        assert (usage.calls, usage.waiting) == (0, 0)
        assert usage.open == usage.idle <= max_connections


async def test_waiting_calls_that_are_late_give_nothing_back_that_they_did_not_have() -> None:
    async def answer_late(exchange: Exchange) -> None:
        await asyncio.sleep(SHORT_SECONDS)
        await exchange.answer(b"ok")

    async with http_peer(answer_late) as peer, http_client(max_connections=1) as client:
        calls = [
            asyncio.create_task(post(client, peer.url, timeout_seconds=seconds))
            for seconds in (LONG_SECONDS, 0.05, 0.05, SHORT_SECONDS, LONG_SECONDS)
        ]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(ended[0], tuple)
        assert isinstance(ended[4], tuple)
        for late in ended[1:3]:
            assert isinstance(late, ProviderError)
            assert str(late) == "the request could not be sent within 0.05 s"
        assert client.usage[:2] == (0, 0)


async def test_of_servers_in_turn_the_one_connection_leads_to_the_last() -> None:
    async with (
        http_peer(answer_ok) as one,
        http_peer(answer_ok) as other,
        http_client(max_connections=1) as client,
    ):
        for _ in range(3):
            for peer in (one, other):
                await post(client, peer.url)
                assert client.usage.open == 1
    assert (one.connections, other.connections) == (3, 3)


async def test_what_serves_is_not_left_for_what_waits() -> None:
    """Two servers, two places: neither call's connection makes room for the other's."""
    async with (
        http_peer(answer_ok) as one,
        http_peer(answer_ok) as other,
        http_client(max_connections=2) as client,
    ):
        for _ in range(5):
            await asyncio.gather(post(client, one.url), post(client, other.url))
    assert (one.connections, other.connections) == (1, 1)


@pytest.mark.parametrize(
    ("header", "connections"),
    [
        ("Keep-Alive: timeout=1000, max=5", 1),
        ("Keep-Alive: max=5", 1),
        ("Keep-Alive: timeout=1", 2),
        ("Keep-Alive: max=5, TIMEOUT = 0", 2),
        ("Keep-Alive: timeout=99999999999999999999", 1),
        ("Keep-Alive: timeout=soon", 1),
    ],
)
async def test_a_connection_is_kept_no_longer_than_its_server_says(
    header: str, connections: int
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b"ok", header)

    async with http_peer(answer) as peer, http_client() as client:
        for _ in range(2):
            await post(client, peer.url)
    assert peer.connections == connections


async def test_a_connection_that_was_idle_for_too_long_is_left() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b"ok", "Keep-Alive: timeout=2")

    async with http_peer(answer) as peer, http_client() as client:
        await post(client, peer.url)
        while client.usage.open:
            await asyncio.sleep(0.05)
        assert client.usage == (0, 0, 0, 0)
        await post(client, peer.url)
    assert peer.connections == 2


@pytest.mark.parametrize("pause", [0, 1, 5])
async def test_an_answer_that_nobody_asked_for_answers_nobody(pause: int) -> None:
    async def answer_twice(exchange: Exchange) -> None:
        exchange.writer.write(OK + (EVIL if pause == 0 else b""))
        if pause:
            await turns(pause)
            exchange.writer.write(EVIL)

    async with http_peer(answer_twice) as peer, http_client(max_connections=1) as client:
        for _ in range(3):
            assert (await post(client, peer.url))[1] == b"ok"
            await asyncio.sleep(0.02)
    assert peer.connections == 3


async def test_an_answer_that_came_while_this_process_was_busy_answers_nobody() -> None:
    """Only the kernel knows of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        go, came = threading.Event(), threading.Event()

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    while b"\r\n\r\n{}" not in connection.recv(65_536):
                        pass
                    connection.sendall(OK)
                    go.wait(LONG_SECONDS)
                    connection.sendall(EVIL)
                    came.set()

        thread = threading.Thread(target=serve)
        thread.start()
        async with http_client() as client:
            assert (await post(client, url))[1] == b"ok"
            go.set()
            assert came.wait(LONG_SECONDS)
            assert (await post(client, url))[1] == b"ok"
        thread.join()


Leave = Callable[[HttpClient, str], Any]


async def leave_before_the_end(client: HttpClient, url: str) -> None:
    async with client.stream("GET", url, headers={}) as response:
        assert await response.read() == b"x"


async def fail_in_the_block(client: HttpClient, url: str) -> None:
    with pytest.raises(ValueError, match="of the reader"):
        async with client.stream("GET", url, headers={}):
            raise ValueError("of the reader")


async def read_too_much(client: HttpClient, url: str) -> None:
    await failure_of(client, url, max_bytes=0)


async def be_late(client: HttpClient, url: str) -> None:
    await failure_of(client, url, timeout_seconds=SHORT_SECONDS)


@pytest.mark.parametrize("leave", [leave_before_the_end, fail_in_the_block, read_too_much, be_late])
async def test_a_body_that_is_left_costs_its_connection_at_once(leave: Leave) -> None:
    async def answer_half(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_chunks(b"x")
        await exchange.wait_until_left()
        peer.left.set()

    async with http_peer(answer_half) as peer, http_client(max_connections=1) as client:
        for number in (1, 2):
            await leave(client, peer.url)
            await asyncio.wait_for(peer.left.wait(), LONG_SECONDS)
            peer.left.clear()
            assert peer.connections == number
        assert client.usage.calls == 0


async def test_what_is_left_unread_is_not_the_next_calls() -> None:
    async def answer_number(exchange: Exchange) -> None:
        await exchange.answer(b"%d" % len(peer.requests) * 1_000)

    async with http_peer(answer_number) as peer, http_client(max_connections=1) as client:
        for _ in range(2):
            async with client.stream("GET", peer.url, headers={}) as response:
                while not response.is_complete:
                    await asyncio.sleep(0)
        assert (await post(client, peer.url))[1] == b"3" * 1_000
    assert peer.connections == 1


async def test_an_answer_that_was_closed_reads_nobody_elses() -> None:
    async with http_peer(answer_ok) as peer, http_client() as client:
        response, _ = await post(client, peer.url)
        assert response.is_complete
        with pytest.raises(RuntimeError, match="the answer was closed"):
            await response.read()
        response.close()
        assert client.usage == (0, 0, 1, 1)


async def test_a_closed_client_has_no_connections_and_can_be_used_again() -> None:
    async def stay_silent(exchange: Exchange) -> None:
        await exchange.wait_until_left()

    async with AsyncExitStack() as stack:
        silent = await stack.enter_async_context(http_peer(stay_silent))
        peer = await stack.enter_async_context(http_peer(answer_ok))
        client = await stack.enter_async_context(http_client())
        await post(client, peer.url)
        call = asyncio.create_task(failure_of(client, silent.url))
        while not silent.requests:
            await asyncio.sleep(0.01)
        await client.aclose()
        assert (await call).code == ProviderErrorCode.CONNECTION_LOST
        assert client.usage == (0, 0, 0, 0)
        await post(client, peer.url)
    assert peer.connections == 2
