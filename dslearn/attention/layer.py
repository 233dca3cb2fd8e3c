"""Attention layers: a dense one, and a sparse one that can stand in its place."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from dslearn.attention.cache import AttentionCache
from dslearn.attention.dense import dense_attention
from dslearn.attention.loss import dense_block_mass, selector_loss, spread_mass
from dslearn.attention.rotary import rotate
from dslearn.attention.select import own_blocks, select_blocks
from dslearn.attention.sparse import block_sparse_attention, block_sparse_attention_with_mass
from dslearn.attention.tree import BlockTree

Selector = Literal["tree", "flat", "window", "random"]
Stage = Literal["dense", "warmup", "sparse"]


class DenseAttention(nn.Module):
    """Causal multi-head self-attention with rotary positions: (batch, tokens, dim) → the same.

    Args:
        dim: features a token; ``num_heads`` divides it.
        rope_base: base of the rotary embedding, None for no positions.

    Raises:
        ValueError: if ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, *, rope_base: float | None = 10_000.0) -> None:
        super().__init__()
        if dim < 1 or num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads must divide dim={dim}, both at least 1; got {num_heads}")
        self.dim, self.num_heads, self.rope_base = dim, num_heads, rope_base
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], cache: AttentionCache | None = None
    ) -> Float[Tensor, "batch tokens dim"]:
        """out(attention(q, k, v)); with a cache, ``x`` are the tokens after those it holds."""
        q, k, v = self._project(x, cache)
        return self._merge(dense_attention(q, k, v))

    def new_cache(self, batch_size: int, max_tokens: int, *, dtype=None, device=None) -> AttentionCache:
        """Room for the keys and values of ``max_tokens``, in the parameters' dtype and place unless told."""
        weight = self.qkv.weight
        shape = (batch_size, self.num_heads, self.dim // self.num_heads)
        return AttentionCache(shape, max_tokens, dtype=dtype or weight.dtype, device=device or weight.device)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_heads={self.num_heads}, rope_base={self.rope_base}"

    def _project(self, x: Tensor, cache: AttentionCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries of the new tokens; rotated keys and values of all."""
        start = cache.length if cache else 0
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.num_heads)
        q, k = self._rotate(q, start), self._rotate(k, start)
        return (q, *cache.append(k, v)) if cache else (q, k, v)

    def _rotate(
        self, x: Float[Tensor, "batch heads tokens dim"], start: int
    ) -> Float[Tensor, "batch heads tokens dim"]:
        return x if self.rope_base is None else rotate(x, start=start, base=self.rope_base)

    def _merge(self, heads: Float[Tensor, "batch heads tokens head_dim"]) -> Float[Tensor, "batch tokens dim"]:
        return self.out(rearrange(heads, "b h n d -> b n (h d)"))


class DynamicSparseAttention(DenseAttention):
    """Causal self-attention in which each token reads ``top_k`` key blocks of its own choice.

    A small learned selector of ``rank`` features a head scores key blocks by a bound on their best key; the softmax
    over the chosen blocks is exact. The choice of a token depends on it and the tokens before it alone. A drop-in for
    :class:`DenseAttention`, whose weights it takes as they are.

    ``stage`` says how it runs: ``"dense"`` reads everything; ``"warmup"`` too, and the selector learns where dense
    attention looks; ``"sparse"`` reads the chosen blocks, and the selector learns from the attention among them. After
    a forward pass in training mode ``selector_loss`` holds the loss of the two latter, to be added to one's own.

    Args:
        dim: features a token; ``num_heads`` divides it.
        block_size: keys a block.
        top_k: blocks a token reads, its own included: ``top_k * block_size`` keys.
        selector: ``"tree"`` and ``"flat"`` are learned; ``"window"`` (nearest blocks) and ``"random"`` are baselines.
        rank: index features a head.
        branching: children of a tree node.
        beam: nodes kept a level of the tree; ``top_k`` unless told.
        rope_base: base of the rotary embedding, None for no positions.

    Raises:
        ValueError: if a size does not fit or a name is unknown.

    Source: the two stages are those of DeepSeek-V3.2-Exp (2025, section 2.1); blocks instead of tokens as in MoBA
    (arXiv 2502.13189) and NSA (arXiv 2502.11089).
    """

    selector_loss: Tensor | None = None

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        block_size: int = 64,
        top_k: int = 8,
        selector: Selector = "tree",
        rank: int = 16,
        branching: int = 4,
        beam: int | None = None,
        rope_base: float | None = 10_000.0,
    ) -> None:
        super().__init__(dim, num_heads, rope_base=rope_base)
        if selector not in ("tree", "flat", "window", "random"):
            raise ValueError(f"selector must be 'tree', 'flat', 'window' or 'random'; got {selector!r}")
        if min(block_size, top_k, rank) < 1 or branching < 2:
            raise ValueError(
                "block_size, top_k and rank must be at least 1, branching at least 2; "
                f"got {block_size}, {top_k}, {rank} and {branching}"
            )
        self.block_size, self.top_k, self.selector, self.rank = block_size, top_k, selector, rank
        self.branching, self.beam = branching, beam
        self.index_q = nn.Linear(dim, num_heads * rank, bias=False)
        self.index_k = nn.Linear(dim, num_heads * rank, bias=False)
        self.stage = "sparse"

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], cache: AttentionCache | None = None
    ) -> Float[Tensor, "batch tokens dim"]:
        """out(attention over the chosen blocks); with a cache, ``x`` are the tokens after those it holds."""
        if cache is not None and cache.tree is None:
            raise ValueError("a sparse layer's cache comes from its own new_cache; this one has no block tree")
        q, k, v = self._project(x, cache)
        index_q, tree = self._index(x, cache)
        learning = self.training and cache is None and self.stage != "dense" and self.selector in ("tree", "flat")
        if self.stage != "sparse":
            self.selector_loss = None
            if learning:
                mass = dense_block_mass(q, k, block_size=self.block_size)
                self.selector_loss = selector_loss(index_q, tree, mass)
            return self._merge(dense_attention(q, k, v))
        chosen = self.choose(index_q, tree)
        if not learning:
            self.selector_loss = None
            return self._merge(block_sparse_attention(q, k, v, chosen, block_size=self.block_size))
        mixed, mass = block_sparse_attention_with_mass(q, k, v, chosen, block_size=self.block_size)
        blocks = -(-k.shape[-2] // self.block_size)
        read = spread_mass(chosen, torch.ones_like(mass), blocks) > 0
        self.selector_loss = selector_loss(index_q, tree, spread_mass(chosen, mass, blocks), read)
        return self._merge(mixed)

    @property
    def stage(self) -> Stage:
        """How the layer runs: "dense", "warmup" or "sparse"."""
        return self._stage

    @stage.setter
    def stage(self, stage: Stage) -> None:
        if stage not in get_args(Stage):
            raise ValueError(f"stage must be one of {get_args(Stage)}; got {stage!r}")
        self._stage: Stage = stage

    def choose(
        self, index_q: Float[Tensor, "batch heads queries rank"], tree: BlockTree
    ) -> Int[Tensor, "batch heads queries top_k"]:
        """The key blocks each query reads, own block first, −1 where there are fewer."""
        if self.selector in ("tree", "flat"):
            return select_blocks(
                index_q, tree, block_size=self.block_size, top_k=self.top_k, method=self.selector, beam=self.beam
            )
        own = own_blocks(index_q.shape[-2], tree.tokens, self.block_size, 1, device=index_q.device)
        if self.selector == "window":
            nearest = own[:, None] - torch.arange(self.top_k, device=own.device)
            return nearest.clamp(min=-1).expand(*index_q.shape[:2], -1, -1)
        return _random_blocks(own, self.top_k, tree.tokens, index_q.shape[:2])

    def __getstate__(self) -> dict[str, Any]:
        """All but the last loss: it holds a graph, which cannot be copied, and belongs to one forward pass."""
        return {name: value for name, value in self.__dict__.items() if name != "selector_loss"}

    @torch.no_grad()
    def reading(
        self, x: Float[Tensor, "batch tokens dim"]
    ) -> tuple[Int[Tensor, "batch heads tokens top_k"], Float[Tensor, "batch heads tokens blocks"]]:
        """The blocks each token would read, and how much of its *dense* attention falls on each key block."""
        q, k, _ = self._project(x, None)
        chosen = self.choose(*self._index(x, None))
        return chosen, dense_block_mass(q, k, block_size=self.block_size)

    @torch.no_grad()
    def looking(
        self, x: Float[Tensor, "batch tokens dim"]
    ) -> tuple[
        Float[Tensor, "batch heads tokens rank"],
        Float[Tensor, "batch heads tokens rank"],
        Float[Tensor, "batch heads tokens tokens"],
    ]:
        """The index queries and keys by which each token chooses, and its *dense* attention over all tokens."""
        q, k, _ = self._project(x, None)
        return *self._index_features(x, 0), dense_block_mass(q, k, block_size=1)

    def new_cache(self, batch_size: int, max_tokens: int, *, dtype=None, device=None) -> AttentionCache:
        """Room for keys, values and block tree of ``max_tokens``, in the parameters' dtype and place unless told."""
        cache = super().new_cache(batch_size, max_tokens, dtype=dtype, device=device)
        cache.tree = BlockTree(
            (batch_size, self.num_heads, self.rank),
            max_tokens,
            block_size=self.block_size,
            branching=self.branching,
            dtype=cache.keys.dtype,
            device=cache.keys.device,
        )
        return cache

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, block_size={self.block_size}, top_k={self.top_k}, selector={self.selector!r}"

    def _index(self, x: Tensor, cache: AttentionCache | None) -> tuple[Tensor, BlockTree]:
        """Index queries of the new tokens and the tree of all index keys; the gradient stops at their input."""
        tree = cache.tree if cache else None
        index_q, index_k = self._index_features(x.detach(), tree.tokens if tree else 0)
        if tree is None:
            return index_q, BlockTree.build(index_k, block_size=self.block_size, branching=self.branching)
        tree.append(index_k)
        return index_q, tree

    def _index_features(self, x: Tensor, start: int) -> tuple[Tensor, Tensor]:
        index_q, index_k = (
            self._rotate_half(rearrange(project(x), "b n (h r) -> b h n r", h=self.num_heads), start)
            for project in (self.index_q, self.index_k)
        )
        return index_q, index_k

    def _rotate_half(
        self, x: Float[Tensor, "batch heads tokens rank"], start: int
    ) -> Float[Tensor, "batch heads tokens rank"]:
        """Half of the index features carry positions: a selector can go by content or by distance."""
        turning = self.rank // 4 * 2
        return torch.cat([self._rotate(x[..., :turning], start), x[..., turning:]], dim=-1)


def _random_blocks(
    own: Int[Tensor, " queries"], top_k: int, tokens: int, shape: torch.Size
) -> Int[Tensor, "batch heads queries top_k"]:
    """Own block and past ones drawn without regard to content: the same draw for the same head, query and block."""
    heads = torch.arange(shape.numel(), device=own.device).view(*shape, 1, 1)
    blocks = torch.arange(max(int(own[-1]) + 1, top_k), device=own.device)
    queries = torch.arange(tokens - len(own), tokens, device=own.device)[:, None]
    draw = _hash(heads + _hash(queries + _hash(blocks)))
    draw = draw.masked_fill(blocks == own[:, None], 2**31).masked_fill(blocks > own[:, None], -1)
    best = draw.topk(top_k)
    return best.indices.masked_fill(best.values < 0, -1)


def _hash(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Integers mixed to below 2**31, the same on every device."""
    for _ in range(2):
        x = ((x ^ (x >> 15)) * 73244475) % 2**31
    return x
