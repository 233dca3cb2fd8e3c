"""Block-sparse attention by gathering: each unit of queries copies its key blocks together and attends to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dslearn.attention.precision import without_autocast

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
    def units(self) -> int:
        return -(-self.queries // self.unit)

    @property
    def step(self) -> int:
        """How many units' scores stay in cache together."""
        return max(1, CHUNK // (self.unit * self.top_k * self.block_size))

    def late(self, device: torch.device) -> Float[Tensor, "units unit size"]:
        """What is added to scores in the own block: −∞ for keys after the query. (Adding is quicker than filling.)"""
        first = self.keys - self.queries
        token = torch.arange(first, first + self.block_size, device=device)  # then it repeats
        key = torch.arange(self.block_size, device=device)
        bias = torch.zeros(self.block_size, self.block_size, device=device)
        bias.masked_fill_(key > token[:, None] % self.block_size, -torch.inf)
        periods = -(-self.units * self.unit // self.block_size)
        by_unit = bias.view(-1, self.unit, self.block_size)
        return by_unit.expand(periods, *by_unit.shape).flatten(0, 1)[: self.units]


@dataclass(frozen=True)
class Scratch:
    """Memory that every chunk uses anew: fresh pages cost more than the arithmetic done on them."""

    keys: Float[Tensor, " key_numbers"]
    values: Float[Tensor, " value_numbers"]
    scores: Float[Tensor, " score_numbers"]

    @classmethod
    def of(cls, layout: Layout, q: Tensor, v: Tensor) -> Scratch:
        rows = min(layout.units, layout.step) * layout.top_k * layout.block_size
        wide = torch.promote_types(q.dtype, torch.float32)
        sizes = (rows * q.shape[-1], rows * v.shape[-1], rows * layout.unit)
        return cls(*(torch.empty(size, dtype=wide, device=q.device) for size in sizes))


class _Blocks:
    """One head's keys or values as rows of a block each; the last, incomplete one is padded apart, without a copy."""

    def __init__(self, x: Float[Tensor, "tokens dim"], block_size: int) -> None:
        self.dim, self.size = x.shape[-1], block_size * x.shape[-1]
        self.complete = len(x) // block_size
        whole, rest = x[: self.complete * block_size], x[self.complete * block_size :]
        self.rows = whole.reshape(self.complete, self.size)
        self.last = F.pad(rest, (0, 0, 0, -len(rest) % block_size)).flatten()

    def gather(self, blocks: Int[Tensor, " blocks"], scratch: Tensor) -> Float[Tensor, "keys dim"]:
        """The blocks one after the other."""
        rows = scratch[: len(blocks) * self.size].view(len(blocks), -1)
        if not len(self.last):
            torch.index_select(self.rows, 0, blocks, out=rows)
            return rows.view(-1, self.dim)
        if self.complete:
            torch.index_select(self.rows, 0, blocks.clamp(max=self.complete - 1), out=rows)
        rows[blocks == self.complete] = self.last
        return rows.view(-1, self.dim)


class _Head:
    """One head's units of queries with the keys and values they read, a cacheful at a time."""

    def __init__(
        self,
        q: Float[Tensor, "queries dim"],
        k: Float[Tensor, "keys dim"],
        v: Float[Tensor, "keys value_dim"],
        chosen: Int[Tensor, "units top_k"],
        layout: Layout,
    ) -> None:
        self.layout = layout
        self.q = _in_units(q, layout)
        self.k, self.v = _Blocks(k, layout.block_size), _Blocks(v, layout.block_size)
        self.blocks = chosen.clamp(min=0)  # an absent block −1 reads block 0 and is hidden
        lacking = (chosen < 0).any(dim=-1).nonzero()
        full_from = int(lacking[-1]) + 1 if len(lacking) else 0
        self.absent = torch.zeros_like(chosen[:full_from], dtype=q.dtype).masked_fill_(
            chosen[:full_from] < 0, -torch.inf
        )
        # The first units of a text have few blocks before them: apart, they need only half of the columns.
        self.half = layout.top_k // 2
        self.few = int((chosen[:, self.half :] < 0).all(dim=-1).long().cumprod(0).sum()) if self.half else 0

    def chunks(self) -> Iterator[slice]:
        """The units, as many at a time as stay in cache."""
        units, step = len(self.q), self.layout.step
        for begin, end in ((0, self.few), (self.few, units)):
            yield from (slice(at, min(at + step, end)) for at in range(begin, end, step))

    def blocks_of(self, part: slice) -> Int[Tensor, "units read"]:
        """The blocks that a chunk reads."""
        return self.blocks[part, : self.half] if part.stop <= self.few else self.blocks[part]

    def read(self, part: slice, scratch: Scratch) -> tuple[Float[Tensor, "units keys dim"], Tensor]:
        """Keys and values of the units' blocks."""
        flat, units = self.blocks_of(part).flatten(), part.stop - part.start
        keys, values = self.k.gather(flat, scratch.keys), self.v.gather(flat, scratch.values)
        return keys.view(units, -1, self.k.dim), values.view(units, -1, self.v.dim)

    def weights(
        self, part: slice, k: Float[Tensor, "units keys dim"], late: Tensor, scratch: Tensor
    ) -> Float[Tensor, "units unit keys"]:
        """softmax(q kᵀ / √dim) over the units' blocks."""
        q, size = self.q[part], self.layout.block_size
        scores = scratch[: len(q) * q.shape[1] * k.shape[1]].view(len(q), q.shape[1], -1)
        scores.baddbmm_(q, k.mT, beta=0, alpha=self.k.dim**-0.5)
        by_block = scores.unflatten(-1, (-1, size))
        by_block[:, :, 0].add_(late[part])
        if len(absent := self.absent[part]):
            by_block[: len(absent)].add_(absent[:, None, : by_block.shape[2], None])
        return torch.softmax(scores, dim=-1, out=scores)


def _in_units(x: Float[Tensor, "queries dim"], layout: Layout) -> Float[Tensor, "units unit dim"]:
    """Rows grouped by unit, the last one filled up with zeros."""
    if missing := layout.units * layout.unit - len(x):
        x = F.pad(x, (0, 0, 0, missing))
    return x.view(layout.units, layout.unit, -1)


class GatheredAttention(torch.autograd.Function):
    """softmax over the chosen blocks; the weights are computed again in the backward pass rather than kept."""

    @staticmethod
    @without_autocast
    def forward(ctx, q, k, v, chosen, layout: Layout):
        ctx.save_for_backward(q, k, v, chosen)
        ctx.layout = layout
        wide = torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty(len(q), layout.units, layout.unit, v.shape[-1], dtype=wide)
        scratch, late = Scratch.of(layout, q, v), layout.late(q.device)
        for i in range(len(q)):
            head = _Head(q[i].to(wide), k[i].to(wide), v[i].to(wide), chosen[i], layout)
            for part in head.chunks():
                keys, values = head.read(part, scratch)
                torch.bmm(head.weights(part, keys, late, scratch.scores), values, out=out[i, part])
        return out.flatten(1, 2)[:, : layout.queries].to(q.dtype)

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, chosen = ctx.saved_tensors
        layout: Layout = ctx.layout
        wide = torch.promote_types(q.dtype, torch.float32)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        scratch, late = Scratch.of(layout, q, v), layout.late(q.device)
        for i in range(len(q)):
            head = _Head(q[i].to(wide), k[i].to(wide), v[i].to(wide), chosen[i], layout)
            gradients = _backward_head(head, grads[0][i].to(wide), late, scratch)
            for total, part in zip((dq, dk, dv), gradients, strict=True):
                total[i] = part[: total.shape[1]]
        return dq, dk, dv, None, None


def _backward_head(
    head: _Head, grad: Float[Tensor, "queries value_dim"], late: Tensor, scratch: Scratch
) -> tuple[Float[Tensor, "rows dim"], Float[Tensor, "keys dim"], Float[Tensor, "keys value_dim"]]:
    """Gradients of one head's queries, in whole units, and of its keys and values, in whole blocks."""
    layout = head.layout
    blocks = -(-layout.keys // layout.block_size)
    dq, grad = torch.empty_like(head.q), _in_units(grad, layout)
    dk, dv = grad.new_zeros(blocks, head.k.size), grad.new_zeros(blocks, head.v.size)
    for part in head.chunks():
        keys, values = head.read(part, scratch)
        weights = head.weights(part, keys, late, scratch.scores)
        d_weights = torch.bmm(grad[part], values.mT)
        inner = (weights * d_weights).sum(-1, keepdim=True)
        d_scores = d_weights.sub_(inner).mul_(weights).mul_(head.k.dim**-0.5)
        torch.bmm(d_scores, keys, out=dq[part])
        flat = head.blocks_of(part).flatten()  # an absent block has weight zero, so block 0 gets nothing from it
        dk.index_add_(0, flat, torch.bmm(d_scores.mT, head.q[part]).view(len(flat), -1))
        dv.index_add_(0, flat, torch.bmm(weights.mT, grad[part]).view(len(flat), -1))
    return dq.flatten(0, 1), dk.view(-1, head.k.dim), dv.view(-1, head.v.dim)
