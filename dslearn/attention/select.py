"""Which key blocks each query reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.attention.tree import BlockTree, search, split_signs

Method = Literal["tree", "flat"]
CHUNK = 2**21  # numbers gathered or scored at a time: what stays in a core's cache


@torch.no_grad()
def select_blocks(
    q: Float[Tensor, "batch heads queries rank"],
    k: Float[Tensor, "batch heads keys rank"] | BlockTree,
    *,
    block_size: int,
    top_k: int,
    query_block: int = 1,
    method: Method = "tree",
    branching: int = 4,
    beam: int | None = None,
) -> Int[Tensor, "batch heads units top_k"]:
    """Choose for every ``query_block`` queries their own key block and the ``top_k - 1`` best complete ones before it.

    A block's score is the largest product its keys could have with the query, judged by their elementwise minimum and
    maximum. ``"flat"`` scores every block, n²/(block_size · query_block) products in all. ``"tree"`` descends from
    groups of blocks and keeps ``beam`` nodes a level, about (n / query_block) · beam · branching · log(n / block_size).

    With ``query_block=1`` the choice is causal: changing a token changes no choice before it. With more, the queries of
    a unit choose together by their mean score, so an early query's keys depend on the later ones of its unit: fit for
    reading a known prompt, not for training a language model.

    Args:
        q: the last ``queries`` tokens' index features.
        k: every token's index features, or their :class:`BlockTree` (``branching`` is then the tree's).
        block_size: keys a block.
        top_k: blocks a query reads, its own included.
        query_block: queries that choose together; divides ``block_size``.
        beam: nodes kept a level; ``top_k`` unless told.

    Returns:
        Block numbers, own block first, then best first; −1 where there are fewer. None twice, none in the future.

    Raises:
        ValueError: if a size does not fit, a name is unknown, shapes disagree, or a score is NaN.
    """
    tree = k if isinstance(k, BlockTree) else BlockTree.build(k, block_size=block_size, branching=branching)
    _check(q, tree, block_size, top_k, query_block, method, beam)
    units = _pool(q, query_block).flatten(0, 1)
    beam = beam or top_k
    chosen = torch.full((*units.shape[:2], top_k), -1, dtype=torch.long, device=q.device)
    chunk = CHUNK // max(1, len(units) * (beam + 1) * tree.branching * units.shape[-1])
    tokens = range(tree.tokens - q.shape[-2], tree.tokens, query_block)

    for part, first in search_parts(tokens, tree, max(1, chunk), beam=beam, whole=method == "flat"):
        *_, leaves = search(tree, units[:, part], tokens[part], first=first, beam=beam)
        best = leaves.scores.topk(min(top_k, leaves.scores.shape[-1]))
        if best.values.isnan().any():
            raise ValueError("a block's score is NaN: q or k holds NaN or infinite values")
        blocks = leaves.nodes.expand_as(leaves.scores).gather(-1, best.indices)
        chosen[:, part, : blocks.shape[-1]] = blocks.masked_fill(best.values == -torch.inf, -1)
    return chosen.unflatten(0, q.shape[:2])


def search_parts(
    tokens: range, tree: BlockTree, chunk: int, *, beam: int, whole: bool = False
) -> Iterator[tuple[slice, int]]:
    """Units that search together, and the level they begin at: the finest one cheap to score whole, in one product.

    It follows from the unit's own block alone: by the tree's size, a choice would depend on how many tokens follow.
    With ``whole`` all begin at the blocks themselves.

    Args:
        tokens: the first token of each unit.
        chunk: most units together.
    """
    cheap = tokens[-1] if whole else 4 * beam * tree.branching
    level, at, span = 0, 0, tree.block_size
    while at < len(tokens):
        end = bisect_left(tokens, (cheap + 1) * span)
        for start in range(at, end, chunk):
            yield slice(start, min(start + chunk, end)), level
        level, at, span = level + 1, end, span * tree.branching


def own_blocks(queries: int, keys: int, block_size: int, query_block: int, *, device=None) -> Int[Tensor, " units"]:
    """The block each unit of queries stands in, the queries being the last of the ``keys`` tokens."""
    return torch.arange(keys - queries, keys, query_block, device=device) // block_size


def _pool(q: Float[Tensor, "batch heads queries rank"], query_block: int) -> Float[Tensor, "batch heads units rank2"]:
    """Signs split, then the mean over the queries that choose together; the last unit may have fewer."""
    if query_block == 1:
        return split_signs(q)
    whole = q.shape[-2] // query_block * query_block
    units = rearrange(q[..., :whole, :], "b h (n unit) r -> b h n unit r", unit=query_block)
    means, positive = units.mean(dim=-2), units.clamp(min=0).mean(dim=-2)
    pooled = torch.cat([positive, means - positive], dim=-1)
    if whole == q.shape[-2]:
        return pooled
    return torch.cat([pooled, split_signs(q[..., whole:, :]).mean(dim=-2, keepdim=True)], dim=-2)


def _check(
    q: Float[Tensor, "batch heads queries rank"],
    tree: BlockTree,
    block_size: int,
    top_k: int,
    query_block: int,
    method: str,
    beam: int | None,
) -> None:
    queries, rank = q.shape[-2:]
    nodes = tree.levels[0]
    if method not in ("tree", "flat"):
        raise ValueError(f"method must be 'tree' or 'flat'; got {method!r}")
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, the query's own block; got {top_k}")
    if tree.block_size != block_size:
        raise ValueError(f"the tree was built over blocks of {tree.block_size} keys, not block_size={block_size}")
    if query_block < 1 or block_size % query_block:
        raise ValueError(f"query_block must divide block_size={block_size}; got {query_block}")
    if beam is not None and beam < top_k - 1:
        raise ValueError(f"a beam of {beam} cannot end in top_k - 1 = {top_k - 1} past blocks")
    if not 0 < queries <= tree.tokens:
        raise ValueError(f"queries are the last of the keys: got {queries} queries and {tree.tokens} keys")
    if (tree.tokens - queries) % query_block:
        raise ValueError(
            f"the first query, token {tree.tokens - queries}, must begin a unit of query_block={query_block}"
        )
    if (*q.shape[:2], 2 * rank) != (*nodes.shape[:2], nodes.shape[-1]):
        raise ValueError(
            f"q and k disagree: q is {tuple(q.shape)}, k has {tuple(nodes.shape[:2])} heads of {nodes.shape[-1] // 2}"
        )
    if q.dtype != nodes.dtype or q.device != nodes.device:
        raise ValueError(f"q is {q.dtype} on {q.device}, k is {nodes.dtype} on {nodes.device}; they must agree")
