"""An answer that a model's endpoint streams, chunk by chunk."""

import asyncio
import re
from collections import deque
from contextlib import suppress
from typing import Any

from providers.answer_json import load_json, whole
from providers.base import ChatTarget, ProviderError, ProviderErrorCode
from providers.chat_answers import read_as_chunk
from providers.event_stream import ErrorData, EventParser, EventTooLargeError
from providers.http import HttpResponse, too_large
from providers.http_failures import find_stated_failure, read_answered, shown_text

# Pictures come as one event.
EVENT_MAX_BYTES = 4 * 1024 * 1024
EVENT_STREAM = "text/event-stream"
# How a stream begins that does not say what it is: what people write by hand often doesn't.
EVENT_STARTS = (b"data:", b"event:", b": ")
LONGEST_START = max(map(len, EVENT_STARTS))
DONE = b"[DONE]"
# Half of a character, as JSON escapes it; a whole one has two.
HALF = re.compile(rb"\\u[dD][89a-fA-F]")
FIRST_HALF = re.compile("[\ud800-\udbff]")
# A body ends right after its last event, and only then can its connection be used again.
END_WAIT_SECONDS = 0.1


class HttpChatStream:
    """Reads the chunks of one response; see `ChatStream`.

    Args:
        response: Its head has come, and is a success.
        target: Who answers.
        max_bytes: Of the whole answer.
    """

    def __init__(self, response: HttpResponse, target: ChatTarget, *, max_bytes: int) -> None:
        self._response = response
        self._target = target
        self._max_bytes = max_bytes
        self._size = 0
        self._parser = EventParser(min(max_bytes, EVENT_MAX_BYTES))
        self._events: deque[bytes] = deque()
        self._is_known = False
        self._is_over = False
        self._has_begun = False
        self._is_finished = False
        self._halves: dict[str, str] = {}

    def __aiter__(self) -> "HttpChatStream":
        return self

    async def __anext__(self) -> dict[str, Any]:
        try:
            chunk = await self._next_chunk()
        except ProviderError as error:
            self._is_over = True
            error.has_begun = self._has_begun
            error.is_retryable = error.is_retryable and not self._has_begun
            raise
        if chunk is None:
            raise StopAsyncIteration
        self._has_begun = True
        return chunk

    async def finish(self) -> None:
        """Read the end of a complete answer, so that its connection can be used again."""
        if self._is_over and not self._response.is_complete:
            # The answer is there: an endpoint that does not end its body loses the connection.
            with suppress(ProviderError, TimeoutError):
                async with asyncio.timeout(END_WAIT_SECONDS):
                    while await self._response.read():
                        pass

    async def _next_chunk(self) -> dict[str, Any] | None:
        if not self._is_known:
            self._is_known = True
            whole = await self._find_out()
            if whole is not None:
                self._is_over = self._is_finished = True
                media_type = self._response.headers.get("content-type")
                return read_as_chunk(whole, self._target, media_type)
        while True:
            while self._events:
                data = self._events.popleft()
                if data.strip() == DONE:
                    self._events.clear()
                    self._is_over = self._is_finished = True
                elif data.strip():
                    return self._read_event(data)
            if self._is_over:
                self._check_end()
                return None
            piece = await self._read()
            self._is_over = not piece
            self._take(piece)

    def _check_end(self) -> None:
        """Check that the answer was at its end when the stream was.

        Not every end of a body is marked, so that a server that dies may look as if it were done.

        Raises:
            ProviderError: Nothing has come, or nothing that tells of the end.
        """
        if not self._has_begun:
            raise ProviderError(ProviderErrorCode.INVALID_RESPONSE, "the stream was empty")
        if not self._is_finished:
            raise ProviderError(
                ProviderErrorCode.CONNECTION_LOST,
                "the stream ended without a finish_reason, its usage or [DONE]",
            )

    async def _find_out(self) -> bytes | None:
        """Return the whole answer of an endpoint that does not stream; None when it does."""
        media_type = self._response.headers.get("content-type", "").partition(";")[0]
        if media_type.strip().lower() == EVENT_STREAM:
            return None
        content = bytearray()
        while len(content.lstrip()) < LONGEST_START and (piece := await self._read()):
            content += piece
        if content.lstrip().startswith(EVENT_STARTS):
            self._take(bytes(content.lstrip()))
            return None
        while piece := await self._read():
            content += piece
        return bytes(content)

    async def _read(self) -> bytes:
        piece = await self._response.read()
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise too_large(self._response.status, self._max_bytes)
        return piece

    def _take(self, piece: bytes) -> None:
        """Add the events that *piece* completes; an empty one ends the last."""
        try:
            self._events += self._parser.feed(piece) if piece else self._parser.close()
        except EventTooLargeError as error:
            raise ProviderError(
                ProviderErrorCode.RESPONSE_TOO_LARGE,
                f"an event of the stream is over the limit of {EVENT_MAX_BYTES} bytes",
                status=self._response.status,
            ) from error

    def _read_event(self, data: bytes) -> dict[str, Any]:
        try:
            chunk = self._load(data)
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict):
            raise ProviderError(
                ProviderErrorCode.INVALID_RESPONSE,
                "an event of the stream is not a JSON object",
                body=shown_text(data, self._target.headers),
                answered=read_answered(data, self._target.headers),
            )
        if isinstance(data, ErrorData) and not chunk.get("error"):
            chunk = {"error": chunk}
        failure = find_stated_failure(chunk, data, sent=self._target.headers)
        if failure is not None:
            raise failure
        self._is_finished = self._is_finished or _ends(chunk)
        return chunk

    def _load(self, data: bytes) -> Any:
        """Parse an event; of a character that is cut in two, the text comes with its second half.

        Servers that write text by UTF-16 units cut where they like.

        Raises:
            ValueError: It is no JSON.
        """
        if not self._halves and HALF.search(data) is None:
            return load_json(data)
        chunk = load_json(data, keeps_halves=True)
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._join_halves(str(choice.get("index") or 0), choice)
        return whole(chunk)

    def _join_halves(self, index: str, choice: dict[str, Any]) -> None:
        """Put a half that has come before in front of a choice's text, and keep one at its end."""
        is_last = bool(choice.get("finish_reason"))
        delta = choice.get("delta")
        if delta is None and is_last and index in self._halves:
            delta = choice["delta"] = {}
        if not isinstance(delta, dict) or not isinstance(given := delta.get("content") or "", str):
            return
        text = self._halves.pop(index, "") + given
        if not is_last and FIRST_HALF.fullmatch(text[-1:]):
            self._halves[index] = text[-1]
            text = text[:-1]
        if text or given:
            delta["content"] = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _ends(chunk: dict[str, Any]) -> bool:
    """Tell whether a chunk comes at the end: with a reason to finish, or the usage and no more."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not choices:
        return isinstance(chunk.get("usage"), dict)
    return any(isinstance(each, dict) and each.get("finish_reason") for each in choices)
