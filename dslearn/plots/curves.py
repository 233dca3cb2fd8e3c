"""Pictures with a number on each axis: cost and crossover by length, learning curves, recall by distance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dslearn.plots.figure import (
    HOUSE_STYLE,
    INK,
    MARKERS,
    PALETTE,
    QUIET,
    DescribedFigure,
    Number,
    Numbers,
    array,
    card,
    figure_with_alt,
    median_and_band,
    same_length,
)


@rc_context(HOUSE_STYLE)
def cost_against_length(
    lengths: Numbers,
    costs: Mapping[str, Numbers],
    *,
    quantity: str = "time",
    unit: str = "ms",
    title: str = "",
) -> DescribedFigure:
    """Draw cost against sequence length on log–log axes, each line with its fitted slope.

    A slope of 1 is linear and of 2 quadratic; an exponential would bend upwards for ever.

    Args:
        lengths: tokens, one an entry, at least two.
        costs: name → cost at each length, in ``unit``; or (seeds, lengths).
        quantity: what is counted, for the axis.
        unit: unit of the costs.
        title: headline of the picture.

    Raises:
        ValueError: lengths and costs do not match.
    """
    x, series = array(lengths), {name: array(values) for name, values in costs.items()}
    same_length(x, series)
    slopes = {name: log_slope(x, median_and_band(values)[0]) for name, values in series.items()}
    fig, (axes,) = card(3.9)
    _draw_series(axes, x, {f"{name} (slope {slopes[name]:.2f})": values for name, values in series.items()})
    axes.set(xscale="log", yscale="log", xlabel="sequence length (tokens)", ylabel=f"{quantity} ({unit})")
    _label_lengths(axes, x)
    _plain_numbers(axes)
    axes.grid(visible=True, which="major")
    axes.set_title(title or f"How {quantity} grows with length")
    axes.legend()
    told = "; ".join(f"{name}: slope {slope:.2f}" for name, slope in slopes.items())
    return figure_with_alt(
        fig, f"Log–log plot of {quantity} in {unit} against {x[0]:,.0f} to {x[-1]:,.0f} tokens. {told}."
    )


@rc_context(HOUSE_STYLE)
def crossover(
    lengths: Numbers,
    dense: Numbers,
    sparse: Numbers,
    *,
    unit: str = "ms",
    names: tuple[str, str] = ("dense", "sparse"),
    title: str = "",
) -> DescribedFigure:
    """Draw two costs against length and mark where the second becomes the cheaper one.

    Args:
        lengths: tokens, ascending.
        dense, sparse: cost at each length, or (repetitions, lengths), in ``unit``.
        unit: unit of the costs.
        names: names of the two, in that order.
        title: headline of the picture.
    """
    x, series = array(lengths), dict(zip(names, (array(dense), array(sparse)), strict=True))
    same_length(x, series)
    first, second = (median_and_band(values)[0] for values in series.values())
    where = crossing(x, first, second)
    fig, (axes,) = card(3.9)
    _draw_series(axes, x, series)
    axes.set(xscale="log", yscale="log", xlabel="sequence length (tokens)", ylabel=f"time ({unit})")
    _label_lengths(axes, x)
    _plain_numbers(axes)
    axes.grid(visible=True, which="major")
    if where is not None:
        axes.axvline(where, color=INK, linestyle=":", linewidth=1.5)
        axes.annotate(
            f" cheaper from\n about {_two_figures(where)} tokens",
            (where, 0.03),
            xycoords=("data", "axes fraction"),
            va="bottom",
        )
    axes.set_title(title or f"Where {names[1]} begins to pay")
    axes.legend(loc="upper left")
    told = f"they cross near {_two_figures(where)} tokens" if where is not None else "they do not cross"
    ends = f"at {x[-1]:,.0f} tokens {names[0]} takes {first[-1] / second[-1]:.1f} times as long as {names[1]}"
    return figure_with_alt(fig, f"Time in {unit} against length for {names[0]} and {names[1]}: {told}; {ends}.")


@rc_context(HOUSE_STYLE)
def learning_curves(
    steps: Numbers,
    runs: Mapping[str, Numbers],
    *,
    quantity: str = "validation loss",
    unit: str = "bits per byte",
    chance: Number | None = None,
    title: str = "",
) -> DescribedFigure:
    """Draw several named runs against training steps, with a band from the lowest to the highest seed.

    Args:
        steps: training steps.
        runs: name → value at each step, or (seeds, steps).
        quantity: what the vertical axis shows.
        unit: its unit; empty for a share.
        chance: value that guessing reaches, drawn as a dotted line.
        title: headline of the picture.
    """
    x, series = array(steps), {name: array(values) for name, values in runs.items()}
    same_length(x, series)
    fig, (axes,) = card(3.7)
    _draw_series(axes, x, series, markers=len(x) <= 12)
    _chance_line(axes, chance)
    axes.set(xlabel="training step", ylabel=f"{quantity} ({unit})" if unit else quantity)
    axes.grid(visible=True, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_title(title or f"{quantity.capitalize()} while training")
    axes.legend()
    return figure_with_alt(fig, f"{quantity.capitalize()} against training steps. At the end: {_ends(series)}.")


@rc_context(HOUSE_STYLE)
def recall_by_distance(
    distances: Numbers, accuracies: Mapping[str, Numbers], *, chance: Number | None = None, title: str = ""
) -> DescribedFigure:
    """Draw the share of facts recalled against how many tokens ago they stood.

    Args:
        distances: tokens between a fact and its question, ascending.
        accuracies: name → share recalled (0 to 1) at each distance, or (seeds, distances).
        chance: share that guessing reaches.
        title: headline of the picture.
    """
    x, series = array(distances), {name: array(values) for name, values in accuracies.items()}
    same_length(x, series)
    fig, (axes,) = card(3.7)
    _draw_series(axes, x, {name: 100 * values for name, values in series.items()})
    _chance_line(axes, None if chance is None else 100 * chance)
    axes.set(xscale="log", xlabel="distance (tokens)", ylabel="recalled (%)", ylim=(-3, 103))
    _label_lengths(axes, x)
    axes.grid(visible=True, axis="y")
    axes.set_title(title or "What is remembered, by distance")
    axes.legend(loc="best")
    shares = {name: 100 * values for name, values in series.items()}
    return figure_with_alt(
        fig, f"Percentage recalled against distance. At {x[-1]:,.0f} tokens: {_ends(shares, suffix=' %')}."
    )


def log_slope(lengths: np.ndarray, costs: np.ndarray) -> float:
    """Return the least-squares slope of log cost against log length: the exponent of a power law.

    Raises:
        ValueError: fewer than two lengths, or a value that has no logarithm.
    """
    if len(lengths) < 2 or (lengths <= 0).any() or (costs <= 0).any():
        raise ValueError(f"a slope needs two or more positive points; got {lengths.tolist()} and {costs.tolist()}")
    return float(np.polyfit(np.log(lengths), np.log(costs), 1)[0])


def crossing(lengths: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the length after which ``second`` stays below ``first``, read off the log–log lines.

    None when it never does, or when it is below from the start.
    """
    gap = np.log(first) - np.log(second)
    cheaper = gap > 0
    if cheaper.all() or not cheaper[-1]:
        return None
    last = int(np.flatnonzero(~cheaper)[-1])
    share = gap[last] / (gap[last] - gap[last + 1])
    log_x = np.log(lengths)
    return float(np.exp(log_x[last] + share * (log_x[last + 1] - log_x[last])))


def _draw_series(axes: Axes, x: np.ndarray, series: Mapping[str, np.ndarray], *, markers: bool = True) -> None:
    for index, (name, values) in enumerate(series.items()):
        middle, low, high = median_and_band(values)
        colour = PALETTE[index % len(PALETTE)]
        marker = MARKERS[index % len(MARKERS)] if markers else None
        # The dash pattern changes too: colour is never the only difference.
        style = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))[index % 4]
        axes.plot(x, middle, color=colour, marker=marker, linestyle=style, label=name)
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _label_lengths(axes: Axes, lengths: np.ndarray) -> None:
    axes.xaxis.set_major_locator(FixedLocator([float(length) for length in lengths]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _plain_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _chance_line(axes: Axes, chance: Number | None) -> None:
    if chance is not None:
        axes.axhline(chance, color=QUIET, linestyle=":", linewidth=1.5, label="guessing")


def _two_figures(value: float) -> str:
    # A crossing read off a few lengths is not known better than that.
    return f"{float(f'{value:.2g}'):,.0f}"


def _ends(series: Mapping[str, np.ndarray], suffix: str = "") -> str:
    return "; ".join(f"{name}: {median_and_band(values)[0][-1]:.3g}{suffix}" for name, values in series.items())
