"""The schema, and what executes operations on it."""

from collections.abc import Mapping
from copy import copy
from functools import cache
from pathlib import Path

import strawberry
from graphql import GraphQLError
from strawberry.types import ExecutionContext
from typing_extensions import override

from compiled_graphql.cache import PlanCache
from db.records import Row
from resolvers.errors import ErrorCode
from resolvers.persisted_documents import DocumentStore
from schema.allow_list import read_allow_list
from schema.documents import Documents
from schema.limits import OperationLimits
from schema.money import PLAIN_DECIMALS
from schema.mutations.root import Mutation
from schema.operations import Operations, PreparedDocuments
from schema.persisted import PersistedDocuments
from schema.queries import Query
from schema.scalars import INSTANTS
from schema.subscriptions import Subscription

# Compiled operations kept, of some tens of kilobytes each.
KEPT_PLANS = 500


class Schema(strawberry.Schema):
    """All types and fields; `Operations` gives errors their documented form."""

    def __init__(self) -> None:
        super().__init__(
            query=Query,
            mutation=Mutation,
            subscription=Subscription,
            scalar_overrides=PLAIN_DECIMALS | INSTANTS,
        )

    @override
    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Log nothing here: `document_error` knows a bug from an answer."""


_build_schema = cache(Schema)  # in a tenth of a second, and servers of a process have the same


def build_operations(
    limits: OperationLimits,
    *,
    status_of: Mapping[ErrorCode, int],
    store: DocumentStore | None,
    key: bytes,
    allow_list: Path | None = None,
) -> Operations:
    """Build what executes operations.

    Args:
        limits: What an operation may ask for.
        status_of: The HTTP status that REST answers each code with.
        store: Where persisted documents are kept; None keeps them in this process.
        key: Proves that a persisted document was validated.
        allow_list: A manifest of the only documents that are run.

    Raises:
        AllowListError: The manifest can't be used.
    """
    schema = copy(_build_schema())  # its types are shared, its extensions are not
    documents = Documents(schema, limits)
    schema.extensions = (lambda: PreparedDocuments(documents),)
    plans = None
    if limits.compiled:
        plans = PlanCache(schema, max_plans=KEPT_PLANS, native=True, record_class=Row)
    persisted = PersistedDocuments(documents, store, key=key)
    allowed = None if allow_list is None else read_allow_list(allow_list, documents)
    return Operations(schema, documents, persisted, allowed, plans, status_of=status_of)
