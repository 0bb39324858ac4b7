"""Names for URLs and for clients' model fields, made of people's names for things."""

import re
import unicodedata

MAX_CHARACTERS = 60
NOT_IN_A_SLUG = re.compile(r"[^a-z0-9]+")


def slug_of(name: str, *, default: str) -> str:
    """Return *name* in lower-case letters, digits and hyphens; *default* when nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return NOT_IN_A_SLUG.sub("-", plain).strip("-")[:MAX_CHARACTERS].strip("-") or default
