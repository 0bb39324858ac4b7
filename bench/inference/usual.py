"""The server `usual`: FastAPI and httpx, as one writes a relay first, and nothing is stored.

python -m bench.inference.usual PORT MODEL_URL
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response


def create_app(model_url: str) -> FastAPI:
    """Build the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx2.AsyncClient(timeout=60) as app.state.client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions", response_model=None)
    async def complete(body: dict[str, Any], request: Request) -> Response:
        client: httpx2.AsyncClient = request.app.state.client
        if body.get("stream"):
            return StreamingResponse(relay(client, body), media_type="text/event-stream")
        response = await client.post(model_url, json=body)
        return JSONResponse(response.json(), response.status_code)

    async def relay(client: httpx2.AsyncClient, body: dict[str, Any]) -> AsyncIterator[bytes]:
        async with client.stream("POST", model_url, json=body) as response:
            async for part in response.aiter_raw():
                yield part

    return app


def main() -> None:
    """Serve until SIGTERM."""
    port, model_url = sys.argv[1:]
    uvicorn.run(create_app(model_url), port=int(port), access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
