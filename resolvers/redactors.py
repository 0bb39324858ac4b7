"""What takes out of traces what a workspace never stores, kept ready for as long as it holds."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NewType, TypeAlias
from uuid import UUID

import orjson
from sqlalchemy import Uuid, bindparam, select

from db.changes import ChangeFeed
from db.models import Workspace
from db.session import Database
from engine.redaction import RedactionRules, Redactor, compile_redactor
from resolvers.change_cache import ChangeCache
from resolvers.columns import kept_query
from resolvers.inputs import Redaction
from resolvers.paging import AnySelect

REMEMBERED_REDACTORS = 10_000
# Texts of so many characters take some milliseconds at most; longer ones go to a thread.
SMALL_CHARACTERS = 64 * 1024
# By patterns of a workspace's own, which may look through all of a text for each match.
SMALL_CHARACTERS_BY_PATTERNS = 4 * 1024
NOTHING: Final = compile_redactor(RedactionRules())
TEXTS = ("input", "output", "expected", "error")
VALUES = ("messages", "trace_metadata")
# Those of our own calls are what the workspace called its models.
NAMES_FROM_OUTSIDE = ("provider", "model")
NOTED: Final = "redacted"

StorableTrace = NewType("StorableTrace", Mapping[str, Any])
"""The columns of a trace without what its workspace never stores; `Redactors` alone makes them."""

Trace: TypeAlias = Mapping[str, Any]


class Redactors:
    """Redacts traces by the rules of their workspaces.

    Args:
        database: Where the rules are.
        feed: Tells when they change; while it is not live they are read for each batch.
    """

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self._database = database
        self._redactors: ChangeCache[UUID, Redactor] = ChangeCache(
            feed, max_entries=REMEMBERED_REDACTORS
        )

    async def get(self, workspace_id: UUID) -> Redactor:
        """Return a workspace's redactor; `NOTHING` when it has no rules."""
        redactor = self._redactors.find(workspace_id)
        if redactor is None:
            read_at = self._redactors.now
            rows = await self._database.fetch(kept_query(_write_rules), id=workspace_id)
            redactor = redactor_of(rows[0].redaction if rows else None)
            names = [f"workspace:{workspace_id}"]
            self._redactors.remember(workspace_id, redactor, names=names, read_at=read_at)
        return redactor

    def forget(self, workspace_id: UUID) -> None:
        """Read a workspace's rules anew: they were changed here."""
        self._redactors.forget(workspace_id)

    async def redact_text(self, workspace_id: UUID, text: str | None) -> str | None:
        """Return a text as a workspace may store it."""
        redactor = await self.get(workspace_id)
        if text is None or redactor is NOTHING:
            return text
        return await redact_text(redactor, text)

    async def redact(self, traces: Sequence[Trace]) -> list[StorableTrace]:
        """Return traces as they may be stored, each with a note of what was taken out of it.

        Args:
            traces: Each a mapping of every column of `Trace` and `TraceText`.
        """
        workspace_ids = {trace["workspace_id"] for trace in traces}
        redactors = {each: await self.get(each) for each in workspace_ids}
        if all(redactor is NOTHING for redactor in redactors.values()):
            return [StorableTrace(trace) for trace in traces]
        pairs = [(redactors[trace["workspace_id"]], trace) for trace in traces]
        loads = [
            _load(redactor, count_characters(trace))
            for redactor, trace in pairs
            if redactor is not NOTHING
        ]
        if sum(loads) > 1:
            return await asyncio.to_thread(_redact_all, pairs)
        return _redact_all(pairs)


def redactor_of(stored: Mapping[str, Any] | None) -> Redactor:
    """Return the redactor of a workspace's stored rules."""
    return compile_redactor(Redaction.model_validate(stored or {}).rules)


async def redact_text(redactor: Redactor, text: str, counts: Counter[str] | None = None) -> str:
    """Redact a text, a long one in a thread.

    Args:
        redactor: By whose rules.
        text: Any text.
        counts: What was replaced is added here, by the rule.
    """
    if _load(redactor, len(text)) > 1:
        return await asyncio.to_thread(redactor.redact_text, text, counts)
    return redactor.redact_text(text, counts)


def _load(redactor: Redactor, characters: int) -> float:
    """Return how much of what is done at once, without a thread, so many characters are."""
    small = SMALL_CHARACTERS_BY_PATTERNS if redactor.rules.patterns else SMALL_CHARACTERS
    return characters / small


def _write_rules() -> AnySelect:
    return select(Workspace.redaction).where(Workspace.id == bindparam("id", type_=Uuid()))


def count_characters(trace: Trace) -> int:
    """Return how many characters the texts and values of a trace have."""
    texts = sum(len(trace[name] or "") for name in TEXTS)
    return texts + sum(len(orjson.dumps(trace[name])) for name in VALUES)


def _redact_all(pairs: Sequence[tuple[Redactor, Trace]]) -> list[StorableTrace]:
    return [StorableTrace(_redact(redactor, trace)) for redactor, trace in pairs]


def _redact(redactor: Redactor, trace: Trace) -> Trace:
    if redactor is NOTHING:
        return trace
    counts: Counter[str] = Counter()
    redacted = dict(trace)
    names = (*TEXTS, *NAMES_FROM_OUTSIDE) if trace["source"] == "manual" else TEXTS
    for name in names:
        if trace[name] is not None:
            redacted[name] = redactor.redact_text(trace[name], counts)
    for name in VALUES:
        redacted[name] = redactor.redact_json(trace[name], counts)
    if counts:
        redacted["trace_metadata"] = {**redacted["trace_metadata"], NOTED: dict(counts)}
    return redacted
