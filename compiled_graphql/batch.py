"""Resolvers that answer for all parents at once, and how they answer graphql-core for each."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import strawberry
from strawberry.dataloader import DataLoader

from compiled_graphql.fields import BATCH, NEEDS

# (the parents, info, the field's arguments) to a value for each parent, or its exception.
BatchResolver = Callable[..., Awaitable[Sequence[Any]]]


class HasLoaders(Protocol):
    """What the context of a schema with batched fields must have.

    Attributes:
        batch_loaders: Empty at the start of each request.
    """

    batch_loaders: dict[Any, DataLoader[Any, Any]]


def metadata(*, needs: Sequence[str] = (), batch: BatchResolver | None = None) -> dict[Any, Any]:
    """Return a Strawberry field's metadata.

    Args:
        needs: The attributes of its source that its resolver reads.
        batch: Its resolver for all parents at once.
    """
    said: dict[Any, Any] = {NEEDS: tuple(needs)} if needs else {}
    return said if batch is None else {**said, BATCH: batch}


def for_each_parent(resolve_all: BatchResolver) -> Callable[..., Awaitable[Any]]:
    """Return a resolver for one parent that gathers its siblings and calls *resolve_all*.

    This is what graphql-core calls; compiled operations call *resolve_all* themselves.

    Args:
        resolve_all: Its first parameter is the parents; one is named `info`.
    """

    async def resolve(root: Any, info: Any, **arguments: Any) -> Any:
        loaders = info.context.batch_loaders
        # The same nodes are the same arguments, and the same selection below the field; the
        # first node alone is not, where a fragment has it that is spread at several places.
        raw = info._raw_info  # noqa: SLF001 - Strawberry's Info leaves the nodes out
        key = (raw.parent_type.name, *map(id, raw.field_nodes))
        loader = loaders.get(key)
        if loader is None:
            load = partial(_load, resolve_all, info, arguments)
            loader = loaders[key] = DataLoader(load, cache=False)
        return await loader.load(root)

    signature = inspect.signature(resolve_all)
    _, *others = signature.parameters.values()
    parent: Any = strawberry.Parent
    root_parameter = inspect.Parameter(
        "root", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=parent[Any]
    )
    parameters = [root_parameter, *others]
    resolve.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=inspect.Signature.empty
    )
    resolve.__annotations__ = {each.name: each.annotation for each in parameters}
    resolve.__module__ = resolve_all.__module__
    resolve.__name__ = getattr(resolve_all, "__name__", "resolve")
    return resolve


async def _load(
    resolve_all: BatchResolver, info: Any, arguments: Mapping[str, Any], parents: list[Any]
) -> list[Any]:
    values = await resolve_all(parents, info, **arguments)
    if len(values) != len(parents):
        raise ValueError(f"{len(parents)} parents of {info.field_name} got {len(values)} values")
    return list(values)
