"""The HTTP application: REST, GraphQL, health and static files under one roof."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache, lru_cache, partial
from http import HTTPStatus
from pathlib import Path

import yaml
from fastapi import APIRouter, Depends, FastAPI, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.graphql_http import GraphQLEndpoint
from app.health import check_database
from app.meters import PrometheusMeters
from app.metrics import NO_TELEMETRY, Metrics, serve_metrics
from app.middleware import BodyRoom, RequestBoundary
from app.request_log import RequestLog
from app.services import Process
from app.settings import Settings, SettingsError
from app.version import VERSION
from resolvers.failures import describe as describe_failure
from resolvers.persisted_documents import DocumentStore
from resolvers.trace_upkeep import make_next_days
from rest_compat import problems
from rest_compat.direct import DirectPath
from rest_compat.direct_paths import create_direct
from rest_compat.openapi import describe
from rest_compat.parameters import refuse_unknown_parameters
from rest_compat.routes import (
    added_traces,
    candidates,
    datasets,
    inference,
    labels,
    leaderboards,
    openai,
    pushes,
    runs,
    snapshots,
    spans,
    traces,
)
from rest_compat.shapes import Readiness
from schema.allow_list import AllowListError
from schema.limits import OperationLimits
from schema.operations import Operations
from schema.root import build_operations

log = logging.getLogger("gero")

# Of POSTs: those that are asked for again and again are a few, and short.
KNOWN_PATHS = 1_024
LONGEST_KNOWN_PATH = 200
# Whoever starts a server waits for it.
START_SECONDS = 5.0
ROUTERS = (
    leaderboards.router,
    candidates.router,
    datasets.router,
    pushes.router,
    snapshots.router,
    labels.router,
    snapshots.operators,
    runs.router,
    inference.router,
    openai.direct,
    openai.router,
    traces.router,
    added_traces.router,
    spans.router,
)
# Served past the router; or others say what is sent there, and clients send more than is read.
UNCHECKED = (inference.router, openai.direct, openai.router, spans.router)


class YamlResponse(Response):
    """An answer in YAML, which RFC 9512 names."""

    media_type = "application/yaml"


STATIC_DIR = Path(__file__).parent / "static"


def create_operations(settings: Settings, process: Process | None = None) -> Operations:
    """Build what executes GraphQL operations, with the limits of *settings*.

    Args:
        settings: The process's settings.
        process: Where documents are kept; None keeps them nowhere.

    Raises:
        SettingsError: The allow-list can't be used.
    """
    limits = OperationLimits(
        max_depth=settings.graphql_max_depth,
        max_tokens=settings.graphql_max_tokens,
        max_aliases=settings.graphql_max_aliases,
        max_cost=settings.graphql_max_cost,
        introspection=settings.graphql_introspection,
        compiled=settings.graphql_compiled,
    )
    try:
        return build_operations(
            limits,
            status_of=problems.STATUS,
            store=None if process is None else DocumentStore(process.database),
            key=settings.derive_key("persisted documents"),
            allow_list=settings.graphql_allow_list,
        )
    except AllowListError as error:
        raise SettingsError(f"GERO_GRAPHQL_ALLOW_LIST: {error}") from error


Bounded = Callable[..., ASGIApp]


class Site:
    """Everything that is served: GraphQL by an endpoint of its own, the rest by FastAPI.

    Args:
        api: The REST routes, health, the contract and static files.
        graphql: The GraphQL endpoint.
        direct: What is served past the router.
        bounded: Puts what every request passes through before an application.
        is_traced: Spans tell how requests came.

    Attributes:
        api: As given.
    """

    def __init__(
        self,
        api: FastAPI,
        graphql: ASGIApp,
        direct: Sequence[DirectPath],
        *,
        bounded: Bounded,
        is_traced: bool,
    ) -> None:
        self.api = api
        self._api = _behind_proxies(bounded(api))
        self._graphql = _behind_proxies(bounded(graphql, route=problems.GRAPHQL_PATH))
        self._direct: list[DirectPath] = []
        for path in direct:
            endpoint = bounded(path.endpoint, route=path.route)
            if is_traced:  # else these ask neither by which scheme nor for whom a proxy calls
                endpoint = _behind_proxies(endpoint)
            self._direct.append(replace(path, endpoint=endpoint))
        self._match = lru_cache(maxsize=KNOWN_PATHS)(self._match_direct)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request, or the application's lifespan."""
        if scope["type"] == "lifespan":
            return self._api(scope, receive, send)
        if scope["path"] == problems.GRAPHQL_PATH:
            return self._graphql(scope, receive, send)
        return (self._find_direct(scope) or self._api)(scope, receive, send)

    def _find_direct(self, scope: Scope) -> ASGIApp | None:
        """Return the endpoint that serves a request past the router, if one does."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        path: str = scope["path"]
        is_short = len(path) <= LONGEST_KNOWN_PATH
        found = self._match(path) if is_short else self._match_direct(path)
        if found is None:
            return None
        scope["path_params"] = found[1].copy()
        return found[0]

    def _match_direct(self, path: str) -> tuple[ASGIApp, dict[str, str]] | None:
        for direct in self._direct:
            found = direct.pattern.fullmatch(path)
            if found is not None:
                return direct.endpoint, found.groupdict()
        return None


def _behind_proxies(app: ASGIApp) -> ASGIApp:
    """Have *app* told what trusted proxies say of their clients."""
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")  # uvicorn's own
    return ProxyHeadersMiddleware(app, trusted_hosts=trusted)  # type: ignore[arg-type,return-value]


def create_app(settings: Settings, process: Process | None = None) -> Site:
    """Build the application.

    Args:
        settings: The process's settings.
        process: Its services, when somebody else owns and closes them.
    """
    owned = process is None
    shared = process or Process(settings)
    operations = create_operations(settings, shared)
    metrics = Metrics(shared, operations)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await operations.preload()
        await _make_next_days(shared)
        shared.changes.start()
        async with metrics.vitals.measuring():
            yield
        if owned:
            await shared.aclose()

    app = FastAPI(
        title="Gero",
        version=VERSION,
        lifespan=lifespan,
        routes=_rest_routes(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        separate_input_output_schemas=False,
        telemetry=NO_TELEMETRY,
    )
    app.state.services = shared.services
    app.state.authenticator = shared.authenticator
    app.state.cron_secret = settings.operator_secret
    direct = create_direct(shared.services, shared.authenticator)
    app.state.direct = {path.name: path.endpoint for path in direct}
    problems.install(app)
    _serve_health(app, shared)
    serve_metrics(app, metrics)
    describe(app)
    _serve_files(app)
    graphql = GraphQLEndpoint(
        operations, app, public_url=settings.public_url, graphiql=settings.graphiql
    )
    bounded = _boundary(settings, shared.meters)
    is_traced = shared.meters.tracing is not None
    return Site(app, graphql, direct, bounded=bounded, is_traced=is_traced)


@cache
def _rest_routes() -> list[BaseRoute]:
    """Build REST's routes, which find all that is a server's own in its application's state."""
    rest = APIRouter()
    known_alone = [Depends(refuse_unknown_parameters)]
    for router in ROUTERS:
        rest.include_router(router, dependencies=None if router in UNCHECKED else known_alone)
    return rest.routes


