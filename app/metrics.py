"""What this process counts, for operators, in Prometheus's text format."""

from collections.abc import Mapping
from typing import Final

from fastapi import Depends, FastAPI, Response

from compiled_graphql.cache import CACHED, COMPILED
from rest_compat.deps import demand_operator
from schema.operations import Operations

TEXT_FORMAT: Final = "text/plain; version=0.0.4"
COMPILED_NAME: Final = "gero_graphql_compiled_total"
FALLBACK_NAME: Final = "gero_graphql_fallbacks_total"


class MetricsResponse(Response):
    """Metrics, as Prometheus reads them."""

    media_type = TEXT_FORMAT


def metrics_text(counts: Mapping[str, int]) -> str:
    """Return the metrics.

    Source: https://prometheus.io/docs/instrumenting/exposition_formats/

    Args:
        counts: GraphQL executions by how they went; see `Operations.counts`.
    """
    reasons = sorted(set(counts) - {CACHED, COMPILED})
    lines = [
        f"# HELP {COMPILED_NAME} GraphQL operations that the compiled executor was given, by plan.",
        f"# TYPE {COMPILED_NAME} counter",
        f'{COMPILED_NAME}{{plan="cached"}} {counts.get(CACHED, 0)}',
        f'{COMPILED_NAME}{{plan="new"}} {counts.get(COMPILED, 0)}',
        f"# HELP {FALLBACK_NAME} GraphQL operations that were left to graphql-core, by reason.",
        f"# TYPE {FALLBACK_NAME} counter",
        *(f'{FALLBACK_NAME}{{reason="{_escaped(name)}"}} {counts[name]}' for name in reasons),
    ]
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def serve_metrics(app: FastAPI, operations: Operations) -> None:
    """Register the route on *app*."""

    @app.get(
        "/metrics",
        operation_id="metrics",
        tags=["health"],
        response_class=MetricsResponse,
        dependencies=[Depends(demand_operator)],
        responses={200: {"content": {TEXT_FORMAT: {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> MetricsResponse:
        """Return what this process has counted, in Prometheus's text format."""
        return MetricsResponse(metrics_text(operations.counts))
