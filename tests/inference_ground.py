"""Production under fire: servers to be killed, callers, and the books afterwards."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import orjson

from app.services import Process
from app.settings import Settings
from db.models import Leaderboard
from tests.app.test_processes import free_port
from tests.app.test_up import environment
from tests.conftest import SECRET_KEY
from tests.factories import Tenant, make_candidate, make_leaderboard, make_ranked_run, make_token
from tests.faulty_model import MAX_TOKENS, FaultyModel

# The code that is here, whichever one `gero` is installed from.
GERO = (sys.executable, "-c", "from app.cli import main; main(prog_name='gero')")
LONGEST_START_SECONDS = 60
TOKEN = "budgeted"
PRICES = {
    "input_price_per_million_usd": Decimal("0.5"),
    "output_price_per_million_usd": Decimal(2),
}
TIMEOUT_SECONDS = 1.0
# Of callers, those who don't wait for their answer, and how long they do.
IMPATIENT_SHARE, IMPATIENT_SECONDS = 0.05, 0.1
# Before a caller whose server did not answer asks again.
UNREACHED_SECONDS = 0.2


@contextmanager
def api_process(settings: Settings, port: int, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    variables = environment(
        GERO_DATABASE_URL=settings.database_url,
        GERO_SECRET_KEY=SECRET_KEY,
        GERO_OBJECT_STORE_URL=settings.object_store,
        GERO_ALLOW_PRIVATE_ENDPOINTS="true",
        GERO_IDEMPOTENCY_CLAIM_SECONDS=str(settings.idempotency_claim_seconds),
        GERO_LOG_LEVEL="error",
        **more,
    )
    process = subprocess.Popen([*GERO, "serve", "--port", str(port)], env=variables)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def serving_api(
    settings: Settings, port: int | None = None, **more: str
) -> AsyncIterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Start a `gero serve` to be killed, and yield its address once it answers.

    *more* are variables of its environment.
    """
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    with api_process(settings, port, **more) as process:
        async with asyncio.timeout(LONGEST_START_SECONDS), aiohttp.ClientSession() as session:
            while not await _is_up(session, url):
                await asyncio.sleep(0.02)
        yield url, process


