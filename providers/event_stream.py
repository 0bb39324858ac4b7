"""Server-sent events, read as they come: each event's data, however its bytes were cut."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LINE_ENDS = (b"\n", b"\r")


class EventTooLargeError(Exception):
    """One event is over the limit."""


class ErrorData(bytes):
    """The data of an event that is called an error."""


class EventParser:
    """Turns the bytes of an event stream into the data of its events.

    Of their names only that of errors counts. Work is proportional to the bytes, also when they
    come one by one.

    Args:
        max_event_bytes: Of one event, its line ends and other fields included.

    Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream".
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._is_error = False
        self._after_return = False
        self._is_first_line = True

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that *piece* completes.

        Raises:
            EventTooLargeError: The event that is under way is over the limit.
        """
        if self._after_return and piece:
            piece = piece.removeprefix(b"\n")  # the other half of a CR LF that was cut
            self._after_return = False
        if b"\n" not in piece and b"\r" not in piece:
            self._line += piece
            self._check()
            return []
        self._after_return = piece.endswith(b"\r")
        lines = piece.splitlines()
        lines[0] = bytes(self._line) + lines[0]
        self._line.clear()
        if not piece.endswith(LINE_ENDS):
            self._line += lines.pop()
        events = [data for line in lines if (data := self._take(line)) is not None]
        self._check()
        return events

    def close(self) -> list[bytes]:
        """Return the event whose last blank line the server left out, if there is one.

        The standard drops it, as it can't know whether it is whole. The end of a body over HTTP
        is marked, and several servers of models leave the line out.
        """
        return self.feed(b"\n\n")

    def _check(self) -> None:
        if self._size + len(self._line) > self._max_event_bytes:
            raise EventTooLargeError

    def _take(self, line: bytes) -> bytes | None:
        """Return an event's data when *line* ends one that has any."""
        if self._is_first_line:
            line = line.removeprefix(BYTE_ORDER_MARK)
            self._is_first_line = False
        if line:
            self._size += len(line)
            self._check()
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            elif name == b"event":
                self._is_error = value.strip() == b"error"
            return None
        data, self._data, self._size = self._data, [], 0
        kind, self._is_error = ErrorData if self._is_error else bytes, False
        return kind(b"\n".join(data)) if data else None
