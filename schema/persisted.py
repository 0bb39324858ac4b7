"""Documents that requests name by their SHA-256: Apollo's automatic persisted queries."""

import asyncio
import hashlib
import hmac
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from graphql import OperationType, StringValueNode, Visitor, visit
from sqlalchemy.exc import SQLAlchemyError

from db.records import Row
from resolvers.errors import InvalidInputError, PersistedQueryNotFoundError
from resolvers.failures import describe
from resolvers.persisted_documents import USE_NOTED_EVERY, DocumentStore, register_document
from resolvers.storable import find_unstorable
from schema.context import GraphQLContext
from schema.documents import (
    KEPT_CHARACTERS,
    KEPT_CHARACTERS_IN_ALL,
    KEPT_DOCUMENTS,
    Document,
    Documents,
)
from schema.timing import Timing

log = logging.getLogger("gero.graphql")

EXTENSION: Final = "persistedQuery"
VERSION: Final = 1
HEX_DIGITS: Final = 64
# A server that starts makes as many ready as it keeps, the last used first, for so long at most.
PRELOAD_SECONDS: Final = 3.0
# Clients look for this message; it must be as it is.
NOT_FOUND: Final = "PersistedQueryNotFound"
UNANSWERED: Final = (
    SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError,
)  # fmt: skip


def read_hash(extensions: Mapping[str, Any]) -> bytes | None:
    """Return the hash that a request names its document by, if it does.

    Raises:
        InvalidInputError: The extension is not in Apollo's form.
    """
    given = extensions.get(EXTENSION)
    if given is None:
        return None
    at = f"extensions.{EXTENSION}"
    if not isinstance(given, dict):
        raise InvalidInputError(f"{at}: must be an object (got {given!r})")
    version, sha256 = given.get("version"), given.get("sha256Hash")
    if version != VERSION or isinstance(version, bool):
        raise InvalidInputError(f"{at}.version: must be {VERSION} (got {version!r})")
    problem = InvalidInputError(
        f"{at}.sha256Hash: must be {HEX_DIGITS} hexadecimal digits (got {sha256!r})"
    )
    if not isinstance(sha256, str) or len(sha256) != HEX_DIGITS:
        raise problem
    try:
        read = bytes.fromhex(sha256)
    except ValueError as error:
        raise problem from error
    if len(read) * 2 != HEX_DIGITS:  # blanks between the digits are passed over
        raise problem
    return read


def check_hash(sha256: bytes, text: str) -> None:
    """Check that a request names the document that it brings.

    Raises:
        InvalidInputError: The hash is another text's.
    """
    if hashlib.sha256(text.encode()).digest() != sha256:
        raise InvalidInputError(
            f"extensions.{EXTENSION}.sha256Hash: is not the SHA-256 of the query"
        )


@dataclass(slots=True)
class _Known:
    """A valid document that this process has met.

    Attributes:
        noted_at: When its use was noted, by the monotonic clock.
    """

    text: str
    noted_at: float = -math.inf


class PersistedDocuments:
    """Finds documents by their hash, and keeps the valid ones that callers bring.

    Args:
        documents: Prepares them.
        store: Where they outlive the process; None keeps them nowhere else.
        key: Proves that a stored document was validated by a server with the same key.
    """

    def __init__(self, documents: Documents, store: DocumentStore | None, *, key: bytes) -> None:
        self._documents = documents
        self._store = store
        self._key = key
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._noting: set[asyncio.Task[None]] = set()

    async def find_text(self, sha256: bytes, text: str, context: GraphQLContext) -> str:
        """Return the text of the document that a request names.

        Args:
            sha256: The hash that it is named by.
            text: As the request has it; "" when it has the hash alone.
            context: The request's.

        Raises:
            PersistedQueryNotFoundError: The hash is unknown, and there is no text.
        """
        if sha256 not in self._known:
            if text:
                await self._register(sha256, text, context)
                return text
            stored = None if self._store is None else await self._store.find(sha256)
            if stored is None or not _is_whole(stored):
                raise PersistedQueryNotFoundError(NOT_FOUND)
            self._prepare(stored, context.timing)
            text = stored.text
        known = self._known.get(sha256)
        if known is None:
            return text
        self._known.move_to_end(sha256)
        if time.monotonic() - known.noted_at >= USE_NOTED_EVERY.total_seconds():
            known.noted_at = time.monotonic()
            # Nobody waits for it, and it is no part of the request.
            noting = asyncio.create_task(self._note_use(sha256), context=Context())
            self._noting.add(noting)
            noting.add_done_callback(self._noting.discard)
        return known.text

    async def preload(self) -> None:
        """Make the most recently used documents ready, so that no request waits for it."""
        if self._store is None:
            return
        until = time.monotonic() + PRELOAD_SECONDS
        try:
            async with asyncio.timeout(PRELOAD_SECONDS):
                recent = await self._store.list_recent(KEPT_DOCUMENTS)
        except UNANSWERED as error:
            log.warning("persisted documents are read as they are asked for: %s", describe(error))
            return
        characters = 0
        for stored in recent:
            characters += len(stored.text)
            if time.monotonic() > until or characters > KEPT_CHARACTERS_IN_ALL:
                break
            if _is_whole(stored):
                self._prepare(stored)
                await asyncio.sleep(0)

    def _prepare(self, stored: Row, timing: Timing | None = None) -> None:
        """Make a stored document ready, and remember it if it is valid."""
        proven = hmac.compare_digest(stored.proof, self._proof(stored.sha256))
        document = self._documents.prepare(stored.text, is_valid=proven, timing=timing)
        if not document.errors:
            self._remember(stored.sha256, _Known(stored.text))

    async def _register(self, sha256: bytes, text: str, context: GraphQLContext) -> None:
        if context.ctx.caller is None or len(text) > KEPT_CHARACTERS or find_unstorable(text):
            return
        document = self._documents.prepare(text, timing=context.timing)
        if document.errors or _may_hold_secrets(document):
            return
        if self._store is not None:
            try:
                await register_document(
                    context.ctx, sha256=sha256, text=text, proof=self._proof(sha256)
                )
            except UNANSWERED as error:
                log.warning("a persisted document could not be stored: %s", describe(error))
                return
        self._remember(sha256, _Known(text, time.monotonic()))

    async def _note_use(self, sha256: bytes) -> None:
        if self._store is None:
            return
        try:
            await self._store.note_use(sha256, self._proof(sha256))
        except UNANSWERED as error:
            log.warning("the use of a persisted document could not be noted: %s", describe(error))

    def _remember(self, sha256: bytes, known: _Known) -> None:
        self._known[sha256] = known
        if len(self._known) > KEPT_DOCUMENTS:
            self._known.popitem(last=False)

    def _proof(self, sha256: bytes) -> bytes:
        """Return what only a server with our key, schema and limits can have stored."""
        return hmac.digest(self._key, self._documents.fingerprint + sha256, "sha256")


def _is_whole(stored: Row) -> bool:
    return bool(hashlib.sha256(stored.text.encode()).digest() == stored.sha256)


class _Strings(Visitor):
    """Tells whether there is a string in what it visits."""

    found = False

    def enter_string_value(self, _node: StringValueNode, *_: Any) -> None:
        self.found = True


def _may_hold_secrets(document: Document) -> bool:
    """Tell whether a mutation is given texts in the document, where variables belong.

    A provider's key may be among them, which must not be stored in the clear.
    """
    changes = any(
        operation.operation == OperationType.MUTATION for operation in document.operations.values()
    )
    if not changes or document.node is None:
        return False
    strings = _Strings()
    visit(document.node, strings)
    return strings.found
