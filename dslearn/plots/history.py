"""A told story beside the dated record."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.axes import Axes

from dslearn.plots.figure import (
    BLUE,
    CARD,
    HOUSE_STYLE,
    QUIET,
    VERMILLION,
    DescribedFigure,
    card,
    figure_with_alt,
)

_LINE = 0.155  # inches that one line of text takes


@dataclass(frozen=True)
class Event:
    """Something that happened, or is said to have happened.

    Attributes:
        year: decimal year, 2023.54 for the middle of July 2023.
        label: a few words.
    """

    year: int | float
    label: str


@rc_context(HOUSE_STYLE)
def timeline(
    story: Sequence[Event],
    record: Sequence[Event],
    *,
    names: tuple[str, str] = ("The article's story", "The dated record"),
    title: str = "",
) -> DescribedFigure:
    """Draw two columns of events along one downward time axis.

    Args:
        story, record: events of the left and of the right column.
        names: headings of the columns.
        title: headline of the picture.

    Raises:
        ValueError: a column is empty.
    """
    if not story or not record:
        raise ValueError(f"both columns need events; got {len(story)} and {len(record)}")
    years = [float(event.year) for event in (*story, *record)]
    first, last = min(years), max(years)
    fig, (axes,) = card(max(4.2, 0.46 * max(len(story), len(record)) + 1.2))
    years_per_inch = (last - first + 1.8) / (fig.get_size_inches()[1] - 0.5)
    bottoms = [
        _column(axes, events, side, colour, name, first, years_per_inch)
        for events, side, colour, name in zip((story, record), (-1, 1), (VERMILLION, BLUE), names, strict=True)
    ]
    axes.set(xlim=(-1, 1), ylim=(max(last, *bottoms) + 0.4, first - 0.9))
    axes.axis("off")
    axes.plot([0, 0], [first - 0.2, last + 0.3], color=QUIET, linewidth=1.2, zorder=0)
    paper = {"fc": CARD, "ec": "none", "pad": 1}
    for year in range(int(first), int(last) + 1):
        axes.annotate(f"{year}", (0, year), ha="center", va="center", color=QUIET, size=8.5, bbox=paper)
    axes.set_title(title or f"{names[0]}, and {names[1][0].lower()}{names[1][1:]}")
    left, right = min(event.year for event in story), min(event.year for event in record)
    return figure_with_alt(
        fig,
        f"Two columns on one time axis from {int(first)} to {int(last)}. "
        f"{names[0]} begins in {int(left)}: {_listed(story)}. "
        f"{names[1]} begins in {int(right)}: {_listed(record)}.",
    )


def _column(
    axes: Axes, events: Sequence[Event], side: int, colour: str, name: str, first: float, per_inch: float
) -> float:
    """Draw one column; return the place of its last label."""
    align = "left" if side > 0 else "right"
    axes.annotate(name, (side * 0.2, first - 0.75), ha=align, va="center", color=colour, weight="bold")
    texts = [textwrap.fill(event.label, 32) for event in events]
    heights = [(text.count("\n") + 1.45) * _LINE * per_inch for text in texts]
    places = _spread_out([float(event.year) for event in events], heights)
    for event, text, place in zip(events, texts, places, strict=True):
        leader = [side * 0.07, side * 0.12, side * 0.18]
        axes.plot(leader, [event.year, event.year, place], color=QUIET, linewidth=0.8, alpha=0.6)
        axes.plot(side * 0.07, event.year, "o" if side > 0 else "s", color=colour, markersize=5)
        axes.annotate(text, (side * 0.2, place), ha=align, va="center", size=9)
    return places[-1]


def _spread_out(wanted: list[float], heights: list[float]) -> list[float]:
    """Return places near ``wanted`` (ascending) at which labels of these heights do not overlap.

    Neighbours that collide are merged into a group that sits at the mean of what its members want.
    """
    groups: list[tuple[list[int], float]] = []  # members, centre
    for index in range(len(wanted)):
        members, centre = [index], wanted[index]
        while groups and groups[-1][1] + _size(groups[-1][0], heights) / 2 > centre - _size(members, heights) / 2:
            members = groups.pop()[0] + members
            centre = sum(wanted[member] for member in members) / len(members)
        groups.append((members, centre))
    places = []
    for members, centre in groups:
        top = centre - _size(members, heights) / 2
        for member in members:
            places.append(top + heights[member] / 2)
            top += heights[member]
    return places


def _size(members: list[int], heights: list[float]) -> float:
    return sum(heights[member] for member in members)


def _listed(events: Sequence[Event]) -> str:
    return "; ".join(f"{int(event.year)} {event.label}" for event in events)
