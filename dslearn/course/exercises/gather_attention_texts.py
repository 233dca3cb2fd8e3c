"""Texts of 01.4, with a choice of blocks for each token, and what is right for them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def gather_attention(
    q: Float[Tensor, "tokens dim"],
    k: Float[Tensor, "tokens dim"],
    v: Float[Tensor, "tokens value_dim"],
    blocks: Int[Tensor, "tokens top_k"],
    block_size: int,
) -> Float[Tensor, "tokens value_dim"]:
    """Token by token, the keys of its blocks up to itself."""
    read = [
        [key for block in row if block >= 0 for key in range(len(k))[block * block_size :][:block_size] if key <= token]
        for token, row in enumerate(blocks.tolist())
    ]
    return attend(q, k, v, read)


def attend(q: Tensor, k: Tensor, v: Tensor, read: list[list[int]]) -> Tensor:
    """Softmax attention of each token over its list of keys."""
    rows = []
    for query, keys in zip(q.double(), read, strict=True):
        scores = k[keys].double() @ query / q.shape[1] ** 0.5
        rows.append((scores - scores.amax()).exp() @ v[keys].double() / (scores - scores.amax()).exp().sum())
    return torch.stack(rows).to(v.dtype)


def build(
    count: int, block_size: int, short_by: int, top_k: int, dim: int, value_dim: int, kind: str, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """A text and its choice.

    Its kind: ``"weights"``, whose values are 0 and 1 and let the weights through; ``"plain"``; ``"damaged"``, with a
    block inside it whose keys and values are NaN, or one of them; ``"large"``, with whole numbers for scores in the
    thousands; ``"low"``, whose scores all lie far below 0.
    """
    generator = torch.Generator().manual_seed(seed)
    count = max(count, 4 + seed % 3) if kind == "damaged" else count
    tokens = count * block_size - min(short_by, block_size - 1)
    blocks = _choice(tokens, block_size, top_k, generator)
    q, k = torch.randn(2, tokens, 4 if kind in ("large", "low") else dim, generator=generator)
    v = torch.eye(tokens) if kind == "weights" else torch.randn(tokens, value_dim, generator=generator)
    if kind == "large":
        q, k = (80 * q).round(), (80 * k).round()
    if kind == "low":
        q, k = (100 + 9 * q).round(), -(120 + 9 * k).round()
    # A right answer may fetch the first block, or the text's last tokens, in place of −1 and give them the weight 0.
    inside = range(1, count - 1 - bool(count * block_size - tokens))
    if kind == "damaged":
        damaged = torch.arange(tokens)[:, None] // block_size == inside[seed // 3 % len(inside)]
        k = k.masked_fill(damaged & (seed % 7 != 1), torch.nan)
        v = v.masked_fill(damaged & (seed % 7 != 2), torch.nan)
    return q, k, v, blocks, block_size


def _choice(tokens: int, block_size: int, top_k: int, generator: torch.Generator) -> Tensor:
    """Own block, some before it in any order, then −1."""
    blocks = torch.full((tokens, top_k), -1)
    for token in range(tokens):
        own = token // block_size
        most = min(own, top_k - 1)
        others = int(torch.randint(most + 1, (2,), generator=generator).amax())
        blocks[token, 0] = own
        blocks[token, 1 : 1 + others] = torch.randperm(own, generator=generator)[:others]
    return blocks
