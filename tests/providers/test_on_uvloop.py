"""The same claims of the HTTP client on uvloop, which is what the product runs on."""

import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from tests.providers import (
    test_chat_stream,
    test_http,
    test_inflating,
    test_wire,
    test_wire_dial,
    test_wire_pool,
)

MODULES = (test_chat_stream, test_http, test_inflating, test_wire, test_wire_dial, test_wire_pool)
Claim = Callable[[], Coroutine[Any, Any, None]]
CLAIMS: dict[str, Claim] = {
    f"{module.__name__.removeprefix('tests.providers.test_')}: {name}": claim
    for module in MODULES
    for name, claim in vars(module).items()
    if name.startswith("test_")
    and inspect.iscoroutinefunction(claim)
    and not inspect.signature(claim).parameters
}


@pytest.mark.parametrize("name", CLAIMS)
def test_it_holds_on_uvloop(name: str) -> None:
    with ThreadPoolExecutor(1) as aside:  # the tests' own loop is this thread's
        aside.submit(uvloop.run, CLAIMS[name]()).result()
