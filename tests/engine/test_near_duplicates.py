"""Near-duplicates among texts, and across two sets of them."""

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.band_chains import BAND_COUNT, MAX_PER_BAND, BandKeys
from engine.canonical import fold_text
from engine.near_duplicates import (
    MAX_COMPARED,
    NearDuplicate,
    band_keys,
    find_near_duplicates,
    find_pairs_across,
)

WORDS = [f"word{number}" for number in range(5000)]
FEW_WORDS = st.lists(st.sampled_from("abc"), max_size=6).map(" ".join)


def find(texts: list[str], threshold: float = 0.8) -> list[NearDuplicate]:
    return list(find_near_duplicates(band_keys(texts), texts.__getitem__, threshold=threshold))


def find_across(texts: list[str], others: list[str], threshold: float = 0.8) -> list[NearDuplicate]:
    found = find_pairs_across(
        band_keys(texts),
        texts.__getitem__,
        band_keys(others),
        others.__getitem__,
        threshold=threshold,
    )
    return list(found)


def crowd(row_count: int) -> BandKeys:
    """Forge bands that say that every row may be near to every other."""
    return np.zeros((row_count, BAND_COUNT), np.uint64)


def counted(
    read_text: Callable[[int], str],
) -> tuple[Callable[[int], str], Counter[int]]:
    reads: Counter[int] = Counter()

    def read(index: int) -> str:
        reads[index] += 1
        return read_text(index)

    return read, reads


def shingles(text: str) -> set[tuple[str, ...]]:
    words = fold_text(text).split()
    return {tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2))}


def jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def similarity(one: str, other: str) -> float:
    return jaccard(shingles(one), shingles(other))


def write_text(random: Random, word_count: int) -> str:
    return " ".join(random.choices(WORDS, k=word_count))


def edit(text: str, *places: int) -> str:
    """Replace words, each in the middle of three shingles."""
    words = text.split()
    for place in places:
        words[place] = f"edited{place}"
    return " ".join(words)


def write_edited_texts(seed: int) -> list[str]:
    """Write 400 texts, and 400 edits of these and of edits, in an order of their own."""
    random = Random(seed)
    texts = [write_text(random, random.randint(40, 100)) for _ in range(400)]
    for _ in range(400):
        text = random.choice(texts)
        last = len(text.split()) - 1
        texts.append(edit(text, *(random.randint(0, last) for _ in range(random.randint(1, 3)))))
    random.shuffle(texts)
    return texts


def brute_force(texts: list[str], threshold: float) -> Iterator[NearDuplicate]:
    sets = [shingles(text) for text in texts]
    kept: list[int] = []
    for row, own in enumerate(sets):
        scores = [jaccard(own, sets[other]) for other in kept]
        best = max(scores, default=0)
        if best >= threshold:
            yield NearDuplicate(row, kept[scores.index(best)], best)
        else:
            kept.append(row)


def test_band_keys_are_these_for_ever() -> None:
    keys = band_keys(["the quick brown fox jumps over the lazy dog", "Grüße, 世界", ""])
    assert [[hex(key) for key in (row[0], row[15], row.sum())] for row in keys] == [
        ["0x2be8f60e18f3703d", "0x5d72cb2ef1384433", "0xa7d4f2bde44bd3e8"],
        ["0x493e4cc1f2248cc", "0x5eff96ad232c9d0", "0xe1fd9e4859e9479e"],
        ["0x4c9697ac55b5e437", "0x37bf40eda7cae1c1", "0x542328d367348085"],
    ]


def test_keys_are_a_fixed_size_whatever_the_text() -> None:
    assert band_keys([]).shape == (0, BAND_COUNT)
    keys = band_keys(["", write_text(Random(1), 10_000)])
    assert keys.shape == (2, BAND_COUNT)
    assert keys.dtype == np.uint64


