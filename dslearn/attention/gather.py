"""Block-sparse attention by gathering: each unit of queries copies its key blocks together and attends to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
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


class _Blocks:
    """One head's keys or values as rows of a block each; the last, incomplete one is padded apart, without a copy."""

    def __init__(self, x: Float[Tensor, "tokens dim"], block_size: int) -> None:
        self.complete = len(x) // block_size
        whole, rest = x[: self.complete * block_size], x[self.complete * block_size :]
        self.rows = whole.reshape(self.complete, block_size * x.shape[-1])
        self.last = F.pad(rest, (0, 0, 0, -len(rest) % block_size)).flatten()

    def gather(self, blocks: Int[Tensor, " blocks"], out: Float[Tensor, "blocks numbers"]) -> None:
        """The blocks one after the other."""
        if not len(self.last):
            torch.index_select(self.rows, 0, blocks, out=out)
            return
        if self.complete:
            torch.index_select(self.rows, 0, blocks.clamp(max=self.complete - 1), out=out)
        out[blocks == self.complete] = self.last


class _Room:
    """Where keys, values and scores of a chunk lie: ``units`` units that read ``read`` blocks each."""

    def __init__(self, memory: list[Tensor], layout: Layout, units: int, read: int) -> None:
        self.read = read
        self.key_rows, self.value_rows, scores = (x[: units * read] for x in memory)
        self.keys, self.values = (x.view(units, read * layout.block_size, -1) for x in (self.key_rows, self.value_rows))
        self.keys_t, self.scores = self.keys.mT, scores.view(units, layout.unit, -1)
        self.by_block = self.scores.unflatten(-1, (read, -1))
        self.own = self.by_block[:, :, 0]


@dataclass(frozen=True)
class _Chunk:
    """Units of one head whose scores stay in cache together."""

    q: Float[Tensor, "units unit dim"]
    k: _Blocks
    v: _Blocks
    blocks: Int[Tensor, " units_read"]
    late: Float[Tensor, "units unit size"]
    absent: Float[Tensor, "lacking 1 read 1"]
    room: _Room

    def scores(self) -> Float[Tensor, "units unit keys"]:
        """q kᵀ / √dim for powers of two; −∞ where a key is later than the query or its block absent."""
        room = self.room
        self.k.gather(self.blocks, room.key_rows)
        room.scores.baddbmm_(self.q, room.keys_t, beta=0, alpha=self.q.shape[-1] ** -0.5 * LOG2E)
        room.own.add_(self.late)
        if lacking := len(self.absent):
            room.by_block[:lacking].add_(self.absent)
        return room.scores

    def values(self) -> Float[Tensor, "units keys value_dim"]:
        """Of the keys that the scores are of."""
        self.v.gather(self.blocks, self.room.value_rows)
        return self.room.values


class _Plan:
    """How units are cut into chunks, alike for all heads, and the memory that every chunk uses anew.

    (Fresh pages cost more than the arithmetic done on them.)
    """

    def __init__(self, layout: Layout, q: Tensor, v: Tensor, chosen: Int[Tensor, "heads units top_k"]) -> None:
        self.layout, self.wide = layout, torch.promote_types(q.dtype, torch.float32)
        missing = chosen < 0
        self.blocks = chosen.masked_fill(missing, 0)  # block 0 is read instead and hidden
        self.absent = torch.zeros_like(chosen, dtype=self.wide).masked_fill_(missing, -torch.inf)[:, :, None, :, None]
        self.full_from = max(missing.any(dim=-1).any(dim=0).nonzero().flatten().tolist(), default=-1) + 1

        # The first units of a text have few blocks before them: apart, they need only half of the columns.
        half = layout.top_k // 2
        few = int(missing[..., half:].all(dim=-1).all(dim=0).long().cumprod(0).sum()) if half else 0
        shapes = []
        for begin, end, read in ((0, few, half), (few, layout.units, layout.top_k)):
            shapes += [(min(layout.step, end - at), read) for at in range(begin, end, layout.step)]
        self.sizes = [units for units, _ in shapes]

        rows = min(layout.units, layout.step) * layout.top_k
        widths = q.shape[-1], v.shape[-1], layout.unit
        memory = [q.new_empty(rows, layout.block_size * width, dtype=self.wide) for width in widths]
        rooms = {shape: _Room(memory, layout, *shape) for shape in set(shapes)}
        self.rooms, self.late = [rooms[shape] for shape in shapes], layout.late(q.device)

    def split(self, x: Shaped[Tensor, "units *rest"]) -> tuple[Tensor, ...]:
        """What belongs to each chunk."""
        return x.split(self.sizes)

    def chunks(
        self,
        head: int,
        q: Float[Tensor, "queries dim"],
        k: Float[Tensor, "keys dim"],
        v: Float[Tensor, "keys value_dim"],
    ) -> list[_Chunk]:
        """One head's."""
        units = _in_units(q.to(self.wide), self.layout)
        keys, values = (_Blocks(x.to(self.wide), self.layout.block_size) for x in (k, v))
        parts = map(self.split, (units, self.late, self.blocks[head], self.absent[head]))
        chunks, end = [], 0
        for room, here, late, blocks, absent in zip(self.rooms, *parts, strict=True):
            lacking = absent[: max(0, self.full_from - end), :, : room.read]
            chunks.append(_Chunk(here, keys, values, blocks[:, : room.read].flatten(), late, lacking, room))
            end += len(here)
        return chunks


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
        plan = _Plan(layout, q, v, chosen)
        out = q.new_empty(len(q), layout.units, layout.unit, v.shape[-1], dtype=plan.wide)
        log_sum = out.new_empty(*out.shape[:-1], 1)
        for i in range(len(q)):
            chunks = plan.chunks(i, q[i], k[i], v[i])
            _attend(plan, chunks, out[i], log_sum[i])
        out = out.flatten(1, 2)[:, : layout.queries].to(q.dtype)
        ctx.save_for_backward(q, k, v, chosen, out, log_sum)
        ctx.layout = layout
        return out

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, chosen, out, log_sum = ctx.saved_tensors
        plan = _Plan(ctx.layout, q, v, chosen)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for i in range(len(q)):
            gradients = _backward(plan, plan.chunks(i, q[i], k[i], v[i]), grads[0][i], out[i], log_sum[i])
            for whole, part in zip((dq, dk, dv), gradients, strict=True):
                whole[i] = part[: whole.shape[1]]
        return dq, dk, dv, None, None


