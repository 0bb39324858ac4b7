"""New connections: which address, whose certificate, and what is said when there is none."""

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers.addresses import KEPT_NAMES, KeepingResolver
from providers.base import ProviderErrorCode
from tests.providers.http_peer import (
    LONG_SECONDS,
    SHORT_SECONDS,
    Exchange,
    HttpPeer,
    http_client,
    http_peer,
    read_request,
)
from tests.providers.test_http import answer_ok, failure_of, post

CODE = ProviderErrorCode
NAME = "model.example"


class Naming:
    """A resolver that knows one answer, and counts how often it is asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def resolve(self, host: str, port: int) -> list[str]:  # noqa: ARG002 - the protocol's
        self.asked += 1
        await asyncio.sleep(0)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.addresses


def named(peer: HttpPeer) -> str:
    return peer.url.replace("127.0.0.1", NAME)


async def test_a_name_is_connected_to_at_its_address_and_called_by_its_name() -> None:
    async with http_peer(answer_ok) as peer, http_client(resolver=Naming("127.0.0.1")) as client:
        assert (await post(client, named(peer)))[1] == b"ok"
    port = peer.url.split(":")[2].removesuffix("/v1")
    assert f"\r\nHost: {NAME}:{port}\r\n".encode() in peer.requests[0].head


async def test_a_name_is_asked_for_once_by_many_at_once_and_after() -> None:
    naming = Naming("127.0.0.1")
    async with (
        http_peer(answer_ok) as peer,
        http_client(resolver=naming, max_connections=20) as client,
    ):
        await asyncio.gather(*(post(client, named(peer)) for _ in range(20)))
        assert peer.connections == 20
        await client.aclose()
        await post(client, named(peer))
    assert naming.asked == 1


async def test_a_name_that_was_not_found_is_asked_for_again() -> None:
    naming = Naming()
    async with http_peer(answer_ok) as peer, http_client(resolver=naming) as client:
        error = await failure_of(client, named(peer))
        assert (error.code, error.is_retryable) == (CODE.CONNECTION_FAILED, True)
        assert str(error) == f"can't connect to {NAME}: Name or service not known"
        naming.addresses = ["127.0.0.1"]
        await post(client, named(peer))
    assert naming.asked == 2


async def test_of_names_only_so_many_are_kept() -> None:
    naming = Naming("127.0.0.1")
    resolver = KeepingResolver(naming)
    for number in range(KEPT_NAMES + 1):
        await resolver.resolve(f"{number}.example", 443)
    for number in (0, KEPT_NAMES):  # the first is gone, the last is there
        await resolver.resolve(f"{number}.example", 443)
    assert naming.asked == KEPT_NAMES + 2


@pytest.mark.parametrize("dead", [["127.0.0.2"], ["127.0.0.2", "::1", "127.0.0.3"]])
async def test_after_an_address_where_nobody_listens_comes_the_next(dead: list[str]) -> None:
    async with (
        http_peer(answer_ok) as peer,
        http_client(resolver=Naming(*dead, "127.0.0.1")) as client,
    ):
        assert (await post(client, named(peer)))[1] == b"ok"
    assert peer.connections == 1


async def test_where_nobody_listens_at_all_the_last_address_says_why() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://{NAME}:{unused.getsockname()[1]}/"
    async with http_client(resolver=Naming("127.0.0.1", "127.0.0.2")) as client:
        error = await failure_of(client, url)
    assert (error.code, error.is_retryable) == (CODE.CONNECTION_FAILED, True)
    assert str(error) == f"can't connect to {NAME}: Connection refused"


@asynccontextmanager
async def black_hole(port: int) -> AsyncIterator[str]:
    """Yield an address that takes no connection at *port* and refuses none."""
    with ExitStack() as stack:
        full = socket.socket()
        stack.enter_context(closing(full))
        full.bind(("127.0.0.2", port))
        full.listen(0)
        for _ in range(4):  # what the system takes in before it takes no more
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.settimeout(0)
            waiting.connect_ex(("127.0.0.2", port))
        await asyncio.sleep(0.05)
        yield "127.0.0.2"


async def test_while_an_address_does_not_answer_the_next_is_tried() -> None:
    async with http_peer(answer_ok) as peer:
        port = int(peer.url.split(":")[2].removesuffix("/v1"))
        async with (
            black_hole(port) as silent,
            http_client(
                resolver=Naming(silent, "127.0.0.1"), connect_timeout_seconds=LONG_SECONDS
            ) as client,
        ):
            assert (await post(client, named(peer)))[1] == b"ok"
            await asyncio.sleep(0.01)
            assert client.usage.open == 1


async def test_an_address_that_never_answers_is_left_after_the_connect_timeout() -> None:
    async with http_peer(answer_ok) as peer:
        port = int(peer.url.split(":")[2].removesuffix("/v1"))
        async with (
            black_hole(port) as silent,
            http_client(
                resolver=Naming(silent, silent), connect_timeout_seconds=SHORT_SECONDS
            ) as client,
        ):
            error = await failure_of(client, named(peer))
            assert str(error) == f"can't connect to {NAME}: no connection in time"
            error = await failure_of(client, named(peer), timeout_seconds=SHORT_SECONDS / 2)
            assert str(error) == "the request could not be sent within 0.1 s"
            assert client.usage.calls == 0


async def test_wherever_calls_are_cancelled_while_they_connect_nothing_is_left_open() -> None:
    naming = Naming("127.0.0.2", "127.0.0.1", "127.0.0.1")
    async with (
        http_peer(answer_ok) as peer,
        http_client(resolver=naming, max_connections=1) as client,
    ):
        for turn in range(30):
            call = asyncio.create_task(post(client, named(peer)))
            for _ in range(turn):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            await client.aclose()
        assert (await post(client, named(peer)))[1] == b"ok"
        await asyncio.sleep(0.05)
        assert client.usage.open == 1
        assert client.usage.calls == 0
    gc.collect()  # an unclosed socket would warn, and a warning is an error


@dataclass(frozen=True)
class Authority:
    """Vouches for servers, and for nobody else's.

    Attributes:
        client_tls: Trusts it alone.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    directory: Path

    @property
    def client_tls(self) -> ssl.SSLContext:
        pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        return ssl.create_default_context(cadata=pem.decode())

    def server_tls(self, name: str, *, days: int = 1) -> ssl.SSLContext:
        """Return the settings of a server that is called *name*, until *days* from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            begin_certificate(name, self.certificate.subject, key, days)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = self.directory / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def begin_certificate(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        begin_certificate("authority", name, key, 1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate, tmp_path)


@asynccontextmanager
async def tls_peer(tls: ssl.SSLContext, *, cuts: bool = False) -> AsyncIterator[HttpPeer]:
    """Answer with what was sent, over connections that stay; or half of it over one that ends."""
    peer = HttpPeer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        try:
            while not cuts or not peer.requests:
                exchange = await read_request(reader, writer)
                peer.requests.append(exchange)
                if cuts:
                    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                else:
                    await exchange.answer(exchange.body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    peer.url = f"https://{NAME}:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield peer
    finally:
        server.close()


async def test_under_tls_one_connection_serves_calls_of_any_size(authority: Authority) -> None:
    large = bytes(range(256)) * 16 * 1024  # 4 MiB
    async with (
        tls_peer(authority.server_tls(NAME)) as peer,
        http_client(tls=authority.client_tls, resolver=Naming("127.0.0.1")) as client,
    ):
        for content in (b"{}", large, b"{}", b""):
            _, body = await post(client, peer.url, content, max_bytes=len(large))
            assert body == content
    assert (peer.connections, len(peer.requests)) == (1, 4)


async def test_under_tls_many_calls_at_once_are_each_answered(authority: Authority) -> None:
    async with (
        tls_peer(authority.server_tls(NAME)) as peer,
        http_client(tls=authority.client_tls, resolver=Naming("127.0.0.1")) as client,
    ):
        contents = [b"%d" % number for number in range(100)]
        answers = await asyncio.gather(*(post(client, peer.url, each) for each in contents))
    assert [body for _, body in answers] == contents
    assert peer.connections == 4


async def test_a_certificate_for_another_name_is_no_connection(authority: Authority) -> None:
    async with (
        tls_peer(authority.server_tls("other.example")) as peer,
        http_client(tls=authority.client_tls, resolver=Naming("127.0.0.1")) as client,
    ):
        error = await failure_of(client, peer.url)
    assert (error.code, len(peer.requests)) == (CODE.CONNECTION_FAILED, 0)
    assert f"Hostname mismatch, certificate is not valid for '{NAME}'" in str(error)


async def test_a_certificate_that_ran_out_is_no_connection(authority: Authority) -> None:
    async with (
        tls_peer(authority.server_tls(NAME, days=-1)) as peer,
        http_client(tls=authority.client_tls, resolver=Naming("127.0.0.1")) as client,
    ):
        error = await failure_of(client, peer.url)
    assert (error.code, len(peer.requests)) == (CODE.CONNECTION_FAILED, 0)
    assert "certificate has expired" in str(error)


async def test_a_server_without_tls_is_no_connection() -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, http_client() as client:
        error = await failure_of(client, url)
    assert (error.code, error.is_retryable) == (CODE.CONNECTION_FAILED, True)
    assert str(error).startswith("can't connect to 127.0.0.1: ")


async def test_a_tls_connection_that_is_cut_is_lost_with_what_is_missing(
    authority: Authority,
) -> None:
    async with (
        tls_peer(authority.server_tls(NAME), cuts=True) as peer,
        http_client(tls=authority.client_tls, resolver=Naming("127.0.0.1")) as client,
    ):
        error = await failure_of(client, peer.url)
    assert error.code == CODE.CONNECTION_LOST
    assert str(error).endswith("in the middle of the answer)")


async def test_a_tls_connection_that_was_closed_while_idle_is_not_used(
    authority: Authority,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = await read_request(reader, writer)
        requests.append(exchange)
        await exchange.answer(b"ok")
        writer.close()

    requests: list[Exchange] = []
    tls = authority.server_tls(NAME)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    url = f"https://{NAME}:{server.sockets[0].getsockname()[1]}/v1"
    async with (
        server,
        http_client(tls=authority.client_tls, resolver=Naming("127.0.0.1")) as client,
    ):
        for _ in range(5):
            assert (await post(client, url))[1] == b"ok"
            await asyncio.sleep(0.02)
    assert len(requests) == 5
