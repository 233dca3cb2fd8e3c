"""Bars that show every sample: a median without its spread decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from dslearn.plots.figure import (
    BLUE,
    HOUSE_STYLE,
    INK,
    VERMILLION,
    DescribedFigure,
    Number,
    Numbers,
    array,
    card,
    figure_with_alt,
)


@rc_context(HOUSE_STYLE)
def bars_with_spread(
    samples: Mapping[str, Numbers],
    *,
    quantity: str,
    unit: str = "",
    reference: tuple[str, Number] | None = None,
    title: str = "",
) -> DescribedFigure:
    """Draw a bar for each median, with a whisker from the lowest to the highest sample and a dot for each.

    Args:
        samples: name → one value a seed or repetition.
        quantity: what is shown, for the axis.
        unit: its unit.
        reference: name and value of a line to compare with.
        title: headline of the picture.

    Raises:
        ValueError: no samples, or a name without any.
    """
    rows = {name: np.atleast_1d(array(values)) for name, values in samples.items()}
    if empty := [name for name, values in rows.items() if not values.size] or ([] if rows else ["the table"]):
        raise ValueError(f"no samples for {', '.join(map(str, empty))}")
    fig, (axes,) = card(1.35 + 0.5 * len(rows))
    for place, values in enumerate(rows.values()):
        _one_bar(axes, place, values)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{quantity} ({unit})" if unit else quantity)
    axes.set_xlim(left=min(0.0, *(values.min() for values in rows.values())), right=axes.get_xlim()[1] * 1.12)
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
    if reference is not None:
        axes.axvline(reference[1], color=VERMILLION, linestyle="--", linewidth=1.5, label=reference[0])
        axes.legend(loc="best")
    axes.set_title(title or quantity.capitalize())
    return figure_with_alt(fig, f"Bars of {quantity}{f' in {unit}' if unit else ''}: {_told(rows)}.")


def _one_bar(axes: Axes, place: int, values: np.ndarray) -> None:
    middle, low, high = float(np.median(values)), values.min(), values.max()
    axes.barh(place, middle, height=0.55, color=BLUE, alpha=0.35)
    axes.plot([low, high], [place, place], color=INK, linewidth=1.5)
    axes.plot(values, np.full(values.size, place), "o", color=BLUE, markersize=4.5, alpha=0.8)
    axes.annotate(f"{middle:.3g}", (high, place), xytext=(8, 0), textcoords="offset points", va="center")


def _told(rows: Mapping[str, np.ndarray]) -> str:
    return "; ".join(
        f"{name} median {np.median(values):.3g}, from {values.min():.3g} to {values.max():.3g}"
        for name, values in rows.items()
    )