def _attend(
    plan: _Plan,
    chunks: list[_Chunk],
    out: Float[Tensor, "units unit value_dim"],
    log_sum: Float[Tensor, "units unit 1"],
    *,
    lower: bool = False,
) -> None:
    """One head's softmax(q kᵀ / √dim) v, and log2 of the sums that divide it.

    Where powers of the scores as they are lack range, each query's highest score is taken off first: ``lower``.
    """
    total, highest = torch.empty_like(log_sum), torch.zeros_like(log_sum)
    parts = map(plan.split, (out, total, highest))
    for chunk, mixed, sums, top in zip(chunks, *parts, strict=True):
        weights = chunk.scores()
        if lower:
            weights.sub_(torch.amax(weights, dim=-1, keepdim=True, out=top))
        torch.sum(weights.exp2_(), dim=-1, keepdim=True, out=sums)
        torch.bmm(weights, chunk.values(), out=mixed)
    if not (lower or in_range(total)):
        _attend(plan, chunks, out, log_sum, lower=True)
        return
    out.div_(total)
    torch.log2(total, out=log_sum).add_(highest)


def _backward(
    plan: _Plan,
    chunks: list[_Chunk],
    grad: Float[Tensor, "queries value_dim"],
    out: Float[Tensor, "queries value_dim"],
    log_sum: Float[Tensor, "units unit 1"],
) -> tuple[Float[Tensor, "rows dim"], Float[Tensor, "keys dim"], Float[Tensor, "keys value_dim"]]:
    """Gradients of one head's queries, in whole units, and of its keys and values, in whole blocks."""
    layout, dim, value_dim = plan.layout, chunks[0].q.shape[-1], out.shape[-1]
    grad = grad.to(plan.wide)
    inner = _in_units((grad * out).sum(-1, keepdim=True), layout)
    grad = _in_units(grad, layout)
    blocks = -(-layout.keys // layout.block_size)
    dq = grad.new_empty(layout.units, layout.unit, dim)
    dk, dv = (grad.new_zeros(blocks, layout.block_size * width) for width in (dim, value_dim))
    parts = map(plan.split, (dq, grad, inner, log_sum))
    for chunk, dq_here, d_out, inner_here, log_sum_here in zip(chunks, *parts, strict=True):
        weights = chunk.scores().sub_(log_sum_here).exp2_()
        d_scores = torch.bmm(d_out, chunk.values().mT).sub_(inner_here).mul_(weights).mul_(dim**-0.5)
        torch.bmm(d_scores, chunk.room.keys, out=dq_here)
        # An absent block has weight zero, so block 0 gets nothing from it.
        dk.index_add_(0, chunk.blocks, torch.bmm(d_scores.mT, chunk.q).view(len(chunk.blocks), -1))
        dv.index_add_(0, chunk.blocks, torch.bmm(weights.mT, d_out).view(len(chunk.blocks), -1))
    return dq.flatten(0, 1), dk.view(-1, dim), dv.view(-1, value_dim)
