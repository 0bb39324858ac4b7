"""The two C programs: the model endpoint that is called, and the client that calls.

In Python each would need more of the processor than the servers that are measured.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

SOURCES = Path(__file__).parent
COMPILER = "cc"
# Every answer has it, whoever gives it: it is in the usage of the model endpoint.
EXPECTED = "total_tokens"
# The client waits a minute for an answer that does not come.
LONGEST_BURST_SECONDS = 3_600


class LoadError(Exception):
    """A server answered wrongly, or not at all."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent.

    Attributes:
        connections: Used at once, each with one request under way.
        delay_ms: How long the model takes.
        stream: Ask for server-sent events.
    """

    connections: int
    delay_ms: int
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of a load.

    Attributes:
        right: Answers that are 200 and have the usage.
        first_wrong: The beginning of the first other one.
        seconds: From the first request to the last answer.
        whole_ms: The 50th, 95th and 99th percentile of a whole answer's latency.
        first_byte_ms: The same of the first byte of its body.
    """

    right: int
    wrong: int
    first_wrong: str
    seconds: float
    whole_ms: Sequence[float]
    first_byte_ms: Sequence[float]


class Programs:
    """The compiled programs.

    Args:
        folder: Where they are put, and each request while it is sent.

    Raises:
        LoadError: There is no C compiler.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if shutil.which(COMPILER) is None:
            raise LoadError(f"the load client is compiled at each run: install {COMPILER}")
        for name in ("upstream", "client"):
            source, program = SOURCES / f"{name}.c", folder / name
            subprocess.run([COMPILER, "-O2", "-Wall", "-o", program, source], check=True)

    @contextmanager
    def serving_model(self) -> Iterator[int]:
        """Serve the models `delay-0`, `delay-50` and so on while the block runs; yield the port."""
        process = subprocess.Popen(
            [self._folder / "upstream"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait()

    def send(
        self, port: int, request: bytes, load: Load, *, seconds: float, answers: int = 1_000_000
    ) -> Burst:
        """Send *request* again and again.

        Args:
            port: Who is asked, on this machine.
            request: Its bytes.
            load: How much at once.
            seconds: No request begins later.
            answers: Nor any after so many.

        Raises:
            LoadError: An answer did not come.
        """
        path = self._folder / f"request-{port}"
        path.write_bytes(request)
        numbers = (port, load.connections, seconds, answers, load.delay_ms)
        ended = subprocess.run(
            [self._folder / "client", *map(str, numbers), path, EXPECTED],
            capture_output=True,
            timeout=LONGEST_BURST_SECONDS,
            check=False,
        )
        if ended.returncode != 0:
            raise LoadError(ended.stderr.decode("utf-8", "replace").strip())
        told = orjson.loads(ended.stdout)
        return Burst(
            right=told["right"],
            wrong=told["wrong"],
            first_wrong=told["first_wrong"],
            seconds=told["seconds"],
            whole_ms=[told[f"whole_p{share}_us"] / 1_000 for share in (50, 95, 99)],
            first_byte_ms=[told[f"first_p{share}_us"] / 1_000 for share in (50, 95, 99)],
        )


def chat_request(
    load: Load,
    *,
    model: str | None = None,
    path: str = "/v1/chat/completions",
    headers: Sequence[str] = (),
) -> bytes:
    """Return the bytes of a chat request of some 300 bytes.

    Args:
        load: Says the delay, which is in the model's name unless *model* is given.
        model: Another model.
        path: Where it goes.
        headers: Further ones, such as a credential.
    """
    text = (
        "The customer says that the parcel with the number 7919 has not come, and asks where it is "
        "and when it will be there. Say in one word what this is about: delivery, billing, or both."
    )
    asked = {
        "model": model or f"delay-{load.delay_ms}",
        "messages": [{"role": "user", "content": text}],
        **({"stream": True, "stream_options": {"include_usage": True}} if load.stream else {}),
    }
    body = orjson.dumps(asked)
    head = [
        f"POST {path} HTTP/1.1",
        "Host: bench",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
