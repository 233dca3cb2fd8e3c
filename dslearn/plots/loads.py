"""Pictures of a mixture of experts: who is busy, who takes what, and where the replicas stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from dslearn.moe import Placement
from dslearn.plots.figure import (
    BLUE,
    CARD,
    GREEN,
    HOUSE_STYLE,
    INK,
    QUIET,
    VERMILLION,
    DescribedFigure,
    Number,
    Numbers,
    array,
    card,
    figure_with_alt,
)


@rc_context(HOUSE_STYLE)
def expert_loads(loads: Mapping[str, Numbers], *, capacity: Number | None = None, title: str = "") -> DescribedFigure:
    """Draw the load of each expert, the busiest first, in shares of an even load; a panel a name.

    Args:
        loads: name → tokens of each expert.
        capacity: where an expert is full, in even loads; drawn as a dashed line.
        title: headline of the picture.

    Raises:
        ValueError: no loads, or loads that are negative or all zero.
    """
    rows = {name: array(counts) for name, counts in loads.items()}
    if not rows or any(counts.ndim != 1 or (counts < 0).any() or not counts.sum() for counts in rows.values()):
        raise ValueError("loads must name at least one list of non-negative counts that are not all zero")
    shares = {name: np.sort(counts)[::-1] / counts.mean() for name, counts in rows.items()}
    fig, panels = card(3.0, columns=len(rows))
    highest = max(*(share.max() for share in shares.values()), capacity or 0.0, 1.0) * 1.08
    for axes, (name, share) in zip(panels, shares.items(), strict=True):
        axes.bar(range(1, len(share) + 1), share, color=BLUE, width=0.8)
        axes.axhline(1, color=INK, linewidth=1.2, linestyle=":")
        if capacity is not None:
            axes.axhline(capacity, color=VERMILLION, linewidth=1.5, linestyle="--")
        for height, label in ((1, "even"), (capacity, "full")):
            if height is not None:
                axes.text(len(share) + 0.4, height, label, ha="right", va="bottom", fontsize=9)
        axes.set(ylim=(0, highest), xlabel="busiest first", xticks=[1, len(share)])
        axes.set_title(name, fontweight="normal", fontsize=10)
    panels[0].set_ylabel("load (even load = 1)")
    fig.suptitle(title or "How busy each expert is", x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    told = "; ".join(f"{name}: from {share[-1]:.2f} to {share[0]:.2f}" for name, share in shares.items())
    return figure_with_alt(fig, f"Loads of the experts in even loads. {told}.")


@rc_context(HOUSE_STYLE)
def who_takes_what(shares: Numbers, kinds: Sequence[str], *, title: str = "") -> DescribedFigure:
    """Draw which share of each kind of token goes to each expert, as shades with the largest ones written in.

    Args:
        shares: (kinds, experts), each row summing to one.
        kinds: their names.
        title: headline of the picture.

    Raises:
        ValueError: there is not one row for each kind.
    """
    table = array(shares)
    if table.ndim != 2 or len(table) != len(kinds):
        raise ValueError(f"shares must have a row for each of {len(kinds)} kinds; got the shape {table.shape}")
    fig, (axes,) = card(1.2 + 0.34 * len(kinds))
    axes.imshow(table, aspect="auto", cmap="Blues", vmin=0, vmax=max(table.max(), 1e-9))
    for row, column in np.argwhere(table >= 2 / table.shape[1]):
        dark = table[row, column] > 0.6 * table.max()
        axes.text(
            column,
            row,
            f"{100 * table[row, column]:.0f}",
            ha="center",
            va="center",
            color=CARD if dark else INK,
            size=9,
        )
    axes.set_yticks(range(len(kinds)), list(kinds))
    axes.set_xticks(range(table.shape[1]), [str(expert) for expert in range(table.shape[1])])
    axes.tick_params(length=0)
    axes.set_xlabel("expert")
    axes.set_title(title or "Percent of each kind that an expert takes")
    favourites = ", ".join(
        f"{kind}: expert {row.argmax()} with {row.max():.0%}" for kind, row in zip(kinds, table, strict=True)
    )
    return figure_with_alt(fig, f"Which expert takes which kind of token. Most of each kind: {favourites}.")


@rc_context(HOUSE_STYLE)
def placed_experts(
    placement: Placement, load: Numbers, *, num_nodes: int, num_gpus: int, layer: int = 0, title: str = ""
) -> DescribedFigure:
    """Draw one layer's replicas stacked on their GPUs, by the share of the load that each gets.

    Args:
        placement: of the experts.
        load: tokens of each expert, (layers, experts) or (experts,).
        num_nodes, num_gpus: of the placement; GPUs of one node stand together.
        layer: which one.
        title: headline of the picture.

    Raises:
        ValueError: the load does not fit the placement, or the GPUs do not divide among slots and nodes.
    """
    loads, slots = np.atleast_2d(array(load)), placement.physical_to_logical[layer]
    if loads.shape != tuple(placement.replicas.shape):
        raise ValueError(f"load must have the shape {tuple(placement.replicas.shape)}; got {loads.shape}")
    if num_gpus < 1 or num_nodes < 1 or len(slots) % num_gpus or num_gpus % num_nodes:
        raise ValueError(f"{num_gpus} GPUs must divide {len(slots)} slots, and {num_nodes} nodes the GPUs")
    share = loads[layer] / array(placement.replicas[layer])
    on_gpu = slots.view(num_gpus, -1).tolist()
    sums = [float(share[experts].sum()) for experts in on_gpu]
    fig, (axes,) = card(3.4)
    for gpu, experts in enumerate(on_gpu):
        _stack(axes, gpu + gpu // (num_gpus // num_nodes) * 0.6, experts, share, max(sums))
    axes.axhline(float(np.mean(sums)), color=VERMILLION, linestyle="--", linewidth=1.5, label="even load")
    places = [gpu + gpu // (num_gpus // num_nodes) * 0.6 for gpu in range(num_gpus)]
    axes.set_xticks(places, [f"GPU {gpu}" for gpu in range(num_gpus)])
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("load")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99))
    axes.set_title(title or f"{len(slots)} slots on {num_gpus} GPUs of {num_nodes} nodes")
    told = "; ".join(f"GPU {gpu}: experts {experts}, load {sums[gpu]:.0f}" for gpu, experts in enumerate(on_gpu))
    return figure_with_alt(fig, f"Experts on GPUs. {told}. An even load is {np.mean(sums):.0f}.")


def _stack(axes: Axes, place: float, experts: Sequence[int], share: np.ndarray, highest: float) -> None:
    bottom = 0.0
    for height, expert in enumerate(experts):
        axes.bar(place, share[expert], bottom=bottom, width=0.8, color=(BLUE, GREEN)[height % 2], edgecolor=CARD)
        if share[expert] > 0.05 * highest:  # else there is no room for its number
            axes.text(
                place, bottom + share[expert] / 2, str(expert), ha="center", va="center", color=CARD, fontweight="bold"
            )
        bottom += share[expert]
    axes.set_axisbelow(True)
    axes.spines["bottom"].set_color(QUIET)
