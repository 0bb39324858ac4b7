"""Which side of the split a row is on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.splits import VALIDATION_SHARE, is_validation

TEXT = st.text(st.characters(codec="utf-8"))


def test_the_sides_are_these_for_ever() -> None:
    on_validation = [number for number in range(40) if is_validation(f"What is {number} + 1?")]
    assert on_validation == [2, 6, 8, 11, 16, 22, 24, 34, 35]
    assert not is_validation("")
    assert not is_validation("Grüße, 世界")


def test_a_fifth_of_many_inputs_is_on_the_validation_side() -> None:
    share = sum(is_validation(f"input {number}") for number in range(20_000)) / 20_000
    assert share == pytest.approx(VALIDATION_SHARE, abs=0.01)


@given(TEXT)
def test_white_space_around_an_input_never_changes_its_side(text: str) -> None:
    assert is_validation(f"\n {text}\t") == is_validation(text)


@pytest.mark.parametrize("number", range(20))
def test_what_folding_overlooks_never_changes_a_side(number: int) -> None:
    plain = is_validation(f"straße {number} cafe\u0301")
    assert is_validation(f"  STRASSE\n{number}   CAFÉ ") == plain
    assert is_validation(f"ｓｔｒａßｅ {number} café") == plain


def test_an_unpaired_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        is_validation("\ud800")