async def _is_up(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/healthz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def make_production(
    process: Process,
    tenant: Tenant,
    model: FaultyModel,
    *,
    limit_usd: str,
    prices: Mapping[str, Decimal] = PRICES,
) -> tuple[Leaderboard, str]:
    """Make a leaderboard that *model* serves, and a token with a budget to call it."""
    board = await make_leaderboard(process, tenant.workspace_id, system_prompt="{input}")
    candidate = await make_candidate(
        process, board, endpoint_url=model.url, timeout_seconds=TIMEOUT_SECONDS,
        params={"max_tokens": MAX_TOKENS}, **prices,
    )  # fmt: skip
    await make_ranked_run(process, board, [candidate])
    token = await make_token(
        process, tenant.workspace_id, name=TOKEN, budget_limit_usd=Decimal(limit_usd)
    )
    return board, token


@dataclass
class Question:
    """What a caller asks, until that is answered if it bears a key.

    Attributes:
        status: Of the last answer; 0 is none.
    """

    text: str
    key: str | None = None
    is_streamed: bool = False
    status: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.key is None else {"Idempotency-Key": self.key}

    def body(self, model: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": self.text}]
        stream = {"stream": True} if self.is_streamed else {}
        return {"model": model, "messages": messages, **stream}


@dataclass
class Story:
    """What was asked, and what callers saw of it.

    Attributes:
        acknowledged: The trace that an answer named, by what was asked.
        failed: The traces that failures of the model named, by what was asked.
        unanswered: With keys: to be asked again.
        statuses: How many answers of each status there were; 0 is none.
    """

    acknowledged: dict[str, UUID] = field(default_factory=dict)
    failed: list[tuple[str, UUID]] = field(default_factory=list)
    with_keys: set[str] = field(default_factory=set)
    unanswered: list[Question] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)

    def acknowledge(self, question: Question, trace_id: UUID) -> None:
        if self.acknowledged.setdefault(question.text, trace_id) != trace_id:
            self.differing.append(question.text)


class Callers:
    """Ask production, each with one question under way.

    Args:
        urls: The servers.
        board: Whose production is asked.
        token: Theirs.
        story: Where they note what they see.
        rng: Decides what they ask.
        patience_seconds: After which they hang up; half of them are far less patient.
    """

    def __init__(
        self, urls: Sequence[str], board: Leaderboard, token: str, story: Story,
        rng: random.Random, *, patience_seconds: float = 30.0,
    ) -> None:  # fmt: skip
        self.story = story
        self._urls = urls
        self._model = f"leaderboard/{board.id}"
        self._token = token
        self._rng = rng
        self._patience_seconds = patience_seconds

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": f"Bearer {self._token}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            yield session

    def draw(self) -> Question:
        """Draw a question: with a key, as a stream, or neither."""
        kind = self._rng.choice(["plain", "key", "stream"])
        text = f"question-{uuid4()}"
        if kind != "key":
            return Question(text, is_streamed=kind == "stream")
        self.story.with_keys.add(text)
        return Question(text, key=str(uuid4()))

    async def keep_asking(self, until: asyncio.Event) -> None:
        """Ask one question after another."""
        async with self.session() as session:
            while not until.is_set():
                await self._ask_anything(session)

    async def ask_until(self, status: int) -> None:
        """Ask one question after another until one is answered with that status."""
        async with self.session() as session:
            while (await self._ask_anything(session)).status != status:
                pass

    async def _ask_anything(self, session: aiohttp.ClientSession) -> Question:
        question = self.draw()
        # Now and then the answer is not waited for.
        patience = self._patience_seconds
        if self._rng.random() < IMPATIENT_SHARE:
            patience = self._rng.uniform(0, IMPATIENT_SECONDS)
        is_answered = await self.ask(session, question, patience)
        if not is_answered and question.key is not None:
            self.story.unanswered.append(question)
        return question

    async def settle_unanswered(self) -> None:
        """Ask again what has a key and was not answered, a few times at once, until it is."""
        story = self.story
        async with self.session() as session:
            while story.unanswered:
                again, story.unanswered = story.unanswered[:50], story.unanswered[50:]
                repeats = [question for question in again for _ in range(3)]
                asked = [self.ask(session, each, self._patience_seconds) for each in repeats]
                answered = await asyncio.gather(*asked)
                story.unanswered += [
                    question for place, question in enumerate(again)
                    if not any(answered[place * 3 : place * 3 + 3])
                ]  # fmt: skip

    async def ask(
        self, session: aiohttp.ClientSession, question: Question, patience_seconds: float
    ) -> bool:
        """Ask, and note what comes of it; return whether it was answered."""
        url = f"{self._rng.choice(self._urls)}/v1/chat/completions"
        try:
            async with (
                asyncio.timeout(patience_seconds),
                session.post(
                    url, json=question.body(self._model), headers=question.headers
                ) as answer,
            ):
                content = await answer.read()
        except (aiohttp.ClientError, OSError):
            question.status = 0
            self.story.statuses[0] += 1
            await asyncio.sleep(UNREACHED_SECONDS)
            return False
        question.status = answer.status
        self.story.statuses[answer.status] += 1
        if "Retry-After" in answer.headers:
            await asyncio.sleep(UNREACHED_SECONDS)
        return self._note(question, answer, content)

    def _note(self, question: Question, answer: aiohttp.ClientResponse, content: bytes) -> bool:
        if answer.status == 502:
            details = orjson.loads(content)["error"]["details"]
            self.story.failed.append((question.text, UUID(details["trace_id"])))
            return False
        if answer.status != 200:
            return False
        trace_id = UUID(answer.headers["X-Dr.Gero-Trace-Id"])
        if question.is_streamed and not content.endswith(b"data: [DONE]\n\n"):
            if b'"error"' in content:  # the model broke off, and the call is stored as that
                self.story.failed.append((question.text, trace_id))
            return False
        self.story.acknowledge(question, trace_id)
        return True


@dataclass
class Books:
    """What is stored.

    Attributes:
        traces: What was asked and how that ended, by id.
        charges: Amounts in US dollars, by id.
        used_usd: Of the budget.
        held_usd: Of the budget.
        hold_count: Rows that say what is held.
        counted: Traces as the sums of hours have them.
    """

    traces: dict[UUID, tuple[str, str]]
    charges: dict[UUID, Decimal]
    used_usd: Decimal
    held_usd: Decimal
    hold_count: int
    counted: int

    @property
    def charged_usd(self) -> Decimal:
        return sum(self.charges.values(), Decimal(0))


async def read_books(dsn: str, board: Leaderboard) -> Books:
    """Read what is stored of a leaderboard's inferences, and of the one token that has a budget."""
    connection = await asyncpg.connect(dsn.replace("+asyncpg", ""))
    try:
        traces = await connection.fetch(
            "SELECT id, input, status FROM trace JOIN trace_text USING (id) "
            "WHERE source = 'inference' AND leaderboard_id = $1",
            board.id,
        )
        charges = await connection.fetch(
            "SELECT id, amount_usd FROM charge WHERE leaderboard_id = $1", board.id
        )
        token = await connection.fetchrow(
            "SELECT * FROM api_token WHERE name = $1 AND workspace_id = $2",
            TOKEN,
            board.workspace_id,
        )
        holds = await connection.fetchval("SELECT count(*) FROM budget_hold")
        counted = await connection.fetchval(
            "SELECT coalesce(sum(trace_count), 0)::bigint FROM trace_hour "
            "WHERE source = 'inference' AND leaderboard_id = $1",
            board.id,
        )
    finally:
        await connection.close()
    return Books(
        traces={row["id"]: (row["input"], row["status"]) for row in traces},
        charges={row["id"]: row["amount_usd"] for row in charges},
        used_usd=token["budget_used_usd"],
        held_usd=token["budget_held_usd"],
        hold_count=holds,
        counted=counted,
    )


async def end_holds(dsn: str) -> None:
    """Have the holds of servers that died be as old as the sweep waits for."""
    connection = await asyncpg.connect(dsn.replace("+asyncpg", ""))
    await connection.execute("UPDATE budget_hold SET expires_at = now() - interval '1 second'")
    await connection.close()


@dataclass
class Audit:
    """What is wrong with the books, in the words of who reads them."""

    lost: list[str] = field(default_factory=list)
    uncharged: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return [*self.lost, *self.uncharged, *self.doubled, *self.others]


def audit(story: Story, books: Books) -> Audit:
    """Compare what callers saw with what is stored."""
    found = Audit()
    named = [*story.acknowledged.items(), *story.failed]
    for text, trace_id in named:
        asked, _status = books.traces.get(trace_id, ("", ""))
        if asked != text:
            found.lost.append(f"{text}: its trace {trace_id} is missing")
        if trace_id not in books.charges:
            found.uncharged.append(f"{text}: its charge {trace_id} is missing")
    times = Counter(text for text, status in books.traces.values() if status == "ok")
    asked_once = Counter(text for text, _ in books.traces.values())
    for text, count in asked_once.items():
        # A key's question may fail several times, and is answered once.
        made = times[text] if text in story.with_keys else count
        if made > 1:
            found.doubled.append(f"{text}: stored {made} times")
    found.doubled += [f"{text}: two answers name two traces" for text in story.differing]
    if books.traces.keys() != books.charges.keys():
        odd = len(books.traces.keys() ^ books.charges.keys())
        found.others.append(f"{odd} traces or charges are without the other")
    if books.used_usd != books.charged_usd:
        found.others.append(f"used {books.used_usd} USD, and charged {books.charged_usd} USD")
    if books.counted != len(books.traces):
        found.others.append(f"{books.counted} traces are counted, of {len(books.traces)}")
    if books.held_usd or books.hold_count:
        found.others.append(f"{books.held_usd} USD are held, by {books.hold_count} holds")
    return found
