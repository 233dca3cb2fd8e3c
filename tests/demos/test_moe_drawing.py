from __future__ import annotations

import colorsys
import re

import pytest
import torch

from dslearn.demos.inputs import text_of
from dslearn.demos.moe.drawing import EXPERTS, PAGE_CSS, loads_as_html, networks_as_html, text_as_html
from dslearn.demos.moe.routing import Routed
from tests.demos.malformed import STRANGE
from tests.demos.markup import Markup

INK = {"": (0x29, 0x25, 0x24), ".dark ": (0xF5, 0xF5, 0xF4)}  # Gradio's text on its light and its dark page


def by_hand(text: str = "ab<") -> Routed:
    """Three bytes: experts 3 and 5, then 3 and 0 of which the second was dropped, then 7 and 3, both dropped."""
    experts = torch.tensor([[[3, 5], [3, 0], [7, 3]]]).repeat(1, -(-len(text.encode()) // 3), 1)
    weights = torch.tensor([[[0.75, 0.25], [0.5, 0.0], [0.0, 0.0]]]).repeat(1, -(-len(text.encode()) // 3), 1)
    lengths = torch.tensor([len(character.encode()) for character in text])
    return Routed(text, lengths.cumsum(0) - lengths, False, experts, weights, 1.5, EXPERTS)


def test_characters_have_the_colours_of_their_experts_and_dropped_choices_none() -> None:
    drawn = text_as_html(by_hand(), 0, None, title="a < b")
    spans = re.findall(r'<span class="([^"]*)" title="([^"]*)">(.*?)</span>', drawn)
    assert spans == [
        ("e3 u5", "experts 3 (75%), 5 (25%)", "a"),
        ("e3 dropped", "experts 3 (50%), 0 (dropped)", "b"),
        ("dropped", "experts 7 (dropped), 3 (dropped)", "&lt;"),
    ]
    assert Markup(drawn).of_class["p"][0] == "a < b"


def test_the_spotlight_marks_what_one_expert_took_first_or_second() -> None:
    assert Markup(text_as_html(by_hand(), 0, 3, title="")).of_class["mark"] == ["a", "b"]
    assert Markup(text_as_html(by_hand(), 0, 5, title="")).of_class["mark"] == ["a"]
    assert "mark" not in Markup(text_as_html(by_hand(), 0, 7, title="")).of_class


def test_loads_are_bars_and_numbers_with_the_even_load_marked() -> None:
    drawn = loads_as_html(by_hand(), 0)
    rows = re.findall(r'<tr><th scope="row" class="swatch e\d+">(\d+)</th>(.*?)</tr>', drawn)
    assert [int(number) for number, _ in rows] == list(range(EXPERTS))
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", rows[3][1])
    assert cells == ["2", f"{2 / (3 / 16):.0%}", "a b"]
    widths = [float(re.search(r'class="b" x="0" y="1" width="([\d.]+)"', row)[1]) for _, row in rows]  # pyright: ignore[reportOptionalSubscript]
    assert widths[3] == pytest.approx(2 * widths[5], abs=0.02)
    assert widths[0] == 0


def test_the_networks_stand_side_by_side_and_the_chosen_one_is_current() -> None:
    drawn = networks_as_html({"nothing": by_hand(), "bias": by_hand()}, 0, "bias", 0.91)
    assert drawn.count('aria-current="true"') == 1
    assert drawn.index("aria-current") > drawn.index("nothing")
    assert Markup(drawn).of_class["td"] == ["1.500", "9%", "50.0%"] * 2
    assert "91%" in drawn


@pytest.mark.parametrize("name", STRANGE)
def test_no_text_becomes_markup(name: str) -> None:
    text = text_of(STRANGE[name])[:300]
    for drawn in (text_as_html(by_hand(text), 0, None, title=text), loads_as_html(by_hand(text), 0)):
        assert not Markup(drawn).foreign


@pytest.mark.parametrize("theme", INK)
def test_every_colour_leaves_its_letters_readable(theme: str) -> None:
    found = re.findall(
        rf"^{re.escape(theme)}\.routed \.e(\d+) {{ background: hsl\(([\d.]+) (\d+)% (\d+)%\)", PAGE_CSS, re.M
    )
    assert [int(expert) for expert, *_ in found] == list(range(EXPERTS))
    for expert, hue, saturation, lightness in found:
        rgb = colorsys.hls_to_rgb(float(hue) / 360, float(lightness) / 100, float(saturation) / 100)
        paper, ink = _luminance(*rgb), _luminance(*(part / 255 for part in INK[theme]))
        ratio = (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05)
        assert ratio >= 4.5, f"expert {expert}: {ratio:.2f}"


def _luminance(*rgb: float) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
