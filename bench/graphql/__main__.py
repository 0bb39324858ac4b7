"""The command: fills a database, starts the servers, measures them and prints the ratios.

    python -m bench.graphql [--rounds 5] [--queries Q1,Q2,Q3,Q4] [--connections 8]
        [--boards 200] [--traces 300000] [--seconds 0.7] [--json FILE]

`product` is the product as it is served: token, isolation, limits and masked
errors are on. `rows` and `limit` are written by hand for these very queries,
`usual` is Strawberry with an ORM and DataLoaders; none of these checks a
credential. A ratio says how many times as long the first takes as the second,
in the same round: only ratios mean something on a machine that does other work.
There the longer requests are interrupted more often than the short ones, and the
ratio of processor time is the one to trust.
"""

import argparse
import asyncio
import os
import platform
import tempfile
import time
from pathlib import Path

import orjson
import uvloop

from app.embedded_postgres import EmbeddedPostgres
from bench.graphql.figures import QueryReport, table
from bench.graphql.hosting import pin
from bench.graphql.measuring import Plan, measure
from bench.graphql.queries import QUERIES
from bench.graphql.seeding import Size, fill
from bench.graphql.servers import all_started, choose_cores

# The data lives as long as the benchmark, and nothing but it may work meanwhile.
POSTGRES = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}


def run(arguments: argparse.Namespace) -> dict[str, QueryReport]:
    """Measure, and return each query's report."""
    size = Size(arguments.boards, arguments.traces)
    plan = Plan(arguments.queries, arguments.rounds, arguments.connections, arguments.seconds)
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        EmbeddedPostgres(Path(folder) / "pg", settings=POSTGRES) as postgres,
    ):
        began = time.perf_counter()
        scene = asyncio.run(fill(postgres.dsn, size))
        print(
            f"{size.boards:,} leaderboards and {size.traces:,} traces "
            f"filled in {time.perf_counter() - began:.0f} s; "
            f"load average {os.getloadavg()[0]:.1f}\n"
        )
        cores = choose_cores()
        with all_started(scene, cores.server) as servers:
            pin(cores.client)
            return uvloop.run(measure(scene, servers, plan))


def write_json(path: Path, arguments: argparse.Namespace, reports: dict[str, QueryReport]) -> None:
    """Write what was measured, and under which conditions."""
    whole = {
        "python": platform.python_version(),
        "boards": arguments.boards,
        "traces": arguments.traces,
        "connections": arguments.connections,
        "seconds": arguments.seconds,
        "queries": {name: report.as_json() for name, report in reports.items()},
    }
    path.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))


def query_names(value: str) -> list[str]:
    """Read the names of queries, separated by commas."""
    names = value.split(",")
    unknown = [name for name in names if name not in QUERIES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is not one of {', '.join(QUERIES)}")
    return names


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=query_names, default=list(QUERIES))
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--boards", type=int, default=200)
    parser.add_argument("--traces", type=int, default=300_000)
    parser.add_argument("--seconds", type=float, default=0.7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    reports = run(arguments)
    for name, report in reports.items():
        print("\n".join(table(name, report, arguments.connections)), end="\n\n")
    if arguments.json is not None:
        write_json(arguments.json, arguments, reports)


if __name__ == "__main__":
    main()
