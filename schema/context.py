"""Carries the request's context through Strawberry."""

from collections.abc import Callable
from typing import Any, TypeAlias

import strawberry
from strawberry.dataloader import DataLoader
from strawberry.fastapi import BaseContext

from resolvers.context import Context
from schema.timing import Timing


class GraphQLContext(BaseContext):
    """What `info.context` is.

    Attributes:
        ctx: The use cases' own context.
        batch_loaders: What `compiled_graphql.batch` gathers parents with.
        timing: Where the time goes is noted, if the caller asks for it.
    """

    def __init__(self, ctx: Context, find_base_url: Callable[[], str]) -> None:
        super().__init__()
        self.ctx = ctx
        self._find_base_url = find_base_url
        self.batch_loaders: dict[Any, DataLoader[Any, Any]] = {}
        self.timing: Timing | None = None

    def forget(self) -> None:
        """Forget what was read: what is read from now on is as it is by then."""
        self.ctx.forget()
        self.batch_loaders = {}

    @property
    def base_url(self) -> str:
        """Where the client reaches this server."""
        return self._find_base_url()


Info: TypeAlias = strawberry.Info[GraphQLContext, None]
