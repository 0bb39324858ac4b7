"""The operations that are measured, as a client of the product writes them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import orjson

from bench.graphql.scene import Scene

BOARDS: Final = 50
LATEST_RUNS: Final = 3
RESULTS: Final = 8
TRACES: Final = 100

_CANDIDATE = "id provider modelId displayName timeoutSeconds createdAt"
_RUN = "id status rowCount createdAt finishedAt"

Q1 = f"""query Q1 {{
  leaderboards(first: {BOARDS}) {{
    nodes {{
      id name datasetType datasetUrl evalType modelSelection createdAt updatedAt
    }}
  }}
}}"""

Q2 = f"""query Q2 {{
  leaderboards(first: {BOARDS}) {{
    nodes {{
      id name evalType createdAt
      candidates {{ {_CANDIDATE} }}
      runs(first: {LATEST_RUNS}) {{
        nodes {{
          {_RUN}
          results(first: {RESULTS}) {{
            nodes {{ id position score latencyMs promptTokens costUsd }}
          }}
        }}
      }}
    }}
  }}
}}"""

Q3 = f"""query Q3 {{
  traces(first: {TRACES}) {{
    nodes {{
      id source status provider model score error
      latencyMs promptTokens completionTokens costUsd createdAt
    }}
  }}
}}"""

Q4 = f"""query Q4($id: ID!) {{
  leaderboard(id: $id) {{
    id name evalType createdAt
    candidates {{ {_CANDIDATE} }}
    runs(first: 1) {{
      nodes {{
        {_RUN}
        results(first: {RESULTS}) {{
          nodes {{ id position output score error latencyMs promptTokens costUsd }}
        }}
      }}
    }}
  }}
}}"""

QUERIES: Final[Mapping[str, str]] = MappingProxyType({"Q1": Q1, "Q2": Q2, "Q3": Q3, "Q4": Q4})


def request_body(name: str, scene: Scene) -> bytes:
    """Return the body of the request for a query; every server is sent the same."""
    variables = {"id": str(scene.leaderboard_id)} if name == "Q4" else {}
    return orjson.dumps({"operationName": name, "query": QUERIES[name], "variables": variables})
