"""Inputs about files on a dataset hub."""

from pydantic import Field

from resolvers.inputs.base import Input, Url


class HubFile(Input):
    """A file that rows may be read from."""

    url: Url = Field(description="A Hugging Face URL of a .jsonl or .jsonl.gz file.")
