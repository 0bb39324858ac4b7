"""Names for URLs and for clients' model fields, made of people's names for things."""

import re
import unicodedata

MAX_CHARACTERS = 60
# What reads as a UUID, which is looked up as an id: of its hyphens, any may be missing.
READS_AS_ID = r"(?:-*[0-9a-f]){32}"
NOT_IN_A_SLUG = re.compile(r"[^a-z0-9]+")


def slug_of(name: str, *, default: str) -> str:
    """Return *name* in lower-case letters, digits and hyphens, in front *default* if it is an id.

    Args:
        name: For people.
        default: When nothing is left.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = _cut(NOT_IN_A_SLUG.sub("-", plain))
    return _cut(f"{default}-{slug}") if reads_as_id(slug) else slug or default


def reads_as_id(slug: str) -> bool:
    """Tell whether *slug* would be looked up as an id."""
    return re.fullmatch(READS_AS_ID, slug) is not None


def _cut(slug: str) -> str:
    return slug.strip("-")[:MAX_CHARACTERS].strip("-")