def test_a_text_has_the_same_keys_in_any_batch() -> None:
    random = Random(2)
    texts = [write_text(random, 12) for _ in range(2500)]
    together = band_keys(texts)
    apart = np.concatenate(
        [band_keys(texts[:7]), band_keys(texts[7:1999]), band_keys(texts[1999:])]
    )
    assert (together == apart).all()


def test_few_long_texts_are_sketched_at_once() -> None:
    words = [str(number) for number in range(200_000)]
    texts = [" ".join(words[start:]) for start in range(12)]
    tracemalloc.start()
    keys = band_keys(texts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(keys, np.concatenate([band_keys([text]) for text in texts]))
    assert peak < 100_000_000


def test_an_unpaired_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        band_keys(["fine", "not \ud800 fine"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("", "  \n"),
        ("Word", " word\t"),
        ("two words", "TWO  words"),
        ("Die STRASSE ist sehr lang", "die straße ist sehr lang"),
        ("un cafe\u0301 noir s'il vous plaît", "un café noir s'il vous plaît"),
        ("ｆｕｌｌ width letters here", "full width letters here"),  # noqa: RUF001
        ("你好世界", "你好世界"),
        ("🙂 🙃 🙂 🙃 🙂", "🙂 🙃 🙂 🙃 🙂 🙃"),  # the same two shingles
    ],
)
def test_texts_that_a_reader_takes_for_equal_have_similarity_1(one: str, other: str) -> None:
    assert find([one, "something else", other], threshold=1) == [NearDuplicate(2, 0, 1.0)]


def test_short_texts_are_near_to_their_equals_alone() -> None:
    texts = ["", "a", "a b", "a b c", "b a", "c", "c b a"]
    assert find(texts, threshold=0.01) == []
    assert find_across(texts, texts, threshold=0.01) == [
        NearDuplicate(index, index, 1.0) for index in range(len(texts))
    ]


@given(st.lists(FEW_WORDS, max_size=30))
def test_rows_with_equal_shingles_are_always_found(texts: list[str]) -> None:
    assert find(texts, threshold=1) == list(brute_force(texts, 1))


@given(st.lists(FEW_WORDS, max_size=30), st.sampled_from([0.2, 0.5, 0.8]))
def test_what_is_found_is_near_to_an_earlier_row_that_is_kept(
    texts: list[str], threshold: float
) -> None:
    found = find(texts, threshold)
    dropped = [duplicate.index for duplicate in found]
    assert dropped == sorted(set(dropped))
    for duplicate in found:
        assert duplicate.of_index < duplicate.index
        assert duplicate.of_index not in dropped
        assert duplicate.similarity == similarity(texts[duplicate.index], texts[duplicate.of_index])
        assert duplicate.similarity >= threshold


@pytest.mark.parametrize("seed", range(3))
def test_98_of_100_near_duplicates_are_found_and_nothing_else(seed: int) -> None:
    texts = write_edited_texts(seed)
    expected = set(brute_force(texts, 0.8))
    assert len(expected) > 150
    found = set(find(texts))
    assert len(found & expected) >= 0.98 * len(expected)
    assert all(
        duplicate.similarity == similarity(texts[duplicate.index], texts[duplicate.of_index])
        for duplicate in found
    )


def test_the_chance_to_be_compared_at_similarity_0_8_is_as_told() -> None:
    pairs = 2000
    shared = [" ".join(f"{pair}w{word}" for word in range(82)) for pair in range(pairs)]
    texts, others = (
        [
            " ".join([text, *(f"{pair}{letter}" for letter in letters)])
            for pair, text in enumerate(shared)
        ]
        for letters in ("abcdefghij", "klmnopqrst")
    )
    assert similarity(texts[0], others[0]) == pytest.approx(0.8)
    met = (band_keys(texts) == band_keys(others)).any(axis=1)
    assert met.mean() == pytest.approx(0.992, abs=0.006)


def test_finding_again_finds_the_same() -> None:
    texts = write_edited_texts(seed=9)
    assert find(texts) == find(texts)


def test_a_row_that_is_near_to_a_dropped_row_alone_is_kept() -> None:
    first = write_text(Random(3), 60)
    second = edit(first, 10)
    third = edit(second, 30, 50)
    assert similarity(first, second) > 0.8
    assert similarity(second, third) > 0.8
    assert similarity(first, third) < 0.8
    assert [duplicate.index for duplicate in find([first, second, third])] == [1]


def test_a_row_names_the_most_similar_kept_row() -> None:
    text = write_text(Random(4), 100)
    far, near, middle = edit(text, 20, 40, 60), edit(text, 80), edit(text, 20, 50)
    found = find([far, near, middle, text], threshold=0.9)
    assert found == [NearDuplicate(3, 1, 95 / 101)]


def test_of_equally_similar_rows_the_first_is_named() -> None:
    text = write_text(Random(5), 100)
    found = find([edit(text, 20), edit(text, 50), edit(text, 80), text], threshold=0.92)
    assert found == [NearDuplicate(3, 0, 95 / 101)]


@given(st.permutations(range(20)))
def test_in_any_order_the_first_row_of_each_kind_is_kept(order: list[int]) -> None:
    texts = [edit(write_text(Random(row % 4), 200), row + 5) for row in order]
    firsts = {row % 4: place for place, row in reversed(list(enumerate(order)))}
    found = {duplicate.index: duplicate.of_index for duplicate in find(texts)}
    assert found == {
        place: firsts[row % 4] for place, row in enumerate(order) if place != firsts[row % 4]
    }


def test_rows_that_are_all_alike_are_read_once_each_and_compared_with_the_first() -> None:
    rows = 20_000
    text = "all of these rows say the very same thing"
    read, reads = counted(lambda _: text)
    bands = np.tile(band_keys([text]), (rows, 1))
    found = list(find_near_duplicates(bands, read, threshold=0.8))
    assert found == [NearDuplicate(row, 0, 1.0) for row in range(1, rows)]
    assert set(reads.values()) == {1}


def test_a_crowd_in_which_nobody_is_near_is_passed_through_in_linear_time() -> None:
    # Compared each with each, so many rows would take far longer than a test may.
    rows = 20_000
    read, reads = counted(lambda row: f"row number {row} is like no other")
    assert not list(find_near_duplicates(crowd(rows), read, threshold=0.8))
    assert set(reads.values()) == {1}


def test_in_a_crowd_a_row_is_compared_with_the_first_rows_alone() -> None:
    limit = min(MAX_PER_BAND, MAX_COMPARED)
    texts = [f"row {number} is like no other" for number in range(limit + 1)]
    texts += [texts[limit - 1], texts[limit]]
    found = list(find_near_duplicates(crowd(len(texts)), texts.__getitem__, threshold=0.8))
    assert found == [NearDuplicate(limit + 1, limit - 1, 1.0)]


def test_equal_rows_are_found_behind_a_crowd_that_shares_their_bands() -> None:
    random = Random(6)
    texts = [write_text(random, 12) for _ in range(500)]
    bands = band_keys([*texts, texts[450]])
    bands[:, 1:] = crowd(len(bands))[:, 1:]
    found = list(find_near_duplicates(bands, [*texts, texts[450]].__getitem__, threshold=0.8))
    assert found == [NearDuplicate(500, 450, 1.0)]


def test_rows_that_share_no_band_are_never_read() -> None:
    texts = [write_text(Random(number), 10) for number in range(50)]
    read, reads = counted(texts.__getitem__)
    assert not list(find_near_duplicates(band_keys(texts), read, threshold=0.8))
    assert not reads


def test_texts_too_long_to_remember_together_are_read_again() -> None:
    random = Random(7)
    texts = [write_text(random, 30_000) for _ in range(10)]
    texts += [edit(text, 100) for text in texts] * 2
    read, reads = counted(texts.__getitem__)
    found = list(find_near_duplicates(band_keys(texts), read, threshold=0.8))
    assert [(row.index, row.of_index) for row in found] == [
        (row, row % 10) for row in range(10, 30)
    ]
    assert [reads[row] for row in range(10)] == [2] * 10


def test_bands_may_be_in_a_file(tmp_path: Path) -> None:
    texts = write_edited_texts(seed=10)
    path = tmp_path / "bands.npy"
    np.save(path, band_keys(texts))
    bands = np.load(path, mmap_mode="r")
    assert isinstance(bands, np.memmap)
    found = find_near_duplicates(bands, texts.__getitem__, threshold=0.8)
    assert list(found) == find(texts)


def test_nothing_is_near_in_no_rows() -> None:
    assert find([]) == []
    assert find_across([], ["a"]) == find_across(["a"], []) == find_across([], []) == []


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused_at_once(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be more than 0 and at most 1"):
        find_near_duplicates(crowd(2), str, threshold=threshold)
    with pytest.raises(ValueError, match="threshold must be more than 0 and at most 1"):
        find_pairs_across(crowd(2), str, crowd(2), str, threshold=threshold)


@pytest.mark.parametrize(
    "bands", [np.zeros((3, 15), np.uint64), np.zeros(16, np.uint64), np.zeros((3, 16), np.int64)]
)
def test_bands_of_another_shape_or_type_are_refused_at_once(bands: BandKeys) -> None:
    with pytest.raises(ValueError, match=r"bands must be of shape \(n, 16\) and type uint64"):
        find_near_duplicates(bands, str, threshold=0.8)
    with pytest.raises(ValueError, match=r"bands must be of shape \(n, 16\) and type uint64"):
        find_pairs_across(crowd(2), str, bands, str, threshold=0.8)


def test_each_row_near_to_the_other_set_names_its_most_similar_row_there() -> None:
    text, unlike = write_text(Random(11), 100), write_text(Random(12), 100)
    others = [edit(text, 20, 40), edit(text, 60), unlike, edit(text, 80)]
    assert find_across([unlike, "nothing like it", text, text], others) == [
        NearDuplicate(0, 2, 1.0),
        NearDuplicate(2, 1, 95 / 101),
        NearDuplicate(3, 1, 95 / 101),
    ]


@given(st.lists(FEW_WORDS, max_size=20), st.lists(FEW_WORDS, max_size=20))
def test_rows_of_one_set_are_matched_with_the_other_alone(
    texts: list[str], others: list[str]
) -> None:
    expected = [
        NearDuplicate(index, [set(shingles(other)) for other in others].index(own), 1.0)
        for index, own in enumerate(map(shingles, texts))
        if own in map(shingles, others)
    ]
    assert find_across(texts, others, threshold=1) == expected


def test_98_of_100_rows_near_to_the_other_set_are_found() -> None:
    texts = write_edited_texts(seed=13)
    ours, theirs = texts[:300], texts[300:]
    sets = [shingles(text) for text in theirs]
    best = [max(jaccard(own, other) for other in sets) for own in map(shingles, ours)]
    near = {row for row, score in enumerate(best) if score >= 0.8}
    found = find_across(ours, theirs)
    assert len(near) > 100
    assert {duplicate.index for duplicate in found} <= near
    assert sum(duplicate.similarity == best[duplicate.index] for duplicate in found) >= (
        0.98 * len(near)
    )


def test_a_crowd_in_the_other_set_is_compared_up_to_the_same_bound() -> None:
    limit = min(MAX_PER_BAND, MAX_COMPARED)
    others = [f"row {number} is like no other" for number in range(20_000)]
    texts = [others[limit - 1], others[limit]] * 5000
    found = find_pairs_across(
        crowd(len(texts)), texts.__getitem__, crowd(len(others)), others.__getitem__, threshold=0.8
    )
    assert list(found) == [NearDuplicate(row, limit - 1, 1.0) for row in range(0, 10_000, 2)]
