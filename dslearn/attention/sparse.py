"""Exact causal attention over chosen key blocks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.attention.dense import dense_attention
from dslearn.attention.dispatch import DispatchedAttention
from dslearn.attention.gather import GatheredAttention, Layout
from dslearn.attention.select import own_blocks


def block_sparse_attention(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys value_dim"],
    blocks: Int[Tensor, "batch heads units top_k"],
    *,
    block_size: int,
    query_block: int = 1,
) -> Float[Tensor, "batch heads queries value_dim"]:
    """softmax(q kᵀ / √dim) v over the keys of the chosen blocks that are not later than the query.

    The softmax is exact: the same as dense attention with every other key masked out. With fewer queries than keys the
    queries are the *last* tokens, as in decoding against a cache. Half precision is computed in single.

    Cost: 4 · queries · top_k · block_size · dim operations a head and O(keys) memory, forward and backward; with
    ``query_block=1``, a value for each choice of one head besides, queries · top_k · value_dim numbers.

    Args:
        blocks: for each ``query_block`` queries the key blocks they read, from :func:`select_blocks`: own block first,
            −1 for none.
        block_size: keys a block.
        query_block: queries that share their blocks; divides ``block_size``.

    Raises:
        ValueError: if shapes, dtypes or devices disagree, a block lies in the future or stands twice, the own block is
            not first, or the result is NaN or infinite.
    """
    _check_tensors(q, k, v)
    _check_blocks(q, k, blocks, block_size, query_block)
    if not q.shape[:2].numel():
        return dense_attention(q, k, v)
    flat = (q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), blocks.flatten(0, 1))
    if query_block == 1:
        few = q.shape[-2] <= block_size
        out = _attend_few(*flat, block_size) if few else DispatchedAttention.apply(*flat, block_size)[0]
    else:
        out = GatheredAttention.apply(
            *flat, Layout(q.shape[-2], k.shape[-2], block_size, query_block, blocks.shape[-1])
        )
    return _finite(out).unflatten(0, q.shape[:2])


def block_sparse_attention_with_mass(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys value_dim"],
    blocks: Int[Tensor, "batch heads queries top_k"],
    *,
    block_size: int,
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries top_k"]]:
    """:func:`block_sparse_attention` of single queries, and how much of each softmax falls on each chosen block.

    The masses sum to one over a query's blocks and carry no gradient: a selector learns from them.
    """
    _check_tensors(q, k, v)
    _check_blocks(q, k, blocks, block_size, 1)
    out, mass = DispatchedAttention.apply(*(x.flatten(0, 1) for x in (q, k, v, blocks)), block_size)
    return _finite(out).unflatten(0, q.shape[:2]), mass.unflatten(0, q.shape[:2])


def _attend_few(
    q: Float[Tensor, "heads queries dim"],
    k: Float[Tensor, "heads keys dim"],
    v: Float[Tensor, "heads keys value_dim"],
    chosen: Int[Tensor, "heads queries top_k"],
    block_size: int,
) -> Float[Tensor, "heads queries value_dim"]:
    """The formula itself for a few queries, as in decoding: all heads' chosen blocks are gathered at once."""
    queries, keys = q.shape[1], k.shape[1]
    size = min(block_size, keys)
    # A block cut short by the end is read from before its first key.
    start = (chosen * block_size).clamp(0, keys - size)
    key = start[..., None] + torch.arange(size, device=q.device)
    query = torch.arange(keys - queries, keys, device=q.device)[:, None, None]
    visible = (key // block_size == chosen[..., None]) & (key <= query)
    with torch.autocast(q.device.type, enabled=False):
        wide = torch.promote_types(q.dtype, torch.float32)
        k, v = (x.to(wide) for x in _windows(k, v, start, size))
        visible = visible.flatten(2)[:, :, None]
        return F.scaled_dot_product_attention(q.to(wide)[:, :, None], k, v, attn_mask=visible).squeeze(2).to(q.dtype)


def _windows(
    k: Float[Tensor, "heads keys dim"],
    v: Float[Tensor, "heads keys value_dim"],
    start: Int[Tensor, "heads queries top_k"],
    size: int,
) -> list[Tensor]:
    """``size`` keys and values from each start on, each (heads, queries, top_k · size, its dim).

    All heads share one index, since in a cache, too, heads lie whole tokens apart.
    """
    apart = k.stride(0) // k.shape[-1]
    if any(x.stride() != (apart * x.shape[-1], x.shape[-1], 1) for x in (k, v)):
        k, v, apart = k.contiguous(), v.contiguous(), k.shape[1]
    heads, keys, _ = k.shape
    index = (start + apart * torch.arange(heads, device=k.device)[:, None, None]).flatten()
    read = []
    for x in (k, v):
        dim = x.shape[-1]
        windows = x.as_strided(((heads - 1) * apart + keys - size + 1, size * dim), (dim, 1))
        read.append(windows.index_select(0, index).view(heads, start.shape[1], -1, dim))
    return read


def _finite(out: Tensor) -> Tensor:
    if not math.isfinite(out.detach().sum(dtype=torch.float32 if out.dtype.itemsize < 4 else None)):
        raise ValueError("attention is not finite: q, k or v holds NaN or infinite values")
    return out


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    if len({x.dtype for x in (q, k, v)}) > 1 or len({x.device for x in (q, k, v)}) > 1:
        given = ", ".join(f"{name} {x.dtype} on {x.device}" for name, x in zip("qkv", (q, k, v), strict=True))
        raise ValueError(f"q, k and v must share one dtype and one device; got {given}")
    if not q.is_floating_point():
        raise ValueError(f"attention needs floating-point tensors; got {q.dtype}")
    if q.shape[:2] != k.shape[:2] or q.shape[-1] != k.shape[-1] or k.shape[:3] != v.shape[:3]:
        raise ValueError(f"q, k and v disagree: {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}")
    if not 0 < q.shape[-2] <= k.shape[-2]:
        raise ValueError(f"queries are the last of the keys: got {q.shape[-2]} queries and {k.shape[-2]} keys")


def _check_blocks(q: Tensor, k: Tensor, blocks: Tensor, block_size: int, query_block: int) -> None:
    if block_size < 1 or query_block < 1 or block_size % query_block:
        raise ValueError(f"query_block must divide block_size={block_size}; got {query_block}")
    if (k.shape[-2] - q.shape[-2]) % query_block:
        first = k.shape[-2] - q.shape[-2]
        raise ValueError(f"the first query, token {first}, must begin a unit of query_block={query_block}")
    own = own_blocks(q.shape[-2], k.shape[-2], block_size, query_block, device=q.device)
    if blocks.device != q.device or blocks.dtype != torch.long:
        raise ValueError(f"blocks must be int64 on {q.device}; got {blocks.dtype} on {blocks.device}")
    if blocks.shape[:3] != (*q.shape[:2], len(own)) or blocks.shape[-1] < 1:
        raise ValueError(f"blocks must be {(*q.shape[:2], len(own), 'top_k')}; got {tuple(blocks.shape)}")
    falling = blocks.sort(dim=-1, descending=True).values
    once = falling[..., 1:] < falling[..., :-1].clamp(min=0)
    first = (blocks[..., 0] == own) & (falling[..., 0] == own) & (falling[..., -1] >= -1)
    if not bool(first.all() and once.all()):
        raise ValueError(_wrong(blocks, own))


def _wrong(blocks: Tensor, own: Tensor) -> str:
    """What is wrong with a choice."""
    if not bool((blocks[..., 0] == own).all()):
        return "blocks[..., 0] must be each query's own block"
    past = blocks[..., 1:]
    if bool(((past >= own[:, None]) | (past < -1)).any()):
        return "blocks[..., 1:] must be earlier than the own block, or -1 for none"
    return "a block stands twice among a query's blocks: its keys would count twice"
