"""Pictures of who reads what: masks, the descent of a tree, the blocks of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch, Rectangle

from dslearn.plots.figure import (
    BLUE,
    CARD,
    HOUSE_STYLE,
    INK,
    QUIET,
    RULE,
    VERMILLION,
    DescribedFigure,
    Numbers,
    array,
    card,
    figure_with_alt,
)

_UNREAD, _FUTURE, _SCORED = "#e4e1d9", CARD, "#9cc7e3"


@rc_context(HOUSE_STYLE)
def attention_mask(masks: Mapping[str, Numbers], *, block_size: int | None = None, title: str = "") -> DescribedFigure:
    """Draw which keys each query reads, one panel a mask, for a single head.

    Args:
        masks: name → (queries, keys), true or non-zero where the query reads the key.
        block_size: keys in a block; draws the borders of the blocks.
        title: headline of the picture.

    Raises:
        ValueError: a mask that is not a matrix, or none.
    """
    panels = {name: array(mask) != 0 for name, mask in masks.items()}
    if wrong := [name for name, mask in panels.items() if mask.ndim != 2] or ([] if panels else ["the table"]):
        raise ValueError(f"a mask has the shape (queries, keys); look at {', '.join(wrong)}")
    fig, columns = card(6.4 / max(2, len(panels)) + 1.35, columns=len(panels))
    for axes, (name, mask) in zip(columns, panels.items(), strict=True):
        _mask_panel(axes, mask, block_size)
        axes.set_title(f"{name}\n{_density(mask):.0%} read", size=10)
    columns[0].set_ylabel("query (token)")
    fig.legend(
        handles=[_swatch(BLUE, "read"), _swatch(_UNREAD, "past, not read"), _swatch(_FUTURE, "future")],
        loc="outside lower center",
        ncols=3,
    )
    if title:
        fig.suptitle(title, x=0.02, ha="left", weight="bold", size=11.5)
    told = "; ".join(f"{name} reads {_density(mask):.0%} of the past" for name, mask in panels.items())
    return figure_with_alt(fig, f"Squares of queries (down) against keys (across): {told}.")


@dataclass(frozen=True)
class TreeLevel:
    """What one level of a selection tree did for one query.

    Attributes:
        num_nodes: nodes that exist at this level, left to right.
        scored: nodes whose score was computed.
        kept: nodes whose children are looked at next; at the last level, the chosen blocks.
    """

    num_nodes: int
    scored: Sequence[int]
    kept: Sequence[int]

    def __post_init__(self) -> None:
        for name in ("scored", "kept"):
            outside = [node for node in getattr(self, name) if not 0 <= node < self.num_nodes]
            if outside:
                raise ValueError(f"{name} must lie in 0…{self.num_nodes - 1}; got {outside}")


@rc_context(HOUSE_STYLE)
def tree_descent(levels: Sequence[TreeLevel], *, title: str = "") -> DescribedFigure:
    """Draw a descent from the root: nodes not looked at, scored, and kept.

    Args:
        levels: from the root downwards.
        title: headline of the picture.

    Raises:
        ValueError: no levels.
    """
    if not levels:
        raise ValueError("a tree needs at least one level; got none")
    fig, (axes,) = card(1.5 + 0.5 * len(levels))
    for row, level in enumerate(levels):
        _tree_row(axes, row, level)
    axes.set(xlim=(0, 1), ylim=(len(levels) - 0.35, -0.65))
    axes.set_yticks(range(len(levels)), [f"{level.num_nodes:,} node{'s'[: level.num_nodes > 1]}" for level in levels])
    axes.set_xticks([0, 1], ["first token", "last token"])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[1].set_horizontalalignment("right")
    fig.legend(
        handles=[
            _swatch(_UNREAD, "never looked at"),
            _swatch(_SCORED, "scored"),
            _swatch(BLUE, "scored and kept"),
        ],
        loc="outside lower center",
        ncols=3,
    )
    scored, leaves = sum(len(level.scored) for level in levels), levels[-1].num_nodes
    axes.set_title(title or f"{scored:,} scores find {len(levels[-1].kept)} of {leaves:,} blocks")
    told = "; ".join(
        f"of {level.num_nodes} nodes {len(level.scored)} scored, {len(level.kept)} kept" for level in levels
    )
    return figure_with_alt(fig, f"Levels of a tree from the root down: {told}. In all {scored} scores.")


@rc_context(HOUSE_STYLE)
def selected_blocks_over_text(
    tokens: Sequence[str],
    query: int,
    blocks: Sequence[int],
    *,
    block_size: int,
    columns: int = 80,
    title: str = "",
) -> DescribedFigure:
    """Print a text with the blocks that one of its tokens reads marked.

    Args:
        tokens: the text, token by token, as strings.
        query: index of the reading token; the text is shown up to it.
        blocks: blocks it reads, entries below 0 meaning none.
        block_size: tokens in a block.
        columns: characters in a line.
        title: headline of the picture.

    Raises:
        ValueError: the query is not a token of the text.
    """
    if not 0 <= query < len(tokens):
        raise ValueError(f"query must lie in 0…{len(tokens) - 1}; got {query}")
    chosen = {int(block) for block in blocks if block >= 0}
    runs, lines = _lay_out(tokens[: query + 1], chosen, block_size, columns)
    fig, (axes,) = card(0.9 + 0.16 * lines)
    axes.set(xlim=(0, columns), ylim=(lines, -0.2))
    axes.axis("off")
    for line, column, text, index in runs:
        _text_run(axes, line, column, text, read=index // block_size in chosen, is_query=index == query)
    read = sum(index // block_size in chosen for index in range(query + 1))
    axes.set_title(title or f"What token {query:,} reads: {read:,} of {query + 1:,} tokens")
    fig.legend(
        handles=[_swatch("#cfe3f1", "read"), _swatch(VERMILLION, "the reading token")],
        loc="outside lower center",
        ncols=2,
    )
    return figure_with_alt(
        fig,
        f"A text in which token {query} ({tokens[query]!r}) reads {read} of {query + 1} tokens: "
        f"blocks {', '.join(map(str, sorted(chosen)))} of {block_size} tokens each.",
    )


def _mask_panel(axes: Axes, mask: np.ndarray, block_size: int | None) -> None:
    queries, keys = mask.shape
    past = np.tril(np.ones(mask.shape, dtype=bool), k=keys - queries)
    axes.imshow(
        np.where(mask, 2, past.astype(int)),
        cmap=ListedColormap([_FUTURE, _UNREAD, BLUE]),
        vmin=0,
        vmax=2,
        interpolation="nearest",
        extent=(0, keys, queries, 0),
    )
    if block_size:
        for edge in range(block_size, keys, block_size):
            axes.axvline(edge, color=CARD, linewidth=0.8)
        for edge in range(block_size, queries, block_size):
            axes.axhline(edge, color=CARD, linewidth=0.8)
    axes.set_xlabel("key (token)")
    axes.set_xticks([0, keys // 2, keys])
    axes.set_yticks([0, queries // 2, queries])


def _density(mask: np.ndarray) -> float:
    queries, keys = mask.shape
    past = np.tril(np.ones(mask.shape, dtype=bool), k=keys - queries)
    return float((mask & past).sum() / past.sum())


def _tree_row(axes: Axes, row: int, level: TreeLevel) -> None:
    state = np.zeros(level.num_nodes)
    state[list(level.scored)] = 1
    state[list(level.kept)] = 2
    colours = [_UNREAD, _SCORED, BLUE]
    axes.imshow(
        state[None],
        cmap=ListedColormap(colours),
        vmin=0,
        vmax=2,
        extent=(0, 1, row + 0.32, row - 0.32),
        aspect="auto",
        interpolation="nearest",
    )
    if level.num_nodes <= 128:
        for node in range(1, level.num_nodes):
            axes.plot([node / level.num_nodes] * 2, [row - 0.32, row + 0.32], color=CARD, linewidth=0.8)


def _lay_out(
    tokens: Sequence[str], chosen: set[int], block_size: int, columns: int
) -> tuple[list[tuple[int, int, str, int]], int]:
    """Return the text as (line, column, text, token index) runs, a token at most each, and its line count."""
    runs, line, column = [], 0, 0
    for index, token in enumerate(tokens):
        for piece in token.replace("\t", "    ").splitlines(keepends=True) or [token]:
            text = piece.rstrip("\r\n")
            while text or piece.endswith("\n"):
                room = columns - column
                runs.append((line, column, text[:room], index))
                column += len(text[:room])
                text = text[room:]
                if text or piece.endswith("\n"):
                    line, column = line + 1, 0
                if not text:
                    break
    return runs, line + 1


def _text_run(axes: Axes, line: int, column: int, text: str, *, read: bool, is_query: bool) -> None:
    if not text:
        return
    if read or is_query:
        colour = VERMILLION if is_query else "#cfe3f1"
        axes.add_patch(Rectangle((column, line - 0.05), len(text), 1.0, facecolor=colour, linewidth=0))
    ink = CARD if is_query else INK if read else QUIET
    for offset, character in enumerate(text):
        # One by one: the width of a rendered string is not a whole number of columns.
        axes.text(
            column + offset + 0.5,
            line + 0.45,
            character,
            color=ink,
            family="monospace",
            size=9,
            ha="center",
            va="center",
            parse_math=False,
        )


def _swatch(colour: str, name: str) -> Patch:
    return Patch(facecolor=colour, edgecolor=RULE, label=name)