def _boundary(settings: Settings, meters: PrometheusMeters) -> Bounded:
    return partial(
        RequestBoundary,
        max_body_bytes=settings.max_body_bytes,
        room=BodyRoom(settings.max_bodies_bytes),
        log=RequestLog(settings.log_format),
        meters=meters,
    )


async def _make_next_days(process: Process) -> None:
    """Make the partitions of traces that come next; storing makes those that are missing."""
    try:
        async with asyncio.timeout(START_SECONDS):
            await make_next_days(process.system_context())
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        told = describe_failure(error)
        log.warning("the partitions of the next days are made as they are needed: %s", told)


def _serve_health(app: FastAPI, process: Process) -> None:
    @app.get("/healthz", operation_id="healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Tell that the process is alive."""
        return {"status": "ok"}

    @app.get(
        "/readyz",
        operation_id="readyz",
        tags=["health"],
        responses={503: {"model": Readiness, "description": "A check failed; it says which."}},
    )
    async def readyz(response: Response) -> Readiness:
        """Tell whether requests can be served: database, migrations at head, job engine."""
        checks = await check_database(process.database)
        ready = all(check.problem is None for check in checks)
        if not ready:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return Readiness(
            status="ok" if ready else "unavailable",
            checks={check.name: check.problem or "ok" for check in checks},
        )


def _serve_files(app: FastAPI) -> None:
    text = cache(partial(contract_text, app))  # written when it is first asked for

    @app.get(
        "/openapi.yaml",
        operation_id="openapi",
        tags=["health"],
        response_class=YamlResponse,
        responses={200: {"content": {YamlResponse.media_type: {"schema": {"type": "object"}}}}},
    )
    async def openapi() -> YamlResponse:
        """Return this contract."""
        return YamlResponse(text())

    app.mount("/static", StaticFiles(directory=STATIC_DIR), name="static")


def contract_text(app: FastAPI) -> str:
    """Return openapi.yaml, as the repository has it."""
    return yaml.safe_dump(app.openapi(), sort_keys=False, allow_unicode=True, width=100)
