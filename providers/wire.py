"""One connection to an HTTP/1.1 server, over which one request after the other is answered."""

import asyncio
import re
import select
from collections.abc import Callable
from typing import cast

import httptools
from typing_extensions import override

from providers.deadlines import Alarm

# Of everything between two pieces of a body: interim answers, the head, what frames chunks, and
# trailers. Nothing else bounds them.
MAX_HEAD_BYTES = 64 * 1024
TOO_LONG = "a head or a trailer is over 64 KiB"
# Of a body that nobody has read yet; then the server has to wait.
MAX_UNREAD_BYTES = 256 * 1024
LOW_UNREAD_BYTES = 64 * 1024
# Up to here, a request's head and body leave together.
JOINED_BYTES = 64 * 1024
# Not everywhere; where it is missing, a closed connection is readable all the same.
PEER_CLOSED = getattr(select, "POLLRDHUP", 0)
# How much earlier than its server a connection is given up: its closing takes time to arrive, and a
# request that crosses it is lost, and not sent again.
IDLE_MARGIN_SECONDS = 1.0
# Where a server doesn't say: those of uvicorn, so vLLM's, and of Node keep them for 5 s.
UNSTATED_IDLE_SECONDS = 5.0 - IDLE_MARGIN_SECONDS
LONGEST_IDLE_SECONDS = 15.0
KEEP_ALIVE_TIMEOUT = re.compile(rb'\btimeout\s*=\s*"?([0-9]{1,6})\b', re.IGNORECASE)
# What two copies of could make end elsewhere for another reader.
ONCE = frozenset({b"content-length", b"transfer-encoding"})
JOINED = frozenset({b"content-encoding"})
LEAST_STATUS = 100
SWITCHING_PROTOCOLS = 101
LEAST_FINAL_STATUS = 200
BODYLESS = frozenset({204, 304})


class _InvalidAnswerError(Exception):
    """What came can't be read, or should not be."""


