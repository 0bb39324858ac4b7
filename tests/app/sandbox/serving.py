"""A sandbox on a loopback port, served by a real uvicorn in a thread of its own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from app.sandbox.server import create_sandbox


@contextmanager
def serve_sandbox(*, latency_scale: float = 0.0) -> Iterator[str]:
    """Serve until the block ends, and insist that the server then stops."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_sandbox(latency_scale=latency_scale),
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
        assert not thread.is_alive()


def chat_body(text: str, **fields: object) -> dict[str, object]:
    """Make the body of a chat request with one user message."""
    return {"messages": [{"role": "user", "content": text}], **fields}
