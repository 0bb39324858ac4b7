"""Slugs made of names."""

from uuid import UUID

import pytest

from engine.slugs import slug_of

ID = "0190f1e0-2c6b-7c3a-9b1e-000000000001"
DIGITS = "0123456789abcdef" * 2
SIXTY = "-".join([DIGITS[:4], *DIGITS[4:]])


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Müller's 2nd board!", "muller-s-2nd-board"),
        ("  --  ", "board"),
        ("日本", "board"),
        ("x" * 59 + " y", "x" * 59),
        (ID, f"board-{ID}"),
        (ID.replace("-", ""), "board-" + ID.replace("-", "")),
        ("-".join(DIGITS), "-".join(DIGITS)[:59]),
        (f"{SIXTY}z", f"board-{SIXTY}"[:60].strip("-")),
        (ID[:-1], ID[:-1]),
    ],
)
def test_a_name_becomes_a_slug_that_is_no_id(name: str, slug: str) -> None:
    made = slug_of(name, default="board")
    assert made == slug
    with pytest.raises(ValueError, match="badly formed"):
        UUID(made)
