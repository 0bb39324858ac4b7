"""The words that traces are found by.

To find the words of four kilobytes takes PostgreSQL a third of a millisecond, ten times as long as
to store them, and a caller waits for what is stored. So what is stored is only noted, and a sweep
(`trace_upkeep.py`) finds the words of what is noted. Until then the newest of a workspace are read
as they are.
"""

import re
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

# PostgreSQL makes one word of an address, a path or a number with its sign, and none of a tag. The
# signs that these are made with are mere ends of words, in texts and in what is looked for; so are
# spaces without width, and the T between a day and its time.
_SIGNS: Final = "/.@<&+~\u200b\u2060\ufeff"
_BEFORE_TIME: Final = r"(?<=[0-9])[Tt](?=[0-9]{2}:)"
ENDS: Final = f"[-{_SIGNS}]+|{_BEFORE_TIME}"
END_OF_WORD: Final = "_"
# Of what is written without spaces, Chinese and Japanese, each letter is a word: their dictionaries
# are nowhere here, and words of several letters are found as phrases. Kana, the unified ideographs
# with their extensions, and half-width kana.
LETTERS: Final = (
    "([\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff])"
)
A_WORD_EACH: Final = rf"{END_OF_WORD}\1{END_OF_WORD}"
# Between input and output, so that no phrase goes from the one into the other; itself not found.
BETWEEN: Final = "endofinput5b0e7a"
# No more of a text fits into an index's entry. The workspace is one of the words: else the entries
# of all workspaces are read for one.
WORDS: Final = (
    "ts_delete(to_tsvector('simple', regexp_replace(regexp_replace("
    f"left(coalesce(input, ''), 50000) || ' {BETWEEN} ' || left(coalesce(output, ''), 50000),"
    f" '{ENDS}', '{END_OF_WORD}', 'g'), '{LETTERS}', '{A_WORD_EACH}', 'g')), '{BETWEEN}')"
    " || array_to_tsvector(ARRAY[trace_text.workspace_id::text])"
)
# It says that a word must not be there where one may begin; elsewhere it is a sign as others are,
# and so are several: a program's options have names with two.
MINUS_IN_A_WORD: Final = re.compile(r"(?<=[^\s!|()&])-|(?<![^\s!|()&])--+")
# Of a workspace, when it is searched: a tenth of a second's work, as long texts go.
READ_AS_THEY_ARE: Final = 200


def sought(search: str) -> str:
    """Return what is looked for, with the same ends of words as texts have.

    Args:
        search: As web search engines take it: every other part is in quotation marks.
    """
    parts = re.sub(r"\s", " ", search).split('"')  # PostgreSQL knows those of ASCII alone
    parts[::2] = (MINUS_IN_A_WORD.sub(END_OF_WORD, part) for part in parts[::2])
    parts[::2] = (re.sub(f"[{_SIGNS}]+|{_BEFORE_TIME}", END_OF_WORD, part) for part in parts[::2])
    parts[1::2] = (re.sub(ENDS, END_OF_WORD, part) for part in parts[1::2])
    return re.sub(LETTERS, A_WORD_EACH, '"'.join(parts))


def holds_words(
    trace_id: Any, words: ColumnElement[str], bounds: Iterable[Any]
) -> ColumnElement[bool]:
    """Return the condition that a trace of the workspace holds words.

    It is an array, for which a planner that errs about how many are found reads those alone all the
    same. Without any word, as of signs alone, nothing is found.

    Args:
        trace_id: The column.
        words: What is looked for, from `sought`.
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
