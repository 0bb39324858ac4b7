"""Ids of traces that clients report: the same whenever the same is reported."""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def derive_trace_id(kind: bytes, content: bytes, started_at: datetime) -> UUID:
    """Return the version 7 UUID of what is reported.

    Args:
        kind: What *content* is, in at most 16 bytes: alike contents of other kinds are others.
        content: Who it is.
        started_at: When it began, so that ids sort by it.

    Source: RFC 9562, section 5.7: 48 bits of milliseconds, the version, and 74 bits that may be
    anything, here a BLAKE2b digest.
    """
    digest = blake2b(content, digest_size=10, person=kind).digest()
    milliseconds = (started_at - _EPOCH) // timedelta(milliseconds=1)
    number = int.from_bytes(milliseconds.to_bytes(6, "big") + digest, "big")
    number = number & ~(0xF << 76) | 7 << 76  # the version
    return UUID(int=number & ~(0b11 << 62) | 0b10 << 62)  # the variant
