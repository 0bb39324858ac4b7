"""Inputs about provider keys."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from resolvers.inputs.base import Input


class NewIntegration(Input):
    """A provider key to save."""

    provider: Literal["openrouter", "huggingface"]
    token: Annotated[SecretStr, Field(min_length=1, max_length=1_000)]
