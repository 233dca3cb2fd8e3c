"""What the attention room is held against: the same definitions, written plainly and with other means."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def draw_qkv(
    queries: int, keys: int, *, batch: int = 1, heads: int = 2, dim: int = 6, value_dim: int = 5, seed: int = 0
) -> list[Tensor]:
    return [
        draw(batch, heads, queries, dim, seed=seed),
        draw(batch, heads, keys, dim, seed=seed + 1),
        draw(batch, heads, keys, value_dim, seed=seed + 2),
    ]


def softmax_weights(q: Tensor, k: Tensor, visible: Tensor) -> Tensor:
    """softmax(q kᵀ / √dim) over the visible keys, in float64."""
    scores = torch.einsum("bhqd,bhkd->bhqk", q.double(), k.double()) / q.shape[-1] ** 0.5
    return scores.masked_fill(~visible, -torch.inf).softmax(-1)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    return torch.einsum("bhqk,bhkd->bhqd", softmax_weights(q, k, visible), v.double())


def causal(queries: int, keys: int) -> Tensor:
    """Which keys each of the last ``queries`` tokens may see."""
    return torch.arange(keys) <= torch.arange(keys - queries, keys)[:, None]


def visible_keys(blocks: Tensor, queries: int, keys: int, block_size: int, query_block: int) -> Tensor:
    """(batch, heads, queries, keys): the key's block is among the query's, and the key is not later than it."""
    of_query = blocks.repeat_interleave(query_block, dim=2)[:, :, :queries]
    block_of_key = torch.arange(keys) // block_size
    chosen = (of_query[..., None] == block_of_key).any(dim=-2)
    return chosen & causal(queries, keys)


def random_blocks(
    queries: int, keys: int, block_size: int, query_block: int, top_k: int, *, batch: int = 1, heads: int = 2
) -> Tensor:
    """Any valid choice: own block, then past ones in any order with gaps of −1."""
    generator = torch.Generator().manual_seed(queries + keys + top_k)
    starts = range(keys - queries, keys, query_block)
    blocks = torch.full((batch, heads, len(starts), top_k), -1)
    for row in blocks.flatten(0, 1):
        for unit, start in enumerate(starts):
            own = start // block_size
            row[unit, 0] = own
            past = torch.randperm(own + 2, generator=generator)[: top_k - 1]
            row[unit, 1 : 1 + len(past)] = past.masked_fill(past >= own, -1)
    return blocks


def block_scores(q: Tensor, k: Tensor, block_size: int) -> Tensor:
    """(batch, heads, queries, complete blocks): the largest product a key within the block's box could have."""
    whole = k.shape[2] // block_size
    if not whole:
        return q.new_empty(*q.shape[:3], 0)
    parts = [k[:, :, block_size * i : block_size * (i + 1)] for i in range(whole)]
    corners = [torch.maximum(q * p.amax(2, keepdim=True), q * p.amin(2, keepdim=True)).sum(-1) for p in parts]
    return torch.stack(corners, dim=-1)


def brute_force_blocks(q: Tensor, k: Tensor, block_size: int, top_k: int, query_block: int = 1) -> Tensor:
    """The own block and the best past ones, one unit of queries at a time."""
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    scores = block_scores(q, k, block_size)
    starts = range(keys - queries, keys, query_block)
    chosen = torch.full((batch, heads, len(starts), top_k), -1)
    for b in range(batch):
        for h in range(heads):
            for unit, start in enumerate(starts):
                own = start // block_size
                together = scores[b, h, unit * query_block : (unit + 1) * query_block].mean(0)[:own].tolist()
                best = sorted(range(own), key=lambda block: -together[block])[: top_k - 1]
                chosen[b, h, unit, : 1 + len(best)] = torch.tensor([own, *best])
    return chosen


def changed_at(x: Tensor, token: int, seed: int = 99) -> Tensor:
    """The same sequence with another token at one place (the axis before the last)."""
    other = x.clone()
    other[..., token, :] = 3 * draw(*other[..., token, :].shape, seed=seed, dtype=x.dtype)
    return other
