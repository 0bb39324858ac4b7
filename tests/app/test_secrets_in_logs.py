"""Whatever is sent, and whatever goes wrong, the log holds no credential, prompt or answer."""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets
from sqlalchemy import text
from starlette.responses import JSONResponse, Response

from app.services import Process
from tests.app.test_processes import free_port, until_ready, variables
from tests.app.test_up import GERO, LONGEST_SECONDS, environment
from tests.conftest import JWT_SECRET, SECRET_KEY, await_run, session_token
from tests.factories import Tenant
from tests.model_peer import ModelPeer, model_peer

PROMPT = "PROMPT-4b1f8a"
ANSWER = "ANSWER-77d2c0"
MODEL_KEY = "sk-MODELKEY-915e3d"
QUERY = "QUERYSECRET-0c6a"
CRON_SECRET = "CRONSECRET-d31b"
# What the database of this test refuses to store, with the whole row in its error.
UNSTORABLE = "UNSTORABLE-e2"
REFUSALS = (
    f"ALTER TABLE leaderboard ADD CHECK (system_prompt NOT LIKE '%{UNSTORABLE}%')",
    f"ALTER TABLE run_result ADD CHECK (output NOT LIKE '%{UNSTORABLE}%')",
)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
async def peer() -> AsyncIterator[ModelPeer]:
    async with model_peer(0) as made:
        made.rows = [{"input": f"{PROMPT} {n}", "expected": ANSWER} for n in range(3)]
        made.answer = answer
        yield made


def answer(name: str, question: str) -> Response | str:
    """Answer, or fail and repeat the question."""
    answers: dict[str, Response | str] = {
        "echo": f"{ANSWER} {question}",
        "broken": JSONResponse({"error": f"can't do {question}"}, 500),
        "odd": Response(f'{{"half": "{question}'),
        "unstorable": f"{UNSTORABLE} {ANSWER} {question}",
    }
    return answers[name]


@contextmanager
def running(command: str, *options: str, output: Path, **given: str) -> Iterator[None]:
    """Run a command whose whole output goes to a file."""
    with output.open("a") as file:
        process = subprocess.Popen(
            [GERO, command, *options], cwd=output.parent, env=environment(**given),
            stdout=file, stderr=file,
        )  # fmt: skip
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=LONGEST_SECONDS) == 0
        finally:
            process.kill()
            process.wait()


class Caller:
    """Sends what must not be seen, and makes it go wrong in every way there is."""

    def __init__(self, client: httpx2.AsyncClient, peer: ModelPeer, url: str) -> None:
        self.client = client
        self.peer = peer
        self.url = url
        self.board = ""

    async def make_board(self) -> None:
        body = {
            "name": "b", "system_prompt": f"{PROMPT} {{input}}",
            "dataset_url": self.peer.dataset_url, "evaluation": {"errors": "leave_out"},
        }  # fmt: skip
        made = await self.client.post("/api/leaderboards", json=body)
        assert made.status_code == 201, made.text
        self.board = f"/api/leaderboards/{made.json()['id']}"

    async def add_model(self, name: str) -> str:
        body = {
            "provider": "custom", "endpoint_url": f"{self.peer.endpoint(name)}?key={QUERY}",
            "auth_method": "bearer", "auth_token": MODEL_KEY, "display_name": name,
        }  # fmt: skip
        made = await self.client.post(f"{self.board}/models", json=body)
        assert made.status_code == 201, made.text
        found: str = made.json()["id"]
        return found

    async def infer(self) -> list[int]:
        path = f"{self.board}/inference?secret={QUERY}"
        bodies: list[Any] = [
            {"input": f"{PROMPT} hello"},
            {"messages": [{"role": "user", "content": PROMPT}]},
            {"input": [PROMPT]},
            {"input": PROMPT, "max_tokens": PROMPT},
        ]
        answers = [await self.client.post(path, json=body) for body in bodies]
        answers.append(await self.client.post(path, content=f'{{"input": "{PROMPT}'))
        return [each.status_code for each in answers]

    async def ask_graphql(self) -> None:
        bodies: list[Any] = [
            {"query": f'{{ leaderboards(first: "{PROMPT}") {{ nodes {{ id }} }} }}'},
            {"query": f"{{ {PROMPT} "},
            {
                "query": "query($x: Int!) { leaderboards(first: $x) { nodes { id } } }",
                "variables": {"x": PROMPT},
            },
        ]
        for body in bodies:
            assert "errors" in (await self.client.post("/graphql", json=body)).json()
        headers = [("Authorization", self.client.headers["Authorization"])]
        async with websockets.connect(
            f"{self.url.replace('http', 'ws')}/graphql?token={QUERY}",
            subprotocols=[websockets.Subprotocol("graphql-transport-ws")],
            additional_headers=headers,
        ) as socket:
            init = {"Authorization": self.client.headers["Authorization"]}
            await socket.send(json.dumps({"type": "connection_init", "payload": init}))
            await socket.recv()
            await socket.send(json.dumps({"id": PROMPT, "type": "subscribe", "payload": PROMPT}))
            await socket.wait_closed()

    async def make_an_internal_error(self) -> None:
        body = {"name": "b", "system_prompt": f"{PROMPT} {UNSTORABLE}", "dataset_type": "PUSH"}
        answered = await self.client.post("/api/leaderboards", json=body)
        assert (answered.status_code, answered.json()["code"]) == (500, "internal")

    async def show_wrong_credentials(self) -> None:
        async with httpx2.AsyncClient(base_url=self.url) as stranger:
            for wrong in ({"Authorization": f"Basic {MODEL_KEY}"}, {"X-API-Key": MODEL_KEY}):
                seen = await stranger.get("/api/leaderboards", headers=wrong)
                assert seen.status_code == 401
            for secret, status in ((CRON_SECRET, 200), (MODEL_KEY, 401)):
                headers = {"X-Cron-Secret": secret}
                seen = await stranger.get(f"/metrics?token={QUERY}", headers=headers)
                assert seen.status_code == status


