"""A tree over key blocks whose nodes bound every score below them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor


def split_signs(q: Float[Tensor, "*shape rank"]) -> Float[Tensor, "*shape rank2"]:
    """Positive and negative part side by side, so that a product with a node is the bound q⁺·max + q⁻·min."""
    return torch.cat([q.clamp(min=0), q.clamp(max=0)], dim=-1)


class BlockTree:
    """Elementwise (max, min) of the keys in each complete block, and of each complete group of blocks above.

    ``levels[0]`` holds the blocks, ``levels[l]`` groups of ``branching**l`` of them, ``count(l)`` of each so far. A
    node is a row (max, min) of ``2 * rank`` features; its product with ``split_signs(q)`` is at least ``q·k`` for every
    key ``k`` below it, so a search that follows the best nodes cannot be fooled by averaging. Only complete nodes hold
    anything: what a query may score never depends on tokens after its own block.

    Args:
        shape: (batch, heads, rank) of the keys.
        capacity: tokens it has room for.
        block_size: keys a block.
        branching: nodes a group.

    Raises:
        ValueError: if a size does not fit, or :meth:`append` runs out of room.

    Source: the bound is that of Quest (Tang et al. 2024, arXiv 2406.10774, section 3.2); here it is one for each node.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        capacity: int,
        *,
        block_size: int,
        branching: int = 4,
        dtype=None,
        device=None,
    ) -> None:
        if block_size < 1 or branching < 2 or capacity < 1:
            raise ValueError(
                "a block tree needs block_size >= 1, branching >= 2 and capacity >= 1; "
                f"got {block_size}, {branching} and {capacity}"
            )
        batch, heads, rank = shape
        self.tokens, self.capacity = 0, capacity
        self.block_size, self.branching = block_size, branching
        self.filling = torch.empty(batch, heads, 0, rank, dtype=dtype, device=device)
        self.levels: list[Float[Tensor, "batch heads nodes rank2"]] = []
        size = block_size
        while not self.levels or capacity // size:
            whole_families = (capacity // size // branching + 1) * branching  # room for the node that is being filled
            self.levels.append(torch.zeros(batch, heads, whole_families, 2 * rank, dtype=dtype, device=device))
            size *= branching

    @classmethod
    def build(cls, k: Float[Tensor, "batch heads tokens rank"], *, block_size: int, branching: int = 4) -> BlockTree:
        """The tree over the keys ``k``; differentiable in them."""
        batch, heads, tokens, rank = k.shape
        if not tokens:
            raise ValueError("a block tree is built over at least one token; got an empty sequence")
        tree = cls(
            (batch, heads, rank), tokens, block_size=block_size, branching=branching, dtype=k.dtype, device=k.device
        )
        tree.append(k)
        return tree

    def count(self, level: int) -> int:
        """Complete nodes of a level."""
        return self.tokens // (self.block_size * self.branching**level)

    def append(self, k: Float[Tensor, "batch heads tokens rank"]) -> None:
        """Add the next tokens' keys."""
        if self.tokens + k.shape[-2] > self.capacity:
            raise ValueError(f"the tree has room for {self.capacity} tokens; got {k.shape[-2]} after {self.tokens}")
        before = [self.count(level) for level in range(len(self.levels))]
        keys = torch.cat([self.filling, k], dim=-2) if self.filling.shape[-2] else k
        self.tokens += k.shape[-2]
        whole = keys.shape[-2] // self.block_size * self.block_size
        self.filling = keys[..., whole:, :]
        if not whole:
            return
        self.levels[0][..., before[0] : self.count(0), :] = _pool(keys[..., :whole, :], self.block_size)
        for level in range(1, len(self.levels)):
            old, new = before[level], self.count(level)
            below = self.levels[level - 1][..., old * self.branching : new * self.branching, :]
            self.levels[level][..., old:new, :] = _merge(below, self.branching)

    def scores(
        self, q: Float[Tensor, "batch heads queries rank"], level: int = 0
    ) -> Float[Tensor, "batch heads queries nodes"]:
        """The bound of every complete node of a level, for every query."""
        return split_signs(q) @ self.levels[level][..., : self.count(level), :].mT


def _pool(k: Float[Tensor, "batch heads tokens rank"], block_size: int) -> Float[Tensor, "batch heads blocks rank2"]:
    """(max, min) of each block; taken over eight tokens side by side first, since a wide last axis is much quicker."""
    wide = math.gcd(block_size, 8)
    rows = rearrange(k, "b h (n rows wide) r -> b h n rows (wide r)", rows=block_size // wide, wide=wide)
    top, low = (rearrange(x, "b h n (wide r) -> b h n wide r", wide=wide) for x in (rows.amax(-2), rows.amin(-2)))
    return torch.cat([top.amax(-2), low.amin(-2)], dim=-1)


def _merge(
    nodes: Float[Tensor, "batch heads nodes rank2"], branching: int
) -> Float[Tensor, "batch heads groups rank2"]:
    top, low = rearrange(nodes, "b h (g f) (side r) -> side b h g f r", f=branching, side=2)
    return torch.cat([top.amax(dim=-2), low.amin(dim=-2)], dim=-1)


@dataclass
class Visit:
    """What one step of a search looked at: which ``nodes`` of ``level``, and their ``scores``.

    The node that is still being filled, where the query itself stands, scores +∞: it is always followed. Nodes after
    it score −∞. The rest were computed.
    """

    level: int
    scores: Float[Tensor, "heads queries candidates"]
    nodes: Int[Tensor, "#heads #queries candidates"]


def search(
    tree: BlockTree,
    q: Float[Tensor, "heads queries rank2"],
    tokens: range,
    *,
    first: int,
    beam: int,
) -> Iterator[Visit]:
    """Walk from level ``first`` down to the blocks: score it whole, then the children of the best ``beam`` nodes.

    Args:
        q: queries with their signs split, batch and heads in one axis.
        tokens: where each query stands; it sees the nodes that are complete before its own block.

    Yields:
        a :class:`Visit` a level, coarsest first; the last has the blocks.
    """
    f, span = tree.branching, tree.block_size * tree.branching**first
    token = torch.arange(tokens.start, tokens.stop, tokens.step, device=q.device)[:, None]
    known, width = tokens[0] // span, tokens[-1] // span + 1  # complete for every query; begun for some
    nodes = torch.arange(width, device=q.device).view(1, 1, -1)
    scores = q @ tree.levels[first].flatten(0, 1)[:, :width].mT
    if known + 1 == width:
        scores[..., known] = torch.inf
    else:
        _mark(scores[..., known:], nodes[..., known:], token // span)
    yield Visit(first, scores, nodes)
    for level in range(first - 1, -1, -1):
        best = scores.topk(min(beam + 1, scores.shape[-1]), sorted=False).indices
        parents = nodes.expand_as(scores).gather(-1, best)
        nodes = parents[..., None] * f + torch.arange(f, device=q.device)
        nodes, scores = nodes.flatten(2), _score_children(tree.levels[level].flatten(0, 1), f, q, parents)
        span //= f
        _mark(scores, nodes, token // span)
        yield Visit(level, scores, nodes)


def _score_children(
    nodes: Float[Tensor, "heads nodes rank2"],
    branching: int,
    q: Float[Tensor, "heads queries rank2"],
    parents: Int[Tensor, "heads queries parents"],
) -> Float[Tensor, "heads queries candidates"]:
    families = nodes.unflatten(1, (-1, branching)).flatten(2)
    heads, groups, _ = families.shape
    rows = parents.clamp(max=groups - 1) + torch.arange(0, heads * groups, groups, device=q.device)[:, None, None]
    gathered = families.flatten(0, 1).index_select(0, rows.flatten())
    gathered = gathered.view(*q.shape[:2], -1, q.shape[-1])
    return gathered.mul_(q[:, :, None]).sum(dim=-1)


def _mark(
    scores: Float[Tensor, "heads queries candidates"],
    nodes: Int[Tensor, "#heads #queries candidates"],
    filling: Int[Tensor, "queries 1"],
) -> None:
    """Follow the node that is being filled whatever it holds, and none after it."""
    scores.masked_fill_(nodes == filling, torch.inf).masked_fill_(nodes > filling, -torch.inf)
