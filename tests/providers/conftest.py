"""Hypothesis settings for the tests of address rules, and a server that speaks S3."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from hypothesis import settings

from providers.object_store import ObjectStoreOptions, open_object_store
from providers.objects import ObjectError

# No deadline: how long one example takes is the machine's business, not a claim.
settings.register_profile("providers", deadline=None, max_examples=100)
settings.load_profile("providers")

WEED = Path(sys.executable).with_name("weed")
SERVICES = ("master", "volume", "filer", "s3")
S3_START_SECONDS = 60
BUCKET = "gero-tests"
WRITER = {"accessKey": "writer-key-id", "secretKey": "writer-secret"}
READER = {"accessKey": "reader-key-id", "secretKey": "reader-secret"}
IDENTITIES = {
    "identities": [
        {"name": "writer", "credentials": [WRITER], "actions": ["Admin", "Read", "Write", "List"]},
        {"name": "reader", "credentials": [READER], "actions": ["Read", "List"]},
    ]
}


@dataclass(frozen=True)
class S3Server:
    """A running SeaweedFS, with one identity that may do all and one that may read."""

    endpoint_url: str

    def options(
        self, credential: dict[str, str] = WRITER, *, secret: str | None = None
    ) -> ObjectStoreOptions:
        return ObjectStoreOptions(
            endpoint_url=self.endpoint_url,
            region="us-east-1",
            access_key_id=credential["accessKey"],
            secret_access_key=secret or credential["secretKey"],
            allow_http=True,
        )


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def is_ready(s3_url: str, master_url: str) -> bool:
    """Tell whether S3 is served, and whether there is somewhere to store what it is sent."""
    try:
        httpx2.get(f"{s3_url}/status", timeout=1).raise_for_status()
        topology = httpx2.get(f"{master_url}/dir/status", timeout=1).raise_for_status().json()
    except httpx2.HTTPError:
        return False
    return bool(topology["Topology"].get("DataCenters"))


async def make_bucket(server: S3Server) -> None:
    """Put something into the bucket of the tests, which makes it."""
    with tempfile.NamedTemporaryFile() as file:
        store = open_object_store(f"s3://{BUCKET}/made", options=server.options())
        async with asyncio.timeout(S3_START_SECONDS):
            while True:
                try:
                    await store.put_file("here", Path(file.name))
                except ObjectError:  # it is served, and has no volume yet
                    await asyncio.sleep(0.1)
                else:
                    return


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    work_dir = tmp_path_factory.mktemp("seaweedfs")
    (work_dir / "identities.json").write_text(json.dumps(IDENTITIES))
    ports = free_ports(2 * len(SERVICES))
    http = dict(zip(SERVICES, ports[: len(SERVICES)], strict=True))
    grpc = dict(zip(SERVICES, ports[len(SERVICES) :], strict=True))
    # Without peers it elects nobody, which takes it up to seven seconds.
    command = [
        str(WEED), "server", f"-dir={work_dir}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-filer", "-s3", f"-s3.config={work_dir / 'identities.json'}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        "-master.peers=none", "-master.volumeSizeLimitMB=256", "-volume.max=100",
        *(f"-{name}.port={port}" for name, port in http.items()),
        *(f"-{name}.port.grpc={port}" for name, port in grpc.items()),
    ]  # fmt: skip
    server = S3Server(f"http://127.0.0.1:{http['s3']}")
    log_path = work_dir / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, cwd=work_dir, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + S3_START_SECONDS
        while not is_ready(server.endpoint_url, f"http://127.0.0.1:{http['master']}"):
            assert process.poll() is None, log_path.read_text()[-2000:]
            assert time.monotonic() < deadline, log_path.read_text()[-2000:]
            time.sleep(0.05)
        # Reading from a bucket that nobody has put anything into is another failure.
        with ThreadPoolExecutor(1) as aside:  # the tests' loop is this thread's
            aside.submit(asyncio.run, make_bucket(server)).result()
        yield server
    finally:
        # Asked to stop, it waits some twenty seconds for peers that it does not have; killed, it
        # leaves its sockets behind.
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for name in SERVICES:
            for left in (f"{name}-{http[name]}", f"{name}-grpc-{grpc[name]}"):
                Path(f"/tmp/seaweedfs-{left}.sock").unlink(missing_ok=True)
