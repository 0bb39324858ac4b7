"""Which words of texts are found, whatever stands between them."""

import random
import re

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from app.services import Process
from db.models import Candidate, Leaderboard
from resolvers.trace_upkeep import find_words
from resolvers.trace_words import BETWEEN, ENDS, sought
from tests.conftest import ON_OLDEST_TOO, ask
from tests.factories import store_traces, trace_of

LIST = "query ($filter: TraceFilterInput) { traces(filter: $filter) { nodes { model } } }"
TEXTS = {
    "address": ("see https://shop.example:8080/orders/late?id=7&box=red_1#top", None),
    "path": ("~/home and ./near and /var/log/app-error.log and C:\\dir\\file", None),
    "tag": ("<parcel>lost</parcel> <b class=wide>now</b> R&amp;D", None),
    "number": ("-17.25 +42 on 2026-11-27, of covid-19 v1.2.3", None),
    "time": ("at 2031-12-30T08:15Z with --dry-run and --force=yes", "no\u200bwidth"),
    "letters": (
        "今日は東京の天気です。コーヒーはAPI_v2で" + "長" * 3_000,
        "中文搜索測試 𠮷野家 ｶﾀｶﾅ",
    ),
    "name": ("jane.roe@mail.example AT&T e-mail don't naïve-été 日本-語", None),
    "both": ("where is the", "parcel of mine"),
}
FOUND: list[tuple[set[str], tuple[str, ...]]] = [
    (
        {"address"},
        ("shop", "orders", "late", "box", "red", "top", "8080", "https", "orders/late", "red_1",
         "https://shop.example:8080/orders/late?id=7", '"late?id=7"'),
    ),
    ({"path"}, ("home", "near", "var", "error", "app-error.log", "dir", "~/home", "/var/log")),
    ({"tag"}, ("lost", "class", "wide now", "</parcel> <b", '"<parcel>lost"', "R&amp;D")),
    (
        {"number"},
        ("17", "17.25", "42", "+42", '"-17.25"', '"+42"', "11", "27", "2026-11-27", "covid-19",
         '"covid-19"', "v1.2.3"),
    ),
    (
        {"name"},
        ("jane", "roe", "jane.roe@mail.example", "AT&T", "mail e-mail", "don't", "été",
         "naïve-été", "日本-語", "日本", "本語"),
    ),
    (
        {"time"},
        ("30", "2031-12-30", "2031-12-30T08:15Z", "08", "--dry-run", "--force", '"--dry-run"',
         "with --dry-run", "width", "no width", "no\u200bwidth"),
    ),
    (
        {"letters"},
        ("東京", "天気", "東京の天気", '"東京の天気"', "コーヒー", "api", "v2", "長長", "搜索",
         "𠮷野家", "ｶﾅ", "東京 中文", "搜索 -大阪"),
    ),
    ({"tag", "both"}, ("parcel", "parcel -not-there")),
    ({"both"}, ("parcel -lost", "the parcel", '"is the" "parcel of"')),
    ({"tag"}, ("parcel -mine", 'parcel -"of mine"')),
    ({"number", "address"}, ("covid-19 OR shop.example",)),
    (
        set(),
        ("late.orders", "12.3", '"the parcel"', BETWEEN, "京東", "天気予報", "搜索 -中文", "時間"),
    ),
]  # fmt: skip


@ON_OLDEST_TOO
@pytest.mark.parametrize("words", ["to be found", "found"])
async def test_words_are_found_whatever_stands_between_them(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate,
    words: str,
) -> None:  # fmt: skip
    now = board.created_at
    async with process.database.write() as session:
        await store_traces(
            session,
            [
                trace_of(board, candidate, now, model=name, input=asked, output=answered)
                for name, (asked, answered) in TEXTS.items()
            ],
        )
    if words == "found":
        await find_words(process.system_context())
    for expected, searches in FOUND:
        for search in searches:
            answer = await ask(client, LIST, filter={"search": search})
            found = {node["model"] for node in answer["data"]["traces"]["nodes"]}
            assert found == expected, search


async def test_words_that_are_read_anew_take_the_place_of_those_before(
    client: httpx2.AsyncClient, process: Process, board: Leaderboard, candidate: Candidate
) -> None:
    async with process.database.write() as session:
        trace = trace_of(board, candidate, board.created_at, model="m", input="a/b", output="c")
        await store_traces(session, [trace])
    await find_words(process.system_context())
    async with process.database.write() as session:
        await session.execute(text("UPDATE trace_words SET words = '''a/b'''"))
        await session.execute(
            text("INSERT INTO trace_unsearched SELECT workspace_id, id FROM trace_text")
        )
    assert await find_words(process.system_context()) == 1
    answer = await ask(client, LIST, filter={"search": "b c"})
    assert answer["data"]["traces"]["nodes"] == [{"model": "m"}]


@pytest.mark.parametrize(
    ("search", "wanted"),
    [
        ("late -refund", "late -refund"),
        ("-refund", "-refund"),
        ("e-mail -e-mail", "e_mail -e_mail"),
        ('"-5 e-mail" -x-y', '"_5 e_mail" -x_y'),
        ('late -"a-b"', 'late -"a_b"'),
        ("(-refund) !-refund", "(-refund) !-refund"),
        ("a.b//c <d> @e ~/f", "a_b_c _d> _e _f"),
        ("a -", "a -"),
        ('"open -5', '"open _5'),
        ("--dry-run (--x -y --", "_dry_run (_x -y _"),
        ("2026-11-27T10:00Z at T10", "2026_11_27_10:00Z at T10"),
        ('日本 "本a"', '_日__本_ "_本_a"'),
        ("late\u3000-refund\u00a0OR x", "late -refund OR x"),
    ],
)
def test_a_minus_before_a_word_stays_and_other_signs_end_words(search: str, wanted: str) -> None:
    assert sought(search) == wanted


@given(st.text(alphabet=" ab1-/.@<&+~_\"'!|()", max_size=30))
def test_what_is_looked_for_has_the_words_that_it_had(search: str) -> None:
    split = re.compile(r"[ab1]+")
    assert split.findall(sought(search)) == split.findall(search)
    assert sought(search).count('"') == search.count('"')


async def test_no_text_has_a_word_with_a_sign_in_it(process: Process) -> None:
    chance = random.Random(1)
    alphabet = "aé1 e-/.@<>&+~_:;?=#%\\'\""
    made = ["".join(chance.choices(alphabet, k=20)) for _ in range(5_000)]
    statement = text(
        "SELECT lexeme FROM unnest(CAST(:texts AS text[])) AS told,"
        " unnest(to_tsvector('simple', regexp_replace(told, :signs, '_', 'g')))"
    )
    async with process.database.read() as session:
        lexemes = (await session.scalars(statement, {"texts": made, "signs": ENDS})).all()
    assert len(lexemes) > len(made)
    assert {lexeme for lexeme in lexemes if not lexeme.isalnum()} == set()
