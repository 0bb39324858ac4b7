"""Writes an operation as Python functions; README.md shows what comes out."""

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from graphql import (
    FragmentDefinitionNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    OperationDefinitionNode,
    OperationType,
    Undefined,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
)
from graphql.execution.collect_fields import (
    FieldDetailsList,
    FragmentDetails,
    GroupedFieldSet,
    collect_fields,
    collect_subfields,
)
from graphql.execution.values import VariableValues
from strawberry.execution import optimized_is_awaitable

from compiled_graphql import values
from compiled_graphql.fields import Field
from compiled_graphql.leaves import fast_paths, serialize_leaf
from compiled_graphql.selection import names_below
from compiled_graphql.source import Lines, Module, is_attribute, string_constant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strawberry import Schema

# A field is ten lines and four kilobytes. An abstract type below another multiplies them.
MAX_FIELDS = 1_000


class UnsupportedError(Exception):
    """The operation uses what is left to graphql-core; the text names it."""


class Compiler:
    """Writes the functions of one operation.

    In what it writes, `src` is an object's source, `data` the object's answer, `at` its
    place, `run` the execution, and `v` a value. A function that completes a value takes
    (value, its place, execution), and raises for a value that can't stand there.
    """

    def __init__(
        self,
        schema: "Schema",
        operation: OperationDefinitionNode,
        fragments: "Mapping[str, FragmentDefinitionNode]",
        variables: VariableValues,
        *,
        native: bool,
        record_class: type | None,
    ) -> None:
        self._strawberry_schema = schema
        self._schema = schema._schema  # noqa: SLF001 - Strawberry has no public name for it
        self._operation = operation
        self._variables = variables
        self._native = native
        self._record_class = record_class
        self._details = {name: FragmentDetails(node, None) for name, node in fragments.items()}
        self.module = Module(
            is_awaitable=optimized_is_awaitable,
            Undefined=Undefined,
            **values.HELPERS,
        )
        self._fields = 0
        # Filled in by `build`, once the functions exist.
        self._completers: dict[Field, str] = {}
        self._type_tables: list[tuple[dict[str, Any], dict[str, str]]] = []

    def build(self) -> dict[str, Any]:
        """Make the functions that were written, and return them by name."""
        built = self.module.build()
        for field, name in self._completers.items():
            field.complete = built[name]
        for table, by_type in self._type_tables:
            table.update({type_name: built[name] for type_name, name in by_type.items()})
        return built

    # --- selections ---------------------------------------------------------------------------

    def write_root(self) -> tuple[list[str], list[str]]:
        """Write a function for each root field; return the answer's keys and their names."""
        kind = self._operation.operation
        root_type = self._schema.get_root_type(kind)
        if root_type is None or kind == OperationType.SUBSCRIPTION:
            raise UnsupportedError(f"a {kind.value}")
        grouped = self._collected(
            lambda: collect_fields(
                self._schema, self._details, self._variables, root_type, self._operation
            )
        )
        names = []
        for key, details in grouped.items():
            names.append(self.module.make_name("root"))
            with self.module.function(names[-1], "src, data, run") as lines:
                self._write_field(lines, root_type, key, details, at="None")
        return list(grouped), names

    def _subfields(self, type_: GraphQLObjectType, details: FieldDetailsList) -> GroupedFieldSet:
        return self._collected(
            lambda: collect_subfields(
                self._schema, self._details, self._variables, self._operation, type_, details
            )
        )

    @staticmethod
    def _collected(collect: Callable[[], Any]) -> GroupedFieldSet:
        try:
            grouped, deferred, _ = collect()
        except GraphQLError as error:
            raise UnsupportedError("a condition that has no value") from error
        except RecursionError as error:
            raise UnsupportedError("selections nested too deeply") from error
        if deferred:
            raise UnsupportedError("@defer")
        return cast("GroupedFieldSet", grouped)

    # --- objects -------------------------------------------------------------------------------

    def _object_maker(self, field: Field, type_: GraphQLObjectType) -> str:
        """Write the function (source, its place, execution) that makes an object of *type_*."""
        name = self.module.make_name("object")
        with self.module.function(name, "src, at, run") as lines:
            grouped = self._subfields(type_, field.details)
            blank = self.module.refer("blank", dict.fromkeys(grouped))
            lines.add(f"data = {blank}.copy()")
            known = self._write_record_reads(lines, type_, grouped)
            for key, details in grouped.items():
                self._write_field(lines, type_, key, details, at="at", known=known.get(key))
            lines.add("return data")
        return name

    def _write_record_reads(
        self, lines: Lines, type_: GraphQLObjectType, grouped: GroupedFieldSet
    ) -> dict[str, str]:
        """Write lines that read a record's plain leaves at once; return their variables by key."""
        if self._record_class is None:
            return {}
        attributes: dict[str, str] = {}
        for key, details in grouped.items():
            field = self._field(type_, key, details)
            if (
                field is not None
                and field.attribute
                and is_leaf_type(_without_non_null(field.type))
            ):
                attributes[key] = field.attribute
        if not attributes:
            return {}
        known = {key: self.module.make_name("v") for key in attributes}
        get = self.module.refer("get", itemgetter(*attributes.values()))
        record = self.module.refer("record", self._record_class)
        lines.add(f"is_record = src.__class__ is {record}")
        lines.add(f"if is_record: {', '.join(known.values())} = {get}(src)")
        return known

    def _field(
        self, parent: GraphQLObjectType, key: str, details: FieldDetailsList
    ) -> Field | None:
        """Return a field of *parent*; None for `__typename`.

        Raises:
            UnsupportedError: There is no such field.
        """
        name = details[0].node.name.value
        if name == "__typename":
            return None
        definition = self._schema.get_field(parent, name)
        if definition is None:
            raise UnsupportedError(f"{parent.name}.{name}, which does not exist")
        return Field(self._strawberry_schema, parent, key, details, definition)

    def _write_field(
        self,
        lines: Lines,
        parent: GraphQLObjectType,
        key: str,
        details: FieldDetailsList,
        *,
        at: str,
        known: str | None = None,
    ) -> None:
        """Write lines that resolve one field of `src` and put it into `data`.

        Args:
            lines: Where to.
            parent: The type of `src`.
            key: The field's key in `data`.
            details: Its nodes.
            at: The expression of the place of `data`.
            known: The variable that has its value already if `is_record`.
        """
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise UnsupportedError("more fields than are worth compiling")
        entry = f"data[{string_constant(key)}]"
        field = self._field(parent, key, details)
        if field is None:
            lines.add(f"{entry} = {parent.name!r}")
            return
        field.selected = names_below(
            self._schema, get_named_type(field.type), details, self._subfields
        )
        ref = self.module.refer("field", field)
        place = f"({at}, data, {string_constant(key)}, {field.nullable})"
        inner = _without_non_null(field.type)
        self._completers[field] = complete = self._completer(field, field.type)
        if field.batch is not None:
            lines.add(f"run.collect({ref}, src, {place})")
            return
        with lines.block("try"):
            value = self._attribute(field) if field.attribute else self._call(field, ref, at)
            if is_leaf_type(inner):
                self._write_leaf_field(
                    lines, field, inner, value, entry, complete, ref, place, known
                )
            else:
                lines.add(f"v = {value}")
                lines.add(f"if is_awaitable(v): run.start(v, {complete}, {ref}, {place})")
                lines.add(f"else: {entry} = {complete}(v, {place}, run)")
        lines.add(f"except Exception as error: run.failed(error, {ref}, {at}, data)")

    def _write_leaf_field(
        self,
        lines: Lines,
        field: Field,
        type_: GraphQLLeafType,
        value: str,
        entry: str,
        complete: str,
        ref: str,
        place: str,
        known: str | None,
    ) -> None:
        """Write lines for a scalar or an enum: to complete its usual values takes no call at all.

        Args:
            lines: Where to.
            field: The field.
            type_: Its type, without NonNull.
            value: The expression that resolves it.
            entry: Where its value goes.
            complete: The name of its completer, for what is not usual.
            ref: The name of *field*.
            place: The expression of its place.
            known: The variable that has its value already if `is_record`.
        """
        name = known or "v"
        unless = "if not is_record: " if known else ""
        lines.add(f"{unless}{name} = {value}")
        branch = "if"
        for test, emit in self._fast_paths(type_, name):
            lines.add(f"{branch} {test}: {entry} = {emit}")
            branch = "elif"
        if field.nullable:
            lines.add(f"{branch} {name} is None: pass")
            branch = "elif"
        lines.add(
            f"{branch} is_awaitable({name}): run.start({name}, {complete}, {ref}, {place})",
            f"else: {entry} = {complete}({name}, None, run)",
        )

    def _attribute(self, field: Field) -> str:
        name = field.attribute or ""
        if is_attribute(name):
            return f"src.{name}"
        return f"{self.module.refer('getattr', getattr)}(src, {self.module.refer('name', name)})"

    def _call(self, field: Field, ref: str, at: str) -> str:
        """Return the call that resolves *field*: of Strawberry's resolver, or of what wraps it."""
        has_arguments = bool(field.definition.args or field.nodes[0].arguments)
        arguments = [f"**run.arguments({ref})"] if has_arguments else []
        resolver = field.resolver
        if resolver is None:
            resolve = self.module.refer("resolve", field.resolve)
            raw = self.module.refer("raw_info", values.raw_info)
            return f"{resolve}({', '.join(['src', f'{raw}(run, {ref}, {at})', *arguments])})"
        taken = ["src"] if resolver.self_parameter else []
        named: dict[str, str] = {}
        for parameter in (resolver.parent_parameter, resolver.root_parameter):
            if parameter is not None:
                named[_checked(parameter.name)] = "src"
        if resolver.info_parameter is not None:
            named[_checked(resolver.info_parameter.name)] = f"{ref}.info(run, {at})"
        taken += [f"{name}={value}" for name, value in named.items()]
        resolve = self.module.refer("resolve", resolver.wrapped_func)
        return f"{resolve}({', '.join([*taken, *arguments])})"

    # --- completing values ---------------------------------------------------------------------

    def _fast_paths(self, type_: GraphQLLeafType, value: str) -> list[tuple[str, str]]:
        """Return (test, expression) of *type_*'s shortcuts for the variable *value*."""
        written = []
        for fast in fast_paths(type_, native=self._native):
            known = {name: self.module.refer("leaf", each) for name, each in fast.names.items()}
            known["v"] = value
            written.append((fast.test.format(**known), fast.emit.format(**known)))
        return written

    def _completer(self, field: Field, type_: GraphQLOutputType, *, make: str = "") -> str:
        """Write the function that completes a value of *type_*, and return its name.

        Args:
            field: Whose value it is, or is a part of.
            type_: The value's type.
            make: The function that makes the object, when there is one already.
        """
        name = self.module.make_name("complete")
        inner = _without_non_null(type_)
        with self.module.function(name, "v, at, run") as lines:
            ref = self.module.refer("field", field)
            lines.add("if isinstance(v, Exception): raise v")
            if type_ is inner:
                lines.add("if v is None or v is Undefined: return None")
            else:
                lines.add(f"if v is None or v is Undefined: raise no_null({ref})")
            if is_leaf_type(inner):
                self._write_leaf(lines, inner)
            elif isinstance(inner, GraphQLList):
                self._write_list(lines, field, ref, inner.of_type)
            elif is_abstract_type(inner):
                self._write_abstract(lines, field, ref, inner)
            else:
                make = make or self._object_maker(field, inner)
                self._write_object(lines, ref, inner, make)
        return name

    def _write_leaf(self, lines: Lines, type_: GraphQLLeafType) -> None:
        for test, emit in self._fast_paths(type_, "v"):
            lines.add(f"if {test}: return {emit}")
        lines.add(f"return {self.module.refer('serialize', serialize_leaf(type_))}(v)")

    def _write_object(self, lines: Lines, ref: str, type_: GraphQLObjectType, make: str) -> None:
        """Write lines that return the object made of `v`, once it is known to be one."""
        if type_.is_type_of is None:
            lines.add(f"return {make}(v, at, run)")
        else:
            ref_type = self.module.refer("type", type_)
            lines.add(f"return of_checked_type(v, at, run, {ref}, {ref_type}, {make})")

    def _write_abstract(
        self, lines: Lines, field: Field, ref: str, type_: GraphQLAbstractType
    ) -> None:
        """Write lines that complete `v` as whichever object type it turns out to be."""
        by_type = {
            possible.name: self._completer(field, possible)
            for possible in self._schema.get_possible_types(type_)
        }
        table: dict[str, Any] = {}
        self._type_tables.append((table, by_type))
        ref_type = self.module.refer("type", type_)
        ref_table = self.module.refer("by_type", table)
        lines.add(f"return of_resolved_type(v, at, run, {ref}, {ref_type}, {ref_table})")

    def _write_list(self, lines: Lines, field: Field, ref: str, item: GraphQLOutputType) -> None:
        own = self.module.make_name("items")
        lines.add("if v.__class__ is not list:")
        lines.add(f"    if hasattr(v, '__aiter__'): return later_list(v, at, run, {ref}, {own})")
        lines.add(f"    if not is_iterable(v): raise no_list({ref})")
        lines.add(f"return {own}(v, at, run)")
        inner = _without_non_null(item)
        null = inner is item
        place = f"(at, out, len(out), {null})"
        plain = isinstance(inner, GraphQLObjectType) and inner.is_type_of is None
        make = self._object_maker(field, inner) if plain else ""
        complete = self._completer(field, item, make=make)
        special = f"append(special_item(v, {place}, run, {ref}, {complete}))"
        with self.module.function(own, "v, at, run") as body:
            body.add("items = iter(v)", "out = []", "append = out.append")
            if plain:
                # Objects of the same class as the one before are no special values.
                body.add(f"plain = {self.module.refer('record', self._record_class)}")
            with body.block("for v in items"):
                with body.block("try"):
                    if plain:
                        body.add(f"if v.__class__ is plain: append({make}(v, {place}, run))")
                        body.add(f"elif is_special(v): {special}")
                        body.add(f"else: plain = v.__class__; append({make}(v, {place}, run))")
                    elif is_leaf_type(inner):
                        for test, emit in self._fast_paths(inner, "v"):
                            body.add(f"if {test}: append({emit}); continue")
                        body.add(special)
                    else:
                        body.add(special)
                body.add("except Exception as error:")
                failed = f"item_failed(error, run, {ref}, at, out, items, null={null})"
                body.add(f"    append({failed})")
            body.add("return out")


def _without_non_null(type_: GraphQLOutputType) -> Any:
    return type_.of_type if isinstance(type_, GraphQLNonNull) else type_


def _checked(parameter: str) -> str:
    if not is_attribute(parameter):
        raise UnsupportedError(f"a parameter named {parameter!r}")
    return parameter
