"""GraphQL documents that clients name by their hash: finding, keeping and forgetting them."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import LargeBinary, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from db.models import PersistedDocument
from db.records import Row
from db.session import Database
from resolvers.auth import signed_in
from resolvers.columns import kept_query
from resolvers.context import Context
from resolvers.paging import AnySelect

# At 16,000 characters each, that is 80 MB at most.
MAX_DOCUMENTS = 5_000
# How exactly it is known when a document was used last.
USE_NOTED_EVERY = timedelta(hours=1)

COLUMNS = (PersistedDocument.sha256, PersistedDocument.text, PersistedDocument.proof)


def _write_find() -> AnySelect:
    asked = PersistedDocument.sha256 == bindparam("sha256", type_=LargeBinary())
    return select(*COLUMNS).where(asked)


def _write_recent(limit: int) -> AnySelect:
    return select(*COLUMNS).order_by(PersistedDocument.last_used_at.desc()).limit(limit)


class DocumentStore:
    """Reads the documents that are kept; whoever knows a hash may use its document."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, sha256: bytes) -> Row | None:
        """Return the document with that hash, if one is kept."""
        rows = await self._database.fetch(kept_query(_write_find), sha256=sha256)
        return rows[0] if rows else None

    async def list_recent(self, limit: int) -> Sequence[Row]:
        """Return the documents that were used last, at most *limit*."""
        return await self._database.fetch(kept_query(_write_recent, limit))

    async def note_use(self, sha256: bytes, proof: bytes) -> None:
        """Note that a document is in use, and what it was validated under."""
        async with self._database.write() as session:
            await session.execute(
                update(PersistedDocument)
                .where(
                    PersistedDocument.sha256 == sha256,
                    (PersistedDocument.last_used_at < func.now() - USE_NOTED_EVERY)
                    | (PersistedDocument.proof != proof),
                )
                .values(last_used_at=func.clock_timestamp(), proof=proof)
            )


@signed_in
async def register_document(ctx: Context, *, sha256: bytes, text: str, proof: bytes) -> None:
    """Keep a valid document; those that were not used for longest make room.

    Raises:
        UnauthenticatedError: Nobody is signed in.
    """
    kept = {"text": text, "proof": proof, "last_used_at": func.clock_timestamp()}
    async with ctx.database.write() as session:
        await session.execute(
            insert(PersistedDocument)
            .values(sha256=sha256, **kept)
            .on_conflict_do_update(index_elements=["sha256"], set_=kept)
        )
    async with ctx.database.write() as session:
        total = select(func.count()).select_from(PersistedDocument).scalar_subquery()
        # Rows that somebody else deletes or uses just now are passed over: no deadlock.
        longest_unused = (
            select(PersistedDocument.sha256)
            .order_by(PersistedDocument.last_used_at)
            .limit(func.greatest(total - MAX_DOCUMENTS, 0))
            .with_for_update(skip_locked=True)
        )
        await session.execute(
            delete(PersistedDocument).where(PersistedDocument.sha256.in_(longest_unused))
        )
