"""Block-sparse attention by gathering: each unit of queries copies its key blocks together and attends to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dslearn.attention.precision import LOG2E, in_range, without_autocast

CHUNK = 2**19  # scores held at a time: what stays in a core's cache


@dataclass(frozen=True)
class Layout:
    """Sizes of one call: the queries are the last of the keys' tokens, ``unit`` of them share their key blocks."""

    queries: int
    keys: int
    block_size: int
    unit: int
    top_k: int

    @property
    def before(self) -> int:
        """Tokens of the first query's block that stand before it."""
        return (self.keys - self.queries) % self.block_size

    @property
    def after(self) -> int:
        """Tokens that the last block lacks."""
        return -self.keys % self.block_size

    @property
    def blocks(self) -> int:
        return -(-self.keys // self.block_size)

    @property
    def step(self) -> int:
        """How many units' scores stay in cache together: those of whole blocks."""
        blocks = CHUNK // (self.block_size * self.block_size * self.top_k)
        return max(1, blocks) * (self.block_size // self.unit)

    def in_units(self, x: Float[Tensor, "heads queries dim"]) -> Float[Tensor, "units unit dim"]:
        """One head after the other, each from the start of its first query's block on, in whole blocks."""
        return _pad(x, self.before, self.after).reshape(-1, self.unit, x.shape[-1])

    def in_blocks(self, x: Float[Tensor, "heads keys dim"]) -> Float[Tensor, "blocks numbers"]:
        """A block's keys or values a row, one head after the other."""
        return _pad(x, 0, self.after).reshape(-1, self.block_size * x.shape[-1])

    def late(self, device: torch.device) -> Float[Tensor, "step unit size"]:
        """What is added to scores in the own block: −∞ for keys after the query. (Adding is quicker than filling.)"""
        size = self.block_size
        bias = torch.full((size, size), -torch.inf, device=device).triu(1).view(-1, self.unit, size)
        return bias.repeat(self.step // len(bias), 1, 1)


def _pad(x: Tensor, before: int, after: int) -> Tensor:
    """Zeros around each head's tokens; ``x`` itself where none are needed."""
    return F.pad(x, (0, 0, before, after)) if before or after else x


class _Room:
    """Where keys, values and scores of a chunk of ``units`` lie."""

    def __init__(self, memory: tuple[Tensor, ...], widths: tuple[int, ...], layout: Layout, units: int) -> None:
        blocks, size = units * layout.top_k, layout.block_size
        self.key_rows, self.value_rows, scores = (
            x[: blocks * size * width].view(blocks, -1) for x, width in zip(memory, widths, strict=True)
        )
        self.keys, self.values = (x.view(units, layout.top_k * size, -1) for x in (self.key_rows, self.value_rows))
        self.keys_t, self.scores = self.keys.mT, scores.view(units, layout.unit, -1)
        self.by_block = self.scores.unflatten(-1, (layout.top_k, -1))
        self.own = self.by_block[:, :, 0]


@dataclass(frozen=True)
class _Chunk:
    """Units whose scores stay in cache together."""

    q: Float[Tensor, "units unit dim"]
    k: Float[Tensor, "blocks numbers"]
    v: Float[Tensor, "blocks value_numbers"]
    chosen: Int[Tensor, " units_top_k"]
    late: Float[Tensor, "units unit size"]
    absent: Float[Tensor, "units 1 top_k 1"] | None
    room: _Room

    def scores(self) -> Float[Tensor, "units unit keys"]:
        """q kᵀ / √dim for powers of two; −∞ where a key is later than the query or its block absent."""
        room = self.room
        torch.index_select(self.k, 0, self.chosen, out=room.key_rows)
        room.scores.baddbmm_(self.q, room.keys_t, beta=0, alpha=self.q.shape[-1] ** -0.5 * LOG2E)
        room.own.add_(self.late)
        if self.absent is not None:
            room.by_block.add_(self.absent)
        return room.scores

    def values(self) -> Float[Tensor, "units keys value_dim"]:
        """Of the keys that the scores are of."""
        torch.index_select(self.v, 0, self.chosen, out=self.room.value_rows)
        return self.room.values


def _chunks(
    layout: Layout,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    chosen: Int[Tensor, "heads units top_k"],
    *,
    keep_keys: bool = False,
) -> list[_Chunk]:
    """All heads' units, cut into chunks that use the same memory one after the other: fresh pages cost more than the
    arithmetic done on them. A chunk's values take its keys' place unless ``keep_keys``.
    """
    units, keys, values = layout.in_units(q), layout.in_blocks(k), layout.in_blocks(v)
    chosen = _pad(chosen, layout.before // layout.unit, layout.after // layout.unit)
    missing = (chosen < 0).flatten(0, 1)
    begin = torch.arange(len(chosen), device=q.device)[:, None, None] * layout.blocks
    rows = (chosen.clamp(min=0) + begin).flatten()  # for a missing one a head's first block is read and hidden

    step, dim, value_dim = layout.step, q.shape[-1], v.shape[-1]
    read = min(step, len(units)) * layout.top_k * layout.block_size
    of_keys = units.new_empty(read * (dim if keep_keys else max(dim, value_dim)))
    memory = of_keys, units.new_empty(read * value_dim) if keep_keys else of_keys, units.new_empty(read * layout.unit)
    parts = units.split(step)
    rooms = {n: _Room(memory, (dim, value_dim, layout.unit), layout, n) for n in set(map(len, parts))}
    late, chunks = layout.late(q.device), []
    for here, read, lacking in zip(parts, rows.split(step * layout.top_k), missing.split(step), strict=True):
        absent = None
        if bool(lacking.any()):
            absent = torch.zeros_like(lacking, dtype=q.dtype).masked_fill_(lacking, -torch.inf)[:, None, :, None]
        chunks.append(_Chunk(here, keys, values, read, late[: len(here)], absent, rooms[len(here)]))
    return chunks


class GatheredAttention(torch.autograd.Function):
    """softmax over the chosen blocks; the weights are computed again in the backward pass rather than kept."""

    @staticmethod
    @without_autocast
    def forward(ctx, q, k, v, chosen, layout: Layout):
        wide = torch.promote_types(q.dtype, torch.float32)
        chunks = _chunks(layout, q.to(wide), k.to(wide), v.to(wide), chosen)
        mixed, log_sum = _attend(chunks)
        out = mixed.unflatten(0, (len(q), -1)).flatten(1, 2)[:, layout.before :][:, : layout.queries].to(q.dtype)
        ctx.save_for_backward(q, k, v, chosen, out, log_sum)
        ctx.layout = layout
        return out

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, chosen, out, log_sum = ctx.saved_tensors
        layout: Layout = ctx.layout
        q_, k_, v_, d_out, out = (x.to(log_sum.dtype) for x in (q, k, v, grads[0], out))
        chunks = _chunks(layout, q_, k_, v_, chosen, keep_keys=True)
        dq, dk, dv = _backward(chunks, layout.in_units(d_out), layout.in_units(out), log_sum)
        dq = dq.view(len(q), -1, q.shape[-1])[:, layout.before :][:, : layout.queries]
        dk, dv = (d.view(len(x), -1, x.shape[-1])[:, : layout.keys] for d, x in ((dk, k), (dv, v)))
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None


def _attend(
    chunks: list[_Chunk], *, lower: bool = False
) -> tuple[Float[Tensor, "units unit value_dim"], Float[Tensor, "units unit 1"]]:
    """softmax(q kᵀ / √dim) v, and log2 of the sums that divide it.

    Where powers of the scores as they are lack range, each query's highest score is taken off first: ``lower``.
    """
    units, step = sum(len(chunk.q) for chunk in chunks), len(chunks[0].q)
    room = chunks[0].room
    out = room.values.new_empty(units, room.scores.shape[1], room.values.shape[-1])
    total, highest = (out.new_zeros(*out.shape[:-1], 1) for _ in range(2))
    parts = (x.split(step) for x in (out, total, highest))
    for chunk, mixed, sums, top in zip(chunks, *parts, strict=True):
        weights = chunk.scores()
        if lower:
            weights.sub_(torch.amax(weights, dim=-1, keepdim=True, out=top))
        torch.sum(weights.exp2_(), dim=-1, keepdim=True, out=sums)
        torch.bmm(weights, chunk.values(), out=mixed).div_(sums)
    if not (lower or in_range(total)):
        return _attend(chunks, lower=True)
    return out, torch.log2(total, out=total).add_(highest)


def _backward(
    chunks: list[_Chunk],
    d_out: Float[Tensor, "units unit value_dim"],
    out: Float[Tensor, "units unit value_dim"],
    log_sum: Float[Tensor, "units unit 1"],
) -> tuple[Float[Tensor, "units unit dim"], Float[Tensor, "blocks numbers"], Float[Tensor, "blocks value_numbers"]]:
    """Gradients of the queries, keys and values."""
    dim, first = chunks[0].q.shape[-1], chunks[0]
    dq = d_out.new_empty(*d_out.shape[:-1], dim)
    dk, dv = torch.zeros_like(first.k), torch.zeros_like(first.v)
    parts = (x.split(len(first.q)) for x in (dq, d_out, out, log_sum))
    for chunk, dq_here, d_here, out_here, log_sum_here in zip(chunks, *parts, strict=True):
        weights = chunk.scores().sub_(log_sum_here).exp2_()
        inner = (d_here * out_here).sum(-1, keepdim=True)
        d_scores = torch.bmm(d_here, chunk.values().mT).sub_(inner).mul_(weights).mul_(dim**-0.5)
        torch.bmm(d_scores, chunk.room.keys, out=dq_here)
        # An absent block has weight zero, so a head's first block gets nothing from it.
        dk.index_add_(0, chunk.chosen, torch.bmm(d_scores.mT, chunk.q).view(len(chunk.chosen), -1))
        dv.index_add_(0, chunk.chosen, torch.bmm(weights.mT, d_here).view(len(chunk.chosen), -1))
    return dq, dk, dv
