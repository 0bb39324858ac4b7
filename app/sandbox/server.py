"""The sandbox's application: its routes put together, its own pages, and its mark on answers."""

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.sandbox.desk import CLIENT_CLOSED_REQUEST, Desk
from app.sandbox.endpoints import ENDPOINTS, EndpointRoutes
from app.sandbox.faults import FAULTS, JsonResponse
from app.sandbox.hub import HINT, HUB_TOKEN_PREFIX, HubRoutes
from app.sandbox.hub_files import list_file_urls, tasks_jsonl_gz
from app.sandbox.ledger import CallLedger
from app.sandbox.models import MODELS
from app.sandbox.openrouter import SANDBOX_KEY, OpenRouterRoutes


def create_sandbox(*, latency_scale: float = 1.0) -> Starlette:
    """Create the offline provider.

    Serve it with a `timeout_graceful_shutdown`: a stalled fault ends when its
    client leaves, but an ASGI application is not told that its server wants to.

    Args:
        latency_scale: Multiplies every simulated latency; 0 never sleeps, except
            in the faults whose point is to wait.

    Raises:
        ValueError: `latency_scale` is negative.
    """
    if latency_scale < 0:
        raise ValueError(f"latency_scale must not be negative, but is {latency_scale}")
    tasks_jsonl_gz()  # built now, so that no first request pays for it
    ledger = CallLedger()
    desk = Desk(ledger, latency_scale=latency_scale)
    application = Starlette(
        routes=[
            *OpenRouterRoutes(desk).list_routes(),
            *EndpointRoutes(desk).list_routes(),
            *HubRoutes().list_routes(),
            *_own_routes(ledger),
        ],
        middleware=[Middleware(SimulationMark)],
        exception_handlers={
            HTTPException: _answer_refusal,
            ClientDisconnect: _answer_nobody,
        },
    )
    application.router.redirect_slashes = False
    return application


class SimulationMark:
    """Marks every answer with `X-Gero-Sandbox: simulated`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and mark what comes back."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Gero-Sandbox"] = "simulated"
            await send(message)

        await self._app(scope, receive, send_marked)


def _own_routes(ledger: CallLedger) -> list[Route]:
    async def show_sandbox(_request: Request) -> Response:
        return JsonResponse(_description())

    async def show_stats(_request: Request) -> Response:
        return JsonResponse(ledger.report())

    async def reset_stats(_request: Request) -> Response:
        ledger.reset()
        return Response(status_code=204)

    return [
        Route("/", show_sandbox),
        Route("/stats", show_stats),
        Route("/stats", reset_stats, methods=["DELETE"]),
    ]


def _description() -> dict[str, object]:
    return {
        "name": "gero sandbox provider",
        "simulated": True,
        "about": (
            "An offline simulation of a model provider and a dataset hub. Its models are not"
            " language models: they know the sandbox's own tasks and answer by fixed rules."
        ),
        "openrouter": {
            "base_path": "/api/v1",
            "key": SANDBOX_KEY,
            "models": [model.id for model in MODELS.values()],
            "fault_models": [f"sandbox/{name}" for name in FAULTS],
        },
        "custom_endpoints": [f"/endpoints/{name}" for name in ENDPOINTS],
        "huggingface": {
            "base_path": "/",
            "token": HUB_TOKEN_PREFIX,
            "dataset_files": list_file_urls(),
        },
        "stats": "/stats",
    }


async def _answer_refusal(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    content: dict[str, object] = {"error": {"code": error.status_code, "message": error.detail}}
    if error.status_code == 404:  # noqa: PLR2004 - Not Found
        content |= {"dataset_files": list_file_urls(), "hint": HINT}
    return JsonResponse(content, status_code=error.status_code, headers=error.headers)


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
