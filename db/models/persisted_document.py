"""Rows that keep GraphQL documents, so that a client can name one by its hash."""

from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, CreatedAt


class PersistedDocument(Base):
    """A document that a client has registered; every workspace shares it.

    Attributes:
        sha256: SHA-256 of the text, in UTF-8.
        proof: Of what it was validated under; another server's may differ.
        last_used_at: To an hour or so.
    """

    __tablename__ = "persisted_document"

    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    text: Mapped[str]
    proof: Mapped[bytes]
    created_at: Mapped[CreatedAt]
    last_used_at: Mapped[CreatedAt]
