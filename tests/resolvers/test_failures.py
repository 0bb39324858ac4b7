"""What the log is told of a failure."""

import asyncpg
import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.services import Process
from providers.base import ProviderError, ProviderErrorCode
from resolvers.errors import InvalidInputError
from resolvers.failures import describe

SECRET = "what nobody may read"


class _Body(BaseModel):
    count: int


def invalid_body() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        _Body.model_validate({"count": SECRET})
    return caught.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InvalidInputError(f"input: {SECRET}"), "InvalidInputError (invalid_input)"),
        (
            ProviderError(ProviderErrorCode.SERVER_ERROR, SECRET, status=500, body=SECRET),
            "ProviderError (server_error, HTTP 500)",
        ),
        (ProviderError(ProviderErrorCode.TIMED_OUT, SECRET), "ProviderError (timed_out)"),
        (invalid_body(), "ValidationError"),
        (KeyError(SECRET), "KeyError"),
        (ValueError(SECRET), "ValueError"),
        (asyncpg.exceptions._base.DataError(f"$1: {SECRET}"), "DataError"),  # noqa: SLF001
        (asyncpg.InterfaceError("connection is closed"), "InterfaceError: connection is closed"),
        (TypeError("'int' object is not iterable"), "TypeError: 'int' object is not iterable"),
        (ConnectionRefusedError(111, "refused"), "ConnectionRefusedError: [Errno 111] refused"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_failure_is_named_without_what_it_quotes(error: Exception, said: str) -> None:
    assert describe(error) == said


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT CAST(CAST(:secret AS text) AS integer)", "InvalidTextRepresentationError (22P02)"),
        ("SELECT CAST(:secret AS integer)", "DataError (22000)"),
        (
            "INSERT INTO workspace (id, name) VALUES (gen_random_uuid(), NULL || :secret)",
            "NotNullViolationError (23502, name)",
        ),
        (
            "SELECT * FROM nowhere WHERE x = :secret",
            'UndefinedTableError (42P01, relation "nowhere" does not exist)',
        ),
    ],
)
async def test_a_databases_error_is_told_by_its_code(
    process: Process, statement: str, said: str
) -> None:
    with pytest.raises(DBAPIError) as caught:
        async with process.database.write() as session:
            await session.execute(text(statement), {"secret": SECRET})
    assert describe(caught.value) == said
