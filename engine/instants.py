"""Instants as the published text."""

from datetime import UTC, datetime


def rfc3339(instant: datetime) -> str:
    """Return *instant* in UTC, with milliseconds and Z."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
