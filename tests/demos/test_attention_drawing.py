from __future__ import annotations

import pytest
import torch

from dslearn.demos.attention.drawing import heads_as_html, text_as_html
from dslearn.demos.attention.pair import Pair
from dslearn.demos.attention.reading import Readings, read_text
from dslearn.demos.characters import visible, visible_token
from dslearn.demos.inputs import text_of
from tests.demos.malformed import STRANGE
from tests.demos.markup import Markup

PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "␡"}
PICTURES |= dict.fromkeys(range(0x80, 0xA0), "\ufffd")


def by_hand() -> Readings:
    """Six tokens in blocks of two; one head: the last token reads its own block and the first."""
    blocks = torch.full((1, 1, 6, 2), -1)
    blocks[0, 0, 5] = torch.tensor([2, 0])
    mass = torch.zeros(1, 1, 6, 3)
    mass[0, 0, 5] = torch.tensor([0.6, 0.1, 0.3])
    return Readings(["a", "b", "c", "d", "e", " "], False, blocks, mass, 2)


def test_read_blocks_are_marked_missed_ones_underlined_and_the_token_framed() -> None:
    readings = by_hand()
    drawn = Markup(text_as_html(readings, readings.at(5, 0, 0), title="a < b"))
    assert drawn.of_class["mark"][1:] == ["ab", "e␣"]  # the first stands in the legend
    assert drawn.of_class["missed"][1:] == ["cd"]
    assert drawn.of_class["token"][1:] == ["␣"]
    assert drawn.of_class["p"][0] == "a < b"
    assert "hidden" not in drawn.text


def test_a_block_with_little_attention_is_not_called_missed() -> None:
    readings = by_hand()
    readings.mass[0, 0, 5, 1] = 0.009
    drawn = Markup(text_as_html(readings, readings.at(5, 0, 0), title=""))
    assert drawn.of_class["unread"] == ["cd"]


def test_tokens_after_the_reading_one_are_hidden_and_counted() -> None:
    readings = by_hand()
    drawn = Markup(text_as_html(readings, readings.at(2, 0, 0), title=""))
    assert drawn.of_class["text"] == ["abc"]
    assert "3 later hidden" in drawn.text


def test_the_table_has_each_head_and_points_at_the_chosen_one(pair: Pair) -> None:
    readings = read_text(pair, "one two three four five six seven eight nine ten " * 3)
    html = heads_as_html(readings, 20, 1, 0)
    drawn = Markup(html)
    shares = [f"{readings.at(20, layer, head).share:.0%}" for layer in range(2) for head in range(2)]
    assert drawn.of_class["td"][1:] == shares
    assert html.count("aria-current") == 1
    assert html.index("aria-current") > html.index("layer 2")


def test_strips_tell_read_from_missed_by_height() -> None:
    html = heads_as_html(by_hand(), 5, 0, 0)
    assert html.count('class="r" y="0" height="2"') == 2
    assert html.count('class="m" y="1" height="1" x="1" width="1"') == 1
    assert 'viewBox="0 0 3 2"' in html


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_no_text_becomes_markup(text: str, pair: Pair) -> None:
    readings = read_text(pair, text_of(text))
    last = len(readings.pieces) - 1
    drawn = Markup(text_as_html(readings, readings.at(last, 0, 0), title=text[:100]))
    assert drawn.foreign == set()
    assert drawn.of_class["text"] == ["".join(readings.pieces[:-1]).translate(PICTURES) + drawn.of_class["token"][1]]


def test_what_cannot_be_seen_is_shown_by_a_picture() -> None:
    assert visible("a\x00\x1b\x7f\x85\n\té") == "a␀␛␡\ufffd\n\té"
    assert [visible_token(text) for text in (" x", "\n", "\t", "", "<")] == ["␣x", "⏎", "⇥", "◌", "&lt;"]
