"""Block-sparse attention by gathering: each unit of queries copies its key blocks together and attends to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 2**19  # scores held at a time: what stays in a core's cache


@dataclass(frozen=True)
class Layout:
    """Sizes of one call: the queries are the last of the keys' tokens, ``unit`` of them share their key blocks."""

    queries: int
    keys: int
    block_size: int
    unit: int

    @property
    def start(self) -> int:
        """Token of the first query."""
        return self.keys - self.queries


class _Blocks:
    """One head's keys or values as rows of a block each; the last, incomplete one is padded apart, without a copy."""

    def __init__(self, x: Float[Tensor, "tokens dim"], block_size: int) -> None:
        self.shape = (block_size, x.shape[-1])
        self.complete = len(x) // block_size
        whole, rest = x[: self.complete * block_size], x[self.complete * block_size :]
        self.rows = whole.reshape(self.complete, self.shape[0] * self.shape[1])
        self.last = F.pad(rest, (0, 0, 0, -len(rest) % block_size)).flatten()

    def gather(self, chosen: Int[Tensor, "units top_k"]) -> Float[Tensor, "units keys dim"]:
        """The blocks of each unit side by side; the absent block −1 gives some block, for a mask to hide."""
        flat = chosen.clamp(min=0).flatten()
        if self.complete:
            rows = self.rows.index_select(0, flat.clamp(max=self.complete - 1))
        else:
            rows = self.last.expand(len(flat), -1).clone()
        if self.last.numel():
            rows[flat == self.complete] = self.last
        return rows.view(len(chosen), -1, self.shape[-1])


def _chunks(
    q: Float[Tensor, "queries dim"], chosen: Int[Tensor, "units top_k"], layout: Layout
) -> Iterator[tuple[slice, Float[Tensor, "units unit dim"], Int[Tensor, "units top_k"]]]:
    """Units that fit in cache together: the queries they hold, padded to whole units, and their blocks."""
    size = layout.unit
    step = max(1, CHUNK // (size * chosen.shape[-1] * layout.block_size))
    for at in range(0, len(chosen), step):
        part = chosen[at : at + step]
        queries = slice(at * size, min((at + len(part)) * size, layout.queries))
        rows = q[queries]
        yield queries, F.pad(rows, (0, 0, 0, len(part) * size - len(rows))).view(len(part), size, -1), part


def _weights(
    q: Float[Tensor, "units unit dim"],
    k: Float[Tensor, "units keys dim"],
    chosen: Int[Tensor, "units top_k"],
    first: int,
    layout: Layout,
) -> Float[Tensor, "units unit keys"]:
    """softmax(q kᵀ / √dim) over the chosen blocks; ``first`` is the token of the first query."""
    size, block = layout.unit, layout.block_size
    scores = torch.bmm(q * q.shape[-1] ** -0.5, k.mT)
    by_block = scores.view(*scores.shape[:2], -1, block)
    token = first + torch.arange(len(q) * size, device=q.device).view(len(q), size, 1)
    key = torch.arange(block, device=q.device)
    by_block[:, :, 0].masked_fill_(key > token % block, -torch.inf)
    if (chosen < 0).any():
        by_block.masked_fill_((chosen < 0)[:, None, :, None], -torch.inf)
    return torch.softmax(scores, dim=-1, out=None if scores.requires_grad else scores)


class GatheredAttention(torch.autograd.Function):
    """softmax over the chosen blocks; the weights are computed again in the backward pass rather than kept."""

    @staticmethod
    def forward(ctx, q, k, v, chosen, layout: Layout):
        ctx.save_for_backward(q, k, v, chosen)
        ctx.layout = layout
        wide = torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        for i in range(len(q)):
            keys, values = _Blocks(k[i].to(wide), layout.block_size), _Blocks(v[i].to(wide), layout.block_size)
            for queries, rows, part in _chunks(q[i].to(wide), chosen[i], layout):
                weights = _weights(rows, keys.gather(part), part, layout.start + queries.start, layout)
                mixed = torch.bmm(weights, values.gather(part)).flatten(0, 1)
                out[i, queries] = mixed[: queries.stop - queries.start]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, k, v, chosen = ctx.saved_tensors
        layout: Layout = ctx.layout
        wide = torch.promote_types(q.dtype, torch.float32)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for i in range(len(q)):
            dk[i], dv[i] = _backward_head(
                q[i].to(wide), k[i].to(wide), v[i].to(wide), chosen[i], grad[i].to(wide), layout, out=dq[i]
            )
        return dq, dk, dv, None, None


def _backward_head(q, k, v, chosen, grad, layout: Layout, *, out):
    """Gradients of one head's keys and values; the queries' go to ``out``."""
    keys, values = _Blocks(k, layout.block_size), _Blocks(v, layout.block_size)
    blocks = -(-layout.keys // layout.block_size)
    dk = k.new_zeros(blocks, keys.shape[0] * keys.shape[1])
    dv = v.new_zeros(blocks, values.shape[0] * values.shape[1])
    gradients = _chunks(grad, chosen, layout)
    for (queries, rows, part), (_, d_out, _) in zip(_chunks(q, chosen, layout), gradients, strict=True):
        k_part, v_part = keys.gather(part), values.gather(part)
        weights = _weights(rows, k_part, part, layout.start + queries.start, layout)
        d_weights = torch.bmm(d_out, v_part.mT)
        d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdim=True)) * rows.shape[-1] ** -0.5
        out[queries] = torch.bmm(d_scores, k_part).flatten(0, 1)[: queries.stop - queries.start]
        flat = part.clamp(min=0).flatten()  # an absent block has weight zero, so it adds nothing
        dk.index_add_(0, flat, torch.bmm(d_scores.mT, rows).view(len(flat), -1))
        dv.index_add_(0, flat, torch.bmm(weights.mT, d_out).view(len(flat), -1))
    return dk.view(-1, k.shape[-1])[: layout.keys], dv.view(-1, v.shape[-1])[: layout.keys]
