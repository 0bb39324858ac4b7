"""The words that traces are found by.

To find the words of four kilobytes takes PostgreSQL a third of a millisecond, ten times as long as
to store them, and a caller waits for what is stored. So what is stored is only noted, and a sweep
(`trace_upkeep.py`) finds the words of what is noted. Until then the newest of a workspace are read
as they are.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.types import Text

from db.models import TraceText, TraceWords, UnsearchedTrace

# No more of a text fits into an index's entry. The workspace is one of the words: else the entries
# of all workspaces are read for one.
WORDS: Final = (
    "to_tsvector('simple', left(coalesce(input, ''), 50000) || ' ' ||"
    " left(coalesce(output, ''), 50000)) || array_to_tsvector(ARRAY[trace_text.workspace_id::text])"
)
# Of a workspace, when it is searched: a tenth of a second's work, as long texts go.
READ_AS_THEY_ARE: Final = 200


def holds_words(
    trace_id: Any, words: ColumnElement[str], bounds: Iterable[Any]
) -> ColumnElement[bool]:
    """Return the condition that a trace of the workspace holds words.

    It is an array, for which a planner that errs about how many are found reads those alone all the
    same. Without any word, as of signs alone, nothing is found.

    Args:
        trace_id: The column.
        words: What is looked for, as web search engines take it.
        bounds: Each makes a condition of a column of ids: what is searched has to meet it too.
    """
    own = bindparam("workspace_id", type_=TraceText.workspace_id.type)
    wanted = func.websearch_to_tsquery("simple", words)
    within = cast(func.quote_literal(cast(own, Text)), TSQUERY)
    query = wanted.op("&&")(within)
    known = select(TraceWords.id).where(
        *(bound(TraceWords.id) for bound in bounds),
        TraceWords.workspace_id == own,
        TraceWords.words.op("@@")(query),
        func.numnode(wanted) > 0,
    )
    newest = (
        select(UnsearchedTrace.id)
        .where(
            UnsearchedTrace.workspace_id == own, *(bound(UnsearchedTrace.id) for bound in bounds)
        )
        .order_by(UnsearchedTrace.id.desc())
        .limit(READ_AS_THEY_ARE)
        .subquery()
    )
    fresh = select(TraceText.id).where(
        TraceText.id == any_(func.array(select(newest.c.id).scalar_subquery())),
        *(bound(TraceText.id) for bound in bounds),
        literal_column(f"({WORDS})").op("@@")(query),
        func.numnode(wanted) > 0,
    )
    found = union_all(known, fresh).scalar_subquery()
    return trace_id == any_(func.array(found))  # type: ignore[no-any-return]