async def wait_for(output: Path, said: str) -> None:
    async with asyncio.timeout(LONGEST_SECONDS):
        while said not in await asyncio.to_thread(output.read_text):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("form", ["text", "json"])
async def test_the_log_tells_nothing_that_is_private(
    database_url: str, sandbox_url: str, process: Process, tenant: Tenant, peer: ModelPeer,
    tmp_path: Path, form: str,
) -> None:  # fmt: skip
    async with process.database.write() as session:
        for refusal in REFUSALS:
            await session.execute(text(refusal))
    given = variables(
        database_url, sandbox_url, GERO_LOG_LEVEL="debug", GERO_LOG_FORMAT=form,
        GERO_CRON_SECRET=CRON_SECRET, GERO_HUGGINGFACE_URL=peer.url,
    )  # fmt: skip
    port, metrics_port, output = free_port(), free_port(), tmp_path / "output"
    url = f"http://127.0.0.1:{port}"
    with (
        running("serve", "--port", str(port), output=output, **given),
        running("worker", "--metrics-port", str(metrics_port), output=output, **given),
    ):
        async with httpx2.AsyncClient(base_url=url, headers=tenant.headers, timeout=30) as client:
            await until_ready(client)
            caller = Caller(client, peer, url)
            await caller.make_board()
            await caller.add_model("echo")
            started = (await client.post(f"{caller.board}/run")).json()
            await await_run(client, caller.board.rpartition("/")[2], started["id"])
            assert await caller.infer() == [200, 200, 400, 400, 400]
            await caller.ask_graphql()
            await caller.make_an_internal_error()
            await caller.show_wrong_credentials()
            for name in ("broken", "odd", "unstorable"):
                await caller.add_model(name)
            await client.post(f"{caller.board}/run")
            session_header = {"Authorization": f"Bearer {session_token(tenant.owner_id)}"}
            await client.get("/api/leaderboards", headers=session_header)
            await wait_for(output, "CheckViolationError (23514, run_result_output_check)")
            counted = await client.get(
                f"http://127.0.0.1:{metrics_port}/metrics", headers={"X-Cron-Secret": CRON_SECRET}
            )
            assert 'gero_jobs_total{kind="run.advance",outcome="succeeded"}' in counted.text
    said = output.read_text()
    assert "CheckViolationError (23514, leaderboard_system_prompt_check)" in said
    secrets = (
        PROMPT, ANSWER, MODEL_KEY, QUERY, CRON_SECRET, tenant.token, JWT_SECRET, SECRET_KEY,
        session_header["Authorization"].removeprefix("Bearer "),
    )  # fmt: skip
    lines = said.splitlines()
    assert [line for line in lines if any(secret in line for secret in secrets)] == []
    if form == "json":
        records = [json.loads(line) for line in lines]
        assert [each for each in records if not TIME.fullmatch(each["time"])] == []
