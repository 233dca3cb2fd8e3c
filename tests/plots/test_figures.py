"""Every picture is drawn, described, readable on any page, and says what its data say."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from dslearn import plots
from dslearn.moe import place_experts
from dslearn.plots.curves import crossing
from dslearn.plots.figure import CARD, INK, PALETTE, QUIET, DescribedFigure, median_and_band
from dslearn.plots.history import _spread_out

LENGTHS = [1024, 2048, 4096, 8192]
CAUSAL = torch.ones(16, 16, dtype=torch.bool).tril()

LOADS = torch.tensor([[40, 10, 0, 30], [1, 1, 1, 1]])
PLACED = place_experts(LOADS, num_replicas=8, num_groups=2, num_nodes=2, num_gpus=4)

PICTURES: dict[str, Callable[[], DescribedFigure]] = {
    "cost_against_length": lambda: plots.cost_against_length(LENGTHS, {"dense": [1, 4, 16, 64], "tree": [2, 4, 8, 16]}),
    "crossover": lambda: plots.crossover(LENGTHS, [1, 4, 16, 64], [4, 8, 16, 32]),
    "learning_curves": lambda: plots.learning_curves(
        [0, 1, 2], {"dense": np.ones((3, 3)), "random": [3, 2, 2]}, chance=4
    ),
    "recall_by_distance": lambda: plots.recall_by_distance(
        [16, 64], {"dense": torch.ones(3, 2), "window": [1, 0]}, chance=0.1
    ),
    "bars_with_spread": lambda: plots.bars_with_spread(
        {"a": [1.0, 2, 3], "b": [5]}, quantity="time", unit="ms", reference=("x", 4)
    ),
    "expert_loads": lambda: plots.expert_loads({"none": [9, 1, 0], "bias": [4, 3, 3]}, capacity=1.2),
    "who_takes_what": lambda: plots.who_takes_what(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), ["letters", "digits"]),
    "placed_experts": lambda: plots.placed_experts(PLACED, LOADS, num_nodes=2, num_gpus=4),
    "attention_mask": lambda: plots.attention_mask(
        {"dense": CAUSAL, "own": CAUSAL & CAUSAL.T}, block_size=4, title="T"
    ),
    "tree_descent": lambda: plots.tree_descent([plots.TreeLevel(1, [0], [0]), plots.TreeLevel(4, range(4), [1, 3])]),
    "selected_blocks_over_text": lambda: plots.selected_blocks_over_text(
        ["a ", "b\n", "\n", "c$d", "_"], 4, [0, 2, -1], block_size=2
    ),
    "timeline": lambda: plots.timeline(
        [plots.Event(2018, "told")], [plots.Event(2023.5, "dated"), plots.Event(2025, "x")]
    ),
}


def test_every_public_picture_is_tested() -> None:
    others = {"DescribedFigure", "Event", "TreeLevel", "figure_with_alt", "log_slope"}
    assert set(PICTURES) == set(plots.__all__) - others


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_an_opaque_described_card_and_each_time_the_same_file(name: str) -> None:
    figure = PICTURES[name]()
    drawn = figure.as_png()
    assert PICTURES[name]().as_png() == drawn
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGBA"))
    assert (pixels[..., 3] == 255).all()
    card = tuple(int(CARD[i : i + 2], 16) for i in (1, 3, 5))
    assert (np.abs(pixels[..., :3].astype(int) - card).max(-1) <= 2).mean() > 0.3, "the card is covered"
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 8, "nothing was drawn"
    assert len(figure.alt) > 40


@pytest.mark.parametrize("name", ["cost_against_length", "crossover", "learning_curves", "recall_by_distance"])
def test_curves_name_both_axes_with_units(name: str) -> None:
    (axes,) = PICTURES[name]().axes
    assert axes.get_xlabel() in {"sequence length (tokens)", "training step", "distance (tokens)"}
    assert re.search(r"\(.+\)$", axes.get_ylabel())


def test_a_notebook_gets_an_image_with_its_alternative_text(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    figure = plots.figure_with_alt(Figure(figsize=(3, 2)), 'A "quoted" <text>')
    figure._ipython_display_()
    (bundle,) = shown
    assert bundle["text/plain"] == 'Figure: A "quoted" <text>'
    assert 'alt="A &quot;quoted&quot; &lt;text&gt;"' in bundle["text/html"]
    assert 'width="300" height="200"' in bundle["text/html"]
    data = re.search(r"base64,([^\"]+)", bundle["text/html"])
    assert data is not None
    assert Image.open(io.BytesIO(base64.b64decode(data[1]))).size == (600, 400)


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_picture_without_a_description_is_refused(alt: str) -> None:
    with pytest.raises(ValueError, match="got an empty text"):
        plots.figure_with_alt(Figure(), alt)


def test_slopes_are_fitted_and_told() -> None:
    figure = plots.cost_against_length(LENGTHS, {"dense": [1, 4, 16, 64], "tree": [1, 2, 4, 8]})
    assert "dense: slope 2.00; tree: slope 1.00" in figure.alt
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "dense (slope 2.00)",
        "tree (slope 1.00)",
    ]


def test_a_crossing_is_read_off_the_log_lines() -> None:
    x = np.array([1000.0, 4000.0])
    assert crossing(x, np.array([1.0, 16.0]), np.array([2.0, 8.0])) == pytest.approx(2000)
    assert crossing(x, np.array([2.0, 4.0]), np.array([1.0, 1.0])) is None
    assert crossing(x, np.array([1.0, 1.0]), np.array([2.0, 4.0])) is None


def test_a_crossing_that_is_undone_does_not_count() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    found = crossing(x, np.array([1.0, 4.0, 4.0, 9.0]), np.array([2.0, 2.0, 8.0, 3.0]))
    assert found is not None
    assert 4 < found < 8


def test_the_crossover_is_told_or_denied() -> None:
    assert "they cross near 4,100 tokens" in plots.crossover(LENGTHS, [1, 4, 16, 64], [4, 8, 16, 32]).alt
    assert "they do not cross" in plots.crossover(LENGTHS, [1, 2, 4, 8], [2, 4, 8, 16]).alt


def test_density_counts_the_past_only() -> None:
    assert "dense reads 100% of the past" in plots.attention_mask({"dense": CAUSAL}).alt
    assert "all reads 100% of the past" in plots.attention_mask({"all": torch.ones(16, 16)}).alt


def test_a_band_runs_over_seeds() -> None:
    middle, low, high = median_and_band(np.array([[1.0, 5.0], [2.0, 9.0], [6.0, 7.0]]))
    assert (middle.tolist(), low.tolist(), high.tolist()) == ([2, 7], [1, 5], [6, 9])


def test_labels_that_would_collide_are_moved_apart_in_order() -> None:
    places = _spread_out([0.0, 0.1, 0.2, 5.0], [1.0, 1.0, 1.0, 1.0])
    assert np.diff(places).min() >= 1 - 1e-9
    assert places[3] == 5.0
    assert np.mean(places[:3]) == pytest.approx(0.1)


def test_text_is_shown_as_it_stands() -> None:
    figure = PICTURES["selected_blocks_over_text"]()
    shown = "".join(text.get_text() for text in figure.axes[0].texts)
    assert shown == "a bc$d_"
    assert "reads 3 of 5 tokens: blocks 0, 2 of 2 tokens each" in figure.alt


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.cost_against_length([1, 2], {"a": [1, 2, 3]}), r"'a' has shape \(3,\).*must have 2 entries"),
        (lambda: plots.cost_against_length([1, 2], {}), "table of series is empty"),
        (lambda: plots.cost_against_length([1, 2], {"a": [0, 1]}), "two or more positive points"),
        (lambda: plots.bars_with_spread({"a": []}, quantity="x"), "no samples for a"),
        (lambda: plots.bars_with_spread({}, quantity="x"), "no samples for the table"),
        (lambda: plots.attention_mask({"a": [1, 2]}), r"shape \(queries, keys\); look at a"),
        (lambda: plots.tree_descent([]), "at least one level"),
        (lambda: plots.TreeLevel(4, [4], []), r"scored must lie in 0…3; got \[4\]"),
        (lambda: plots.selected_blocks_over_text(["a"], 1, [0], block_size=1), "query must lie in 0…0; got 1"),
        (lambda: plots.timeline([], [plots.Event(2020, "x")]), "both columns need events; got 0 and 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()


def _luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("colour", "least"), [(INK, 7.0), (QUIET, 4.5), *((colour, 3.0) for colour in PALETTE)])
def test_colours_stand_out_from_the_card(colour: str, least: float) -> None:
    """WCAG 2.2: 4.5 for text, 3 for graphics."""
    assert (_luminance(CARD) + 0.05) / (_luminance(colour) + 0.05) >= least


def test_loads_are_told_in_even_loads() -> None:
    alt = plots.expert_loads({"none": [9, 0, 3, 0]}).alt
    assert "none: from 0.00 to 3.00" in alt
    for bad in ({}, {"x": [0, 0]}, {"x": [-1, 2]}, {"x": np.ones((1, 2))}):
        with pytest.raises(ValueError, match="non-negative counts that are not all zero"):
            plots.expert_loads(bad)


def test_each_kind_has_a_row() -> None:
    assert "letters: expert 0 with 90%" in PICTURES["who_takes_what"]().alt
    with pytest.raises(ValueError, match=r"a row for each of 1 kinds; got the shape \(2, 2\)"):
        plots.who_takes_what(torch.eye(2), ["letters"])


def test_a_placement_shows_the_loads_it_makes() -> None:
    figure = PICTURES["placed_experts"]()
    sums = PLACED.gpu_loads(LOADS.double(), 4)[0]
    assert [f"load {load:.0f}" in figure.alt for load in sums] == [True] * 4
    assert "An even load is 20" in figure.alt
    with pytest.raises(ValueError, match="load must have the shape"):
        plots.placed_experts(PLACED, [1, 2], num_nodes=2, num_gpus=4)
    with pytest.raises(ValueError, match="3 GPUs must divide 8 slots"):
        plots.placed_experts(PLACED, LOADS, num_nodes=1, num_gpus=3)