class Wire(asyncio.Protocol):
    """Sends a request, and parses its answer as it comes.

    Whoever takes a wire sends, and waits for `is_ready`; then `status` and `headers` are the
    answer's, and `take` gives its body. An answer that is not strictly HTTP/1.1, or whose end could
    be read in two ways, is refused, and its connection is not used again.

    Args:
        on_lost: Called once the connection is no more.

    Attributes:
        alarm: For whoever waits.
        is_lost: The connection is no more.
        has_head: The answer's head has come.
        is_complete: All of the answer has come.
        headers: As they came, by their names in small letters.
        loss: Why no more of it will come.
        idle_seconds: How long the connection may be kept unused.

    Source: RFC 9112, sections 6 and 9.
    """

    def __init__(self, on_lost: Callable[["Wire"], None]) -> None:
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._is_made = False
        self._parser = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self._unread = bytearray()
        self._fields: list[tuple[bytes, bytes]] = []
        self._waiter: asyncio.Future[bool] | None = None
        self._wanted_bytes = 0
        self._unbodied_bytes = 0
        self._on_sent: Callable[[], None] | None = None
        self._is_head_asked = False
        self._is_interim = False
        self._ends_with_connection = False
        self._needs_parser = False
        self._is_writing_paused = False
        self._is_reading_paused = False
        self._is_reusable = True
        self._is_used = False
        self.alarm = Alarm()
        self.is_lost = False
        self.has_head = False
        self.is_complete = True
        self.loss: str | None = None
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.idle_seconds = UNSTATED_IDLE_SECONDS

    # What its user calls.

    def send(
        self, head: bytes, content: bytes | None, *, is_head: bool, on_sent: Callable[[], None]
    ) -> bool:
        """Send a request, unless the connection turns out to be closed: then not a byte is sent.

        Only the kernel knows of a connection that was closed while this process was busy. Asked in
        the same turn of the loop in which the request is written, it makes sure that nothing has
        been sent: without that, a lost POST could not be told from one that was never read.

        Args:
            head: With its last blank line.
            content: The body.
            is_head: The method is HEAD.
            on_sent: Called when all of it is on its way.

        Returns:
            Whether it was sent.
        """
        if not self._is_reusable or self._transport.is_closing() or self._poll.poll(0):
            return False
        if self._needs_parser:
            self._parser = httptools.HttpResponseParser(self)
            self._needs_parser = False
        self._is_head_asked = is_head
        self._unbodied_bytes = 0
        self._ends_with_connection = False
        self.has_head = self.is_complete = False
        self.idle_seconds = UNSTATED_IDLE_SECONDS
        self._on_sent = on_sent
        if content is None:
            self._transport.write(head)
        elif len(content) <= JOINED_BYTES:
            self._transport.write(head + content)
        else:
            self._transport.write(head)
            self._transport.write(content)
        if not self._is_writing_paused:
            self._note_sent()
        return True

    def is_ready(self, wanted_bytes: int) -> bool:
        """Tell whether the head and so many bytes of the body have come, or no more will."""
        return (
            self.is_complete
            or self.loss is not None
            or (self.has_head and len(self._unread) >= wanted_bytes)
        )

    def until_ready(self, wanted_bytes: int) -> asyncio.Future[bool]:
        """Return what becomes True when `is_ready` does; there is one at a time."""
        self._wanted_bytes = wanted_bytes
        self._waiter = self._loop.create_future()
        return self._waiter

    @property
    def is_taken(self) -> bool:
        """Whether all of the answer has come, and been taken."""
        return self.is_complete and not self._unread

    def take(self, most_bytes: int) -> bytes:
        """Return the next bytes of the body that have come; empty when there are none."""
        unread = self._unread
        if len(unread) <= most_bytes:
            piece = bytes(unread)
            unread.clear()
        else:
            piece = bytes(memoryview(unread)[:most_bytes])
            del unread[:most_bytes]
        if self._is_reading_paused and len(unread) <= LOW_UNREAD_BYTES:
            self._resume_reading()
        return piece

    def retire(self) -> bool:
        """End an exchange; tell whether the connection can serve another one."""
        self._waiter = None
        self._on_sent = None
        is_over = self.is_complete and not self._is_writing_paused
        if not (is_over and self._is_reusable) or self._transport.is_closing():
            return False
        self._unread.clear()
        if self._is_reading_paused:
            self._resume_reading()
        # From now on, all that a server sends unasked is a reason not to ask it.
        if not self._is_used:
            self._is_used = True
            socket = self._transport.get_extra_info("socket")
            self._poll.register(socket, select.POLLIN | PEER_CLOSED)
        return True

    def abort(self) -> None:
        """Hang up at once, or as soon as there is a connection."""
        self._is_reusable = False
        if self._is_made:
            self._transport.abort()

    # What the event loop calls.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        # To be told when all has left: zero would pause asyncio's TLS for good.
        self._transport.set_write_buffer_limits(high=1)
        # A first greeting may still be unread: TLS has tickets to give.
        self._poll.register(self._transport.get_extra_info("socket"), PEER_CLOSED)
        self._is_made = True
        if not self._is_reusable:  # uvloop goes on connecting for who has left meanwhile
            self._transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        if self.is_complete or self.loss is not None:
            self.abort()  # nobody asked for it
            return
        self._unbodied_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._unbodied_bytes > MAX_HEAD_BYTES and not self.is_complete:
                raise _InvalidAnswerError(TOO_LONG)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse(str(error.__context__ or error))
        except _InvalidAnswerError as error:
            self._refuse(str(error))
        if len(self._unread) > MAX_UNREAD_BYTES and not self.is_complete:
            self._pause_reading()
        if self.is_ready(self._wanted_bytes):
            self._wake()

    @override
    def eof_received(self) -> None:
        self._end(None)
        self.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._is_reusable = False
        self._end(exc)
        self.is_lost = True
        self.alarm.close()
        del self._parser  # it knows this object; the two would only go with the next collection
        self._on_lost(self)

    @override
    def pause_writing(self) -> None:
        self._is_writing_paused = True

    @override
    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._note_sent()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self.is_complete:
            raise _InvalidAnswerError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, and pass over a trailer."""
        if not self.has_head:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Find out what the head says of the answer's end."""
        fields, self._fields = self._fields, []
        status = self._parser.get_status_code()
        if self._unbodied_bytes > MAX_HEAD_BYTES and _size_of(fields) > MAX_HEAD_BYTES:
            raise _InvalidAnswerError(TOO_LONG)
        headers = _read_fields(fields)
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != b"chunked":
            raise _InvalidAnswerError("a Transfer-Encoding other than chunked")
        is_framed = coding is not None or b"content-length" in headers
        if status < LEAST_FINAL_STATUS:
            if status < LEAST_STATUS or status == SWITCHING_PROTOCOLS or is_framed:
                raise _InvalidAnswerError("an interim answer that nobody asked for")
            self._is_interim = True
            return
        self.status, self.headers, self.has_head = status, headers, True
        if b"keep-alive" in headers:
            self.idle_seconds = _read_idle_seconds(headers[b"keep-alive"])
        if coding is not None and self._parser.get_http_version() == "1.0":
            self._is_reusable = False
        self._ends_with_connection = not is_framed
        if self._is_head_asked or status in BODYLESS:
            # The parser does not know what was asked, and may go on to what won't come. It is done
            # with; that nothing has come can't be known when it is in chunks.
            self._needs_parser = True
            self._is_reusable &= coding is None
            self._complete()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if self.is_complete:
            raise _InvalidAnswerError("a body that there can't be")
        self._unbodied_bytes = 0
        self._unread += body

    def on_message_complete(self) -> None:
        """Note the end, unless it is an interim answer's."""
        if self._is_interim:
            self._is_interim = False
        elif not self.is_complete:
            self._complete()

    def _complete(self) -> None:
        self.is_complete = True
        if not self._parser.should_keep_alive():
            self._is_reusable = False

    def _end(self, exc: Exception | None) -> None:
        """Take note that no more will come."""
        if self.is_complete or self.loss is not None:
            return
        self._is_reusable = False
        if self.has_head and self._ends_with_connection and exc is None:
            self.is_complete = True
        else:
            when = "in the middle of the answer" if self.has_head else "before it was answered"
            self.loss = f"{exc}, {when}" if exc else f"closed {when}"
        self._wake()

    def _refuse(self, why: str) -> None:
        """Give up an answer that can't be trusted, or only its connection when it is complete."""
        if not self.is_complete:
            self.loss = f"what came is not valid HTTP: {why}"
        self.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    def _note_sent(self) -> None:
        if self._on_sent is not None:
            self._on_sent()
            self._on_sent = None

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        self._is_reading_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()


def _size_of(fields: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) for name, value in fields)


def _read_fields(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by their names in small letters; of those that come twice, the first."""
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        if key not in headers:
            headers[key] = value
        elif key in ONCE:
            raise _InvalidAnswerError(f"two headers {key.decode()}")
        elif key in JOINED:
            headers[key] += b"," + value
    return headers


def _read_idle_seconds(keep_alive: bytes) -> float:
    stated = KEEP_ALIVE_TIMEOUT.search(keep_alive)
    if stated is None:
        return UNSTATED_IDLE_SECONDS
    return min(LONGEST_IDLE_SECONDS, max(0.0, int(stated[1]) - IDLE_MARGIN_SECONDS))
