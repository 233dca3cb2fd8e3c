from __future__ import annotations

import math
from typing import Any

import pytest

from dslearn.demos.inputs import InputError, number, one_of, text_of, whole_number
from tests.demos.malformed import EMPTY, NOT_TEXT, NOT_WHOLE, STRANGE


@pytest.mark.parametrize("given", EMPTY.values(), ids=EMPTY)
def test_text_without_anything_to_read_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="The text is empty"):
        text_of(given)


@pytest.mark.parametrize("given", NOT_TEXT, ids=repr)
def test_what_is_no_text_is_named(given: Any) -> None:
    with pytest.raises(InputError, match="The text must be a string, not "):
        text_of(given)


@pytest.mark.parametrize("given", STRANGE.values(), ids=STRANGE)
def test_any_text_becomes_one_that_utf8_can_hold(given: str) -> None:
    text = text_of(given)
    assert text.encode()
    assert "\r" not in text


def test_whole_characters_stay_and_halves_are_replaced() -> None:
    assert text_of("a😀b\r\nc") == "a😀b\nc"
    assert text_of("\ud83d\ude00") == "😀"
    assert text_of("a\ud800b") == "a\ufffdb"


NOT_IN_RANGE = [*NOT_WHOLE, math.nan, math.inf, -math.inf, 10**400, 10**5000, 0, 9]


@pytest.mark.parametrize("given", NOT_IN_RANGE, ids=range(len(NOT_IN_RANGE)))
def test_what_is_no_whole_number_in_the_range_is_named_with_the_range(given: Any) -> None:
    with pytest.raises(InputError, match=r"The layer must be a whole number from 1 to 8, not .{1,70}") as error:
        whole_number(given, "The layer", 1, 8)
    assert len(str(error.value)) < 150


def test_numbers_in_the_range_pass() -> None:
    assert [whole_number(value, "It", 1, 8) for value in (1, 8, 3.0)] == [1, 8, 3]
    assert number(0.5, "It", 0, 2) == 0.5
    with pytest.raises(InputError, match=r"It must be a number from 0 to 2, not 2\.5"):
        number(2.5, "It", 0, 2)


def test_an_unknown_word_is_told_the_known_ones() -> None:
    assert one_of("a", "It", ("a", "b")) == "a"
    with pytest.raises(InputError, match="It must be one of a, b; not 'c'"):
        one_of("c", "It", ("a", "b"))
