"""Compressed bodies: undone whatever way they are cut, in bounded pieces, or said to be broken."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import ProviderError, ProviderErrorCode
from providers.inflating import PIECE_BYTES, BrokenCompressionError, Inflater, open_inflater
from tests.providers.http_peer import Exchange, http_client, http_peer
from tests.providers.test_http import failure_of, post


def inflate(encoding: str, pieces: list[bytes]) -> list[bytes]:
    inflater = Inflater(encoding)
    found = []
    for piece in pieces:
        held = piece
        while inflated := inflater.inflate(held):
            found.append(inflated)
            held = b""
    inflater.check_end()
    return found


def in_raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate without a head": in_raw_deflate,
}


@given(st.sampled_from([*WAYS]), st.binary(max_size=300), st.integers(1, 400), st.integers(1, 50))
def test_however_it_is_cut_it_is_what_was_compressed(
    way: str, content: bytes, times: int, size: int
) -> None:
    compressed = WAYS[way](content * times)
    pieces = [compressed[at : at + size] for at in range(0, len(compressed), size)]
    found = inflate(way.split(maxsplit=1)[0], pieces)
    assert b"".join(found) == content * times
    assert max(map(len, found), default=0) <= PIECE_BYTES


@pytest.mark.parametrize("way", WAYS)
def test_a_little_that_becomes_much_comes_in_bounded_pieces(way: str) -> None:
    found = inflate(way.split(maxsplit=1)[0], [WAYS[way](bytes(10**8))])
    assert (sum(map(len, found)), max(map(len, found))) == (10**8, PIECE_BYTES)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_file_of_several_members_is_all_of_them(size: int) -> None:
    members = b"".join(gzip.compress(b"%d," % number) for number in range(100))
    pieces = [members[at : at + size] for at in range(0, len(members), size)]
    assert b"".join(inflate("gzip", pieces)) == b"".join(b"%d," % number for number in range(100))


HELLO = gzip.compress(b"hello")
BROKEN: dict[str, tuple[str, bytes]] = {
    "its last byte is missing": ("gzip", HELLO[:-1]),
    "its sum is missing": ("gzip", HELLO[:-9]),
    "all but its head is missing": ("gzip", HELLO[:4]),
    "its sum is wrong": ("gzip", HELLO[:-8] + bytes(8)),
    "followed by something": ("gzip", HELLO + b"more"),
    "very many empty members": ("gzip", gzip.compress(b"") * 1_001),
    "the other way": ("gzip", zlib.compress(b"hello")),
    "not at all": ("gzip", b"hello"),
    "deflate without its end": ("deflate", zlib.compress(b"hello")[:-1]),
    "deflate and something": ("deflate", zlib.compress(b"hello") + b"more"),
    "deflate twice": ("deflate", zlib.compress(b"hello") * 2),
    "deflate the other way": ("deflate", HELLO),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("size", [1, 10_000_000])
def test_what_is_cut_wrong_or_followed_by_something_is_broken(name: str, size: int) -> None:
    encoding, compressed = BROKEN[name]
    pieces = [compressed[at : at + size] for at in range(0, len(compressed), size)]
    with pytest.raises(BrokenCompressionError):
        inflate(encoding, pieces)


@pytest.mark.parametrize("encoding", ["", "identity", "utf-8", "Identity , ", "aws-chunked"])
def test_what_names_no_compression_is_passed_over(encoding: str) -> None:
    assert open_inflater(encoding) is None


@pytest.mark.parametrize("encoding", ["gzip", " GZIP ", "x-gzip", "deflate"])
def test_what_was_asked_for_is_undone(encoding: str) -> None:
    assert open_inflater(encoding) is not None


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "deflate, gzip", "gzip, utf-8"]
)
def test_what_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(BrokenCompressionError):
        open_inflater(encoding)


async def test_a_compressed_stream_is_given_as_it_comes() -> None:
    async def answer_in_parts(exchange: Exchange) -> None:
        compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        await exchange.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
        )
        for part in (b"a", b"b", b"c"):
            block = compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH)
            await exchange.send_chunks(block)
        await exchange.send_chunks(compressor.flush())
        await exchange.end_stream()

    async with http_peer(answer_in_parts) as peer, http_client() as client:
        for _ in range(2):
            async with client.stream("GET", peer.url, headers={}) as response:
                assert b"".join([piece async for piece in response.chunks()]) == b"abc"
    assert peer.connections == 1


async def test_a_body_as_large_as_it_may_be_is_read_also_where_compressing_made_it_larger() -> None:
    content = bytes(range(256))

    async def answer_compressed(exchange: Exchange) -> None:
        await exchange.answer(gzip.compress(content), "Content-Encoding: gzip")

    async with http_peer(answer_compressed) as peer, http_client() as client:
        assert (await post(client, peer.url, max_bytes=256))[1] == content
        error = await failure_of(client, peer.url, max_bytes=255)
    assert error.code == ProviderErrorCode.RESPONSE_TOO_LARGE


async def test_no_body_is_no_broken_compression() -> None:
    async def answer_nothing(exchange: Exchange) -> None:
        await exchange.answer(b"", "Content-Encoding: gzip")

    async with http_peer(answer_nothing) as peer, http_client() as client:
        assert (await post(client, peer.url))[1] == b""


async def test_a_body_that_is_cut_in_its_compression_is_broken_after_what_had_come() -> None:
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    block = compressor.compress(b"hello") + compressor.flush(zlib.Z_SYNC_FLUSH)

    async def answer_half(exchange: Exchange) -> None:
        await exchange.answer(block, "Content-Encoding: gzip")

    async with (
        http_peer(answer_half) as peer,
        http_client() as client,
        client.stream("GET", peer.url, headers={}) as response,
    ):
        assert await response.read() == b"hello"
        with pytest.raises(ProviderError, match="the compression is broken"):
            await response.read()
