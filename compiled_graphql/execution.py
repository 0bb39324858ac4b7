"""One execution of a compiled operation: what is pending, what has failed, what became null."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError, GraphQLResolveInfoHelpers, located_error
from graphql.execution.values import VariableValues
from graphql.pyutils import gather_with_cancel
from strawberry.execution import optimized_is_awaitable

from compiled_graphql.fields import Field
from compiled_graphql.places import (
    NulledPlaces,
    Place,
    is_at_or_below,
    nearest_nullable,
    path_of,
)

if TYPE_CHECKING:
    from compiled_graphql.plan import Plan

Complete = Callable[[Any, "Place | None", "Execution"], Any]


class Execution:
    """The state of one execution; generated code calls its methods.

    Values that are not there yet leave None in their container, at a `Place`;
    a task puts the value there, or the error that it became.
    """

    is_awaitable = staticmethod(optimized_is_awaitable)

    def __init__(
        self,
        plan: "Plan",
        root_value: Any,
        context: Any,
        variables: VariableValues,
        operation_extensions: Mapping[str, Any] | None,
    ) -> None:
        self.plan = plan
        self.root_value = root_value
        self.context = context
        self.variables = variables
        self.operation_extensions = operation_extensions
        self.errors: list[GraphQLError] = []
        self._nulled = NulledPlaces()
        self._loop = asyncio.get_running_loop()
        self._pending: dict[asyncio.Task[None], tuple[Place | None, Any]] = {}
        self._batches: dict[Field, list[tuple[Any, Place]]] = {}
        self._arguments: dict[Field, dict[str, Any]] = {}
        self._drained: asyncio.Future[None] | None = None

    # --- running --------------------------------------------------------------------------

    async def run(self) -> dict[str, Any] | None:
        """Return the answer's data; the errors are in `errors`."""
        data = dict.fromkeys(self.plan.root_keys)
        try:
            for run_field in self.plan.root_fields:
                run_field(self.root_value, data, self)
                if self.plan.is_serial:
                    await self._drain()
                if self._nulled.cover(None):
                    break
            await self._drain()
        except GraphQLError as error:
            self._record(error, None)
            await self._drain()
        except BaseException:
            self._nulled.add(None)
            self._cancel_below(None)
            await asyncio.gather(*self._pending, return_exceptions=True)
            raise
        return None if self._nulled.cover(None) else data

    async def _drain(self) -> None:
        """Wait until nothing is pending."""
        if self._pending or self._batches:
            self._drained = self._loop.create_future()
            await self._drained

    def _end(self, task: "asyncio.Task[None] | None") -> None:
        """Note that *task* has ended; more than once does no harm."""
        ended = self._pending.pop(task, None)  # type: ignore[arg-type]
        if ended is not None and iscoroutine(ended[1]):
            ended[1].close()  # does nothing, unless it was cancelled before it began
        drained = self._drained
        if not self._pending and not self._batches and drained and not drained.done():
            drained.set_result(None)

    def _crash(self, error: BaseException) -> None:
        """End the whole execution with *error*: it is nothing that a field may answer."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(error)

    # --- what generated code calls -------------------------------------------------------------

    def arguments(self, field: Field) -> dict[str, Any]:
        """Return a field's arguments.

        Raises:
            GraphQLError: A value does not fit its argument.
        """
        known = self._arguments.get(field)
        if known is not None:
            return known
        values, shared = field.read_arguments(self.variables)
        if shared:
            self._arguments[field] = values
        return values

    def start(
        self, awaitable: Awaitable[Any], complete: Complete, field: Field, place: Place
    ) -> None:
        """Await a value, complete it and put it in its place, beside everything else."""
        task = self._loop.create_task(self._settle(awaitable, complete, field, place))
        self._pending[task] = (place, awaitable)

    def collect(self, field: Field, source: Any, place: Place) -> None:
        """Resolve a batched field for *source*, together with whoever else comes in this tick."""
        batch = self._batches.get(field)
        if batch is None:
            batch = self._batches[field] = []
            self._loop.call_soon(self._start_batch, field)
        batch.append((source, place))

    def failed(
        self, error: Exception, field: Field, container: Place | None, data: dict[str, Any]
    ) -> None:
        """Answer null for a field of *data* that failed, or fail what *data* is part of.

        Raises:
            GraphQLError: The field can't be null.
        """
        self._fail_at(error, field, (container, data, field.key, field.nullable))

    def item_failed(
        self, error: Exception, field: Field, place: Place | None, items: list[Any], *, null: bool
    ) -> None:
        """Answer null for the next of *items*, or fail the list when *null* is not allowed.

        Raises:
            GraphQLError: It is not.
        """
        self._fail_at(error, field, (place, items, len(items), null))

    def _fail_at(self, error: Exception, field: Field, place: Place) -> None:
        located = located_error(error, field.nodes, path_of(place))
        if not place[3]:
            raise located
        self._record(located, place)

    # --- errors ----------------------------------------------------------------------------

    def _record(self, error: GraphQLError, place: Place | None) -> None:
        """Keep an error whose *place* becomes null, unless that was null already.

        What was begun below it in this very step comes last among what is
        pending, so that looking for it costs as much as there is of it.
        """
        if self._nulled.cover(place):
            return
        self.errors.append(error)
        self._nulled.add(place)
        for task, (below, _) in reversed(self._pending.items()):
            if below is None and place is not None:
                continue  # what a resolver tracks
            if not is_at_or_below(below, place):
                break
            self._cancel(task)

    def _settle_failed(self, error: Exception, field: Field, place: Place) -> None:
        """Keep the error of a value that came later, and null the nearest place that may be."""
        located = located_error(error, field.nodes, path_of(place))
        nulled = nearest_nullable(place)
        if self._nulled.cover(nulled):
            return
        self._record(located, nulled)
        if nulled is not None:
            nulled[1][nulled[2]] = None
        if nulled is not place:
            self._cancel_below(nulled)

    def _cancel_below(self, place: Place | None) -> None:
        for task, (below, awaited) in self._pending.items():
            if is_at_or_below(below, place) or self._is_needless(awaited):
                self._cancel(task)

    def _cancel(self, task: "asyncio.Task[None]") -> None:
        if task is not asyncio.current_task():
            task.cancel()
            # A task that has not begun yet will not come to its own end.
            task.add_done_callback(self._end)

    # --- values that come later ------------------------------------------------------------------

    async def _settle(
        self, awaitable: Awaitable[Any], complete: Complete, field: Field, place: Place
    ) -> None:
        try:
            value = await awaitable
            if not self._nulled or not self._nulled.cover(place):
                place[1][place[2]] = complete(value, place, self)
        except Exception as error:  # noqa: BLE001 - it becomes an error of the answer
            self._settle_failed(error, field, place)
        except BaseException as error:
            if not self._nulled.cover(place):
                self._crash(error)
            raise
        finally:
            self._end(asyncio.current_task())

    def _is_needless(self, awaited: Any) -> bool:
        """Tell whether *awaited* is a batch of which every place is null by now."""
        if not self._nulled or not isinstance(awaited, list):
            return False
        return all(self._nulled.cover(place) for _, place in awaited)

    def _start_batch(self, field: Field) -> None:
        batch = self._batches.pop(field)
        if self._is_needless(batch):
            self._end(None)
            return
        task = self._loop.create_task(self._settle_batch(field, batch))
        self._pending[task] = (None, batch)

    async def _settle_batch(self, field: Field, batch: list[tuple[Any, Place]]) -> None:
        try:
            values = await self._resolve_batch(field, batch)
            complete = field.complete
            for (_, place), value in zip(batch, values, strict=True):
                if self._nulled and self._nulled.cover(place):
                    continue
                try:
                    place[1][place[2]] = complete(value, place, self)
                except Exception as error:  # noqa: BLE001 - it becomes an error of the answer
                    self._settle_failed(error, field, place)
        except BaseException as error:
            if not self._is_needless(batch):
                self._crash(error)
            raise
        finally:
            self._end(asyncio.current_task())

    async def _resolve_batch(
        self, field: Field, batch: Sequence[tuple[Any, Place]]
    ) -> Sequence[Any]:
        """Return a value for each parent; an exception is one parent's, or everybody's."""
        try:
            resolve = field.batch
            if resolve is None:
                raise TypeError(f"{field.name} has no batch resolver")
            sources = [source for source, _ in batch]
            info = field.info(self, batch[0][1][0])
            values: Sequence[Any] = await resolve(sources, info, **self.arguments(field))
            if len(values) != len(sources):
                raise ValueError(f"{len(sources)} parents of {field.name} got {len(values)} values")
        except Exception as error:  # noqa: BLE001 - it becomes an error of the answer
            return [error] * len(batch)
        return values

    @property
    def async_helpers(self) -> GraphQLResolveInfoHelpers:
        """What graphql-core gives to resolvers that await several things."""
        return GraphQLResolveInfoHelpers(gather=_gather, track=self._track)

    def _track(self, values: Sequence[Any]) -> None:
        """Await what nobody else will, so that it does not end unseen."""
        for value in values:
            if self.is_awaitable(value):
                task = self._loop.create_task(_finish(value))
                self._pending[task] = (None, value)
                task.add_done_callback(self._end)


def _gather(values: Sequence[Awaitable[Any]]) -> Awaitable[list[Any]]:
    return gather_with_cancel(*values)


async def _finish(value: Awaitable[Any]) -> None:
    with suppress(Exception):
        await value


def abandon(items: Any) -> None:
    """Close the coroutines that a list still holds when it fails: nobody will await them."""
    with suppress(Exception):  # the list has failed already; how it goes on matters to nobody
        for item in items:
            if iscoroutine(item):
                item.close()
