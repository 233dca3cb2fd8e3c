"""Colours that must be told apart are, also by eyes that lack a kind of cone; and words stand out from their ground."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import dslearn.widgets
from dslearn.plots import figure, sparsity

# Machado, Oliveira & Fernandes 2009 (doi:10.1109/TVCG.2009.113), table 1, severity 1.0; on linear RGB.
SIGHTS = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Ottosson 2020: OKLab, in which equal distances look about equally far; .02 is about the least that is seen.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
APART = 0.06


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def seen(colour: str, sight: str) -> np.ndarray:
    """The colour in OKLab, as this sight sees it."""
    return TO_LAB @ np.cbrt(TO_CONES @ np.clip(np.array(SIGHTS[sight]) @ linear(colour), 0, 1))


def distance(first: str, second: str, sight: str) -> float:
    return float(np.linalg.norm(seen(first, sight) - seen(second, sight)))


def contrast(first: str, second: str) -> float:
    """WCAG 2.2, from 1 to 21."""
    bright, dark = sorted((linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (first, second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def widget_colours(theme: str) -> dict[str, str]:
    css = Path(dslearn.widgets.__file__).with_name("base.css").read_text(encoding="utf-8")
    rules = re.findall(r"\.dslearn-explorer(\.dark)? \{(.*?)\}", css, re.DOTALL)
    found = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", body))
        for dark, body in rules
        if (dark != "") == (theme == "dark")
    ]
    return next(colours for colours in found if colours)


def test_the_simulation_confuses_what_such_eyes_confuse() -> None:
    assert distance("#b30000", "#5a5a00", "usual") > 2 * distance("#b30000", "#5a5a00", "deuteranopia")
    assert distance("#ffffff", "#000000", "protanopia") == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_of_figures_are_told_apart(sight: str) -> None:
    groups = [
        figure.PALETTE[:4],
        (sparsity._UNREAD, sparsity._FUTURE, figure.BLUE),
        (sparsity._UNREAD, sparsity._SCORED, figure.BLUE),
    ]
    near = {pair: distance(*pair, sight) for group in groups for pair in combinations(group, 2)}
    assert min(near.values()) > APART, {pair: round(gap, 3) for pair, gap in near.items() if gap <= APART}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_of_widgets_are_told_apart(theme: str, sight: str) -> None:
    colours = widget_colours(theme)
    names = [("future", "unread", "read"), ("unread", "looked", "read", "own"), ("ground", "read-text", "own")]
    near = {
        pair: distance(*(colours[name] for name in pair), sight) for group in names for pair in combinations(group, 2)
    }
    assert min(near.values()) > APART, {pair: round(gap, 3) for pair, gap in near.items() if gap <= APART}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_more_read_is_ever_farther_from_nothing_read(theme: str) -> None:
    """The mask's scale: each step of coverage moves lightness the same way."""
    colours = widget_colours(theme)
    ends = [np.array([int(colours[name][at : at + 2], 16) for at in (1, 3, 5)]) for name in ("unread", "read")]
    steps = [
        "#{:02x}{:02x}{:02x}".format(*(ends[0] + (ends[1] - ends[0]) * share).round().astype(int))
        for share in np.linspace(0, 1, 9)
    ]
    lightness = np.diff([seen(step, "usual")[0] for step in steps])
    assert (lightness > 0).all() or (lightness < 0).all()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_in_widgets_stand_out(theme: str) -> None:
    colours = widget_colours(theme)
    pairs = [("ink", "ground"), ("quiet", "ground"), ("ink", "read-text"), ("ground", "own"), ("quiet", "read-text")]
    low = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in pairs}
    assert min(low.values()) >= 4.5, low
