"""The frame every picture shares: a light card, a colour-blind safe palette, and text for who cannot see it.

The card is opaque on purpose: a transparent figure with dark text disappears on a dark page.
"""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

Number = int | float
Numbers = Sequence[int] | Sequence[float] | Sequence[int | float] | np.ndarray | Tensor

# Okabe & Ito (2008), darkened where the original is too pale for a line on a light card.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = (
    "#0072B2",
    "#D55E00",
    "#00513B",
    "#9C3F74",
    "#B87700",
    "#3A8FC4",
)
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, QUIET, RULE, CARD = "#1f2328", "#5c636b", "#d8d5cd", "#fbfaf7"

HOUSE_STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": CARD,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.0,
}
_INCH = 100  # displayed pixels an inch: a 6.4-inch card is 640 pixels wide on the page
_COLOURS = 128
_SHARPNESS = 2  # stored pixels for each displayed one


class DescribedFigure(Figure):
    """A figure that shows itself as an image with alternative text.

    JupyterLab and the book drop the alternative text of an ``image/png`` output, so the notebook gets an HTML
    ``<img>``; where only text can be shown, the text is the description.
    """

    alt: str = ""

    def _ipython_display_(self) -> None:
        from IPython.display import display  # there whenever this is called

        display({"text/html": self.as_html(), "text/plain": f"Figure: {self.alt}"}, raw=True)

    def as_html(self) -> str:
        """Return one ``<img>`` element holding the picture and its alternative text."""
        width, height = (round(side * _INCH) for side in self.get_size_inches())
        data = b64encode(self.as_png()).decode()
        alt = html.escape(self.alt, quote=True)
        return f'<img width="{width}" height="{height}" alt="{alt}" src="data:image/png;base64,{data}">'

    def as_png(self) -> bytes:
        """Return the PNG file: the same bytes for the same picture, and few of them."""
        drawn, small = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=_INCH * _SHARPNESS, facecolor=CARD, edgecolor=RULE)
        # A drawing has few colours; a palette of them takes a third of the space in a notebook.
        Image.open(drawn).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
        return small.getvalue()


def figure_with_alt(fig: Figure, alt: str) -> DescribedFigure:
    """Give ``fig`` its alternative text, with which notebooks then show it.

    Args:
        fig: any figure; it is changed in place and returned.
        alt: what the picture says, for somebody who cannot see it: one or two sentences.

    Raises:
        ValueError: the text is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what the picture shows; got an empty text")
    if not isinstance(fig, DescribedFigure):
        # Same memory layout, more methods: a figure made elsewhere need not be drawn again.
        fig.__class__ = DescribedFigure
    assert isinstance(fig, DescribedFigure)
    fig.alt = " ".join(alt.split())
    return fig


def card(height: float, *, columns: int = 1, width: float = 6.4) -> tuple[DescribedFigure, list[Axes]]:
    """Return an empty card, ``width`` × ``height`` inches, with ``columns`` axes side by side."""
    fig = DescribedFigure(figsize=(width, height), layout="constrained", facecolor=CARD, edgecolor=RULE, linewidth=1.0)
    fig.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    return fig, list(np.atleast_1d(fig.subplots(1, columns)))


def array(values: Numbers) -> np.ndarray:
    """Return ``values`` as a float array on the CPU."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().float().numpy()
    return np.asarray(values, dtype=float)


def same_length(lengths: np.ndarray, series: dict[str, np.ndarray]) -> None:
    """Check that each series has one last-axis entry for each length.

    Raises:
        ValueError: one has not; the message names it.
    """
    if not series:
        raise ValueError("nothing to draw: the table of series is empty")
    for name, values in series.items():
        if values.shape[-1:] != lengths.shape:
            raise ValueError(f"{name!r} has shape {values.shape}; its last axis must have {len(lengths)} entries")


def median_and_band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return median, lowest and highest over the first axis (seeds); a one-axis series is its own band."""
    rows = np.atleast_2d(values)
    return np.median(rows, axis=0), rows.min(axis=0), rows.max(axis=0)
