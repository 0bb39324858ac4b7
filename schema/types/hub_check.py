"""The HuggingFaceCheck object type, and what it consists of."""

import strawberry
from strawberry.scalars import JSON

from resolvers.hub_check import HubCheck
from schema.fields import resolved


@strawberry.type(description="A row of a file, as runs would read it.")
class HuggingFaceRow:
    """Over `engine.rows.DatasetRow`."""

    external_id: str | None = strawberry.field(description="The id that the file gives it.")
    input: str = strawberry.field(description="What models would be asked.")
    expected: str | None = strawberry.field(description="What they should answer.")
    messages: JSON | None = strawberry.field(description="The conversation the input is from.")
    rubric: str | None = strawberry.field(description="What a judge should look at.")
    metadata: JSON = strawberry.field(description="What the file says of it besides.")
    tags: list[str] = strawberry.field(description="Its tags.")


@strawberry.type(description="A field that rows have, and what they call it.")
class HuggingFaceMappedField:
    """Over an item of `resolvers.hub_check.HubCheck.mapped_fields`."""

    field: str = strawberry.field(description="Our name.")
    name: str = strawberry.field(description="Theirs.")


@strawberry.type(description="Something that keeps runs from reading a file.")
class HuggingFaceProblem:
    """Over `resolvers.hub_check.HubProblem`."""

    code: str = strawberry.field(description="For programs; the codes of REST, and stable.")
    message: str = strawberry.field(description="For people.")
    line: int | None = strawberry.field(description="The line that it is about, from 1.")


def mapped_fields(root: strawberry.Parent[HubCheck]) -> list[HuggingFaceMappedField]:
    """Return our fields that rows have, and what they call them."""
    return [
        HuggingFaceMappedField(field=field, name=name) for field, name in root.mapped_fields.items()
    ]


@strawberry.type(description="What was found at a Hugging Face URL.")
class HuggingFaceCheck:
    """Over `resolvers.hub_check.HubCheck`."""

    valid: bool = strawberry.field(description="Nothing is wrong with what was read.")
    url: str = strawberry.field(description="As it was given.")
    format: str | None = strawberry.field(
        description="jsonl, or null until a line was a JSON object."
    )
    compressed: bool = strawberry.field(description="Whether it is a .gz file.")
    fields: list[str] = strawberry.field(
        description="The names that rows have, in order of first appearance; 100 at most."
    )
    mapped_fields: list[HuggingFaceMappedField] = resolved(
        mapped_fields, "Our fields that rows have, and by which of their names."
    )
    sample_rows: list[HuggingFaceRow] = strawberry.field(
        description="The first rows: 5 at most, none over 128 KiB."
    )
    checked_row_count: int = strawberry.field(
        description="Rows that can be used, of those that were read."
    )
    checked_whole_file: bool = strawberry.field(description="Whether that was all of the file.")
    size_bytes: float | None = strawberry.field(
        description="Of the file as it is stored, compressed or not; null if the hub doesn't tell."
    )
    revision: str | None = strawberry.field(
        description="The commit that was read, if the hub tells it."
    )
    needs_credential: bool = strawberry.field(
        description="The hub wants a credential, or another than the workspace has saved."
    )
    problems: list[HuggingFaceProblem] = strawberry.field(description="What is wrong; 5 at most.")
