"""What is told of a field that breaks a rule: its value too, unless that may be a credential."""

import pytest
from pydantic import ValidationError

from resolvers.inputs.base import Input, invalid_input


class Given(Input):
    """Fields of numbers, which are given words."""

    max_tokens: int = 0
    token_id: int = 0
    tokens_per_minute: int = 0
    token: int = 0
    auth_token: int = 0
    api_key: int = 0
    client_secret: int = 0


def tell(field: str) -> str:
    with pytest.raises(ValidationError) as broken:
        Given.model_validate({field: "many"})
    return str(invalid_input(broken.value.errors()))


@pytest.mark.parametrize("field", ["max_tokens", "maxTokens", "token_id", "tokens_per_minute"])
def test_what_only_counts_or_names_tokens_is_shown(field: str) -> None:
    assert "(got 'many')" in tell(field)


@pytest.mark.parametrize("field", ["token", "auth_token", "authToken", "api_key", "client_secret"])
def test_what_may_be_a_credential_is_not_shown(field: str) -> None:
    assert "many" not in tell(field)
