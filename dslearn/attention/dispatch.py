"""Block-sparse attention by dispatch: each key block receives the tokens that chose it, as an expert does.

Gathering copies ``top_k`` blocks of keys for every query; with one query a unit that is the whole cost. Turned round,
each key block takes the queries that chose it and multiplies them at once. A past block is complete, so nothing in it
is masked; the own blocks are one batched diagonal. Blocks that about as many queries chose share a batched product:
their queries stand in a table, a row for each block, some rows with empty places at their end.

The partial softmaxes are joined without keeping them apart, since powers of the scores as they are can simply be added.
Only where a query's sum of powers comes near to what its dtype can hold, or near to nothing, is all done again with
each query's highest score taken off first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dslearn.attention.precision import LOG2E, in_range, without_autocast

TABLE = 2**12  # places in a table: what stays in a core's cache
TOGETHER = 2**16  # choices up to which heads are taken together


@dataclass(frozen=True)
class _Heads:
    """A few heads' tokens from the start of the first query's block, in whole blocks, one head after the other."""

    q: Float[Tensor, "tokens dim"]
    k: Float[Tensor, "blocks size dim"]
    v: Float[Tensor, "blocks size value_dim"]
    count: int
    first: int  # own block of a head's first query
    skip: int  # tokens before it in this block
    length: int  # queries a head

    @classmethod
    def of(cls, q: Tensor, k: Tensor, v: Tensor, block_size: int) -> _Heads:
        start = k.shape[1] - q.shape[1]
        skip, rest = start % block_size, -k.shape[1] % block_size
        scaled = _pad(q * (q.shape[-1] ** -0.5 * LOG2E), skip, rest).flatten(0, 1)
        k, v = (_pad(x, 0, rest).reshape(-1, block_size, x.shape[-1]) for x in (k, v))
        return cls(scaled, k, v, len(q), start // block_size, skip, q.shape[1])

    def padded(self, x: Float[Tensor, "heads queries *dim"]) -> Float[Tensor, "tokens *dim"]:
        """Values of the queries as values of the tokens, 0 where there is no query."""
        rest = len(self.q) // self.count - self.skip - self.length
        return _pad(x, self.skip, rest).flatten(0, 1)

    def queries(self, x: Float[Tensor, "tokens *dim"]) -> Float[Tensor, "heads queries *dim"]:
        """Of the tokens' values those of the queries."""
        return x.unflatten(0, (self.count, -1))[:, self.skip : self.skip + self.length]

    def rows(self) -> Int[Tensor, "heads queries"]:
        """Which token each query is."""
        first = torch.arange(0, len(self.q), len(self.q) // self.count, device=self.q.device)
        return first[:, None] + torch.arange(self.skip, self.skip + self.length, device=self.q.device)

    def own(self, x: Float[Tensor, "blocks size dim"]) -> Float[Tensor, "heads own size dim"]:
        """The blocks in which a head's tokens stand."""
        return x.unflatten(0, (self.count, -1))[:, self.first :]

    def by_block(self, x: Float[Tensor, "tokens *dim"]) -> Float[Tensor, "own size *dim"]:
        """The tokens' values, a block's together."""
        return x.unflatten(0, (-1, self.k.shape[1]))

    def own_scores(self) -> Float[Tensor, "own size size"]:
        """Each query's scores in its own block, later keys at −∞."""
        size = self.k.shape[1]
        scores = torch.bmm(self.by_block(self.q), self.own(self.k).flatten(0, 1).mT)
        return scores.add_(torch.full((size, size), -torch.inf, device=scores.device).triu(1))


def _pad(x: Float[Tensor, "heads tokens *dim"], before: int, after: int) -> Float[Tensor, "heads padded *dim"]:
    """Zeros around each head's tokens; ``x`` itself where none are needed."""
    return F.pad(x, (*(0, 0) * (x.ndim - 2), before, after)) if before or after else x


@dataclass(frozen=True)
class _Table:
    """The queries of a few key blocks, equally many places for each: ``places`` of the plan's."""

    blocks: Int[Tensor, " blocks"]
    rows: Int[Tensor, " blocks_width"]
    places: slice

    def take(self, x: Float[Tensor, "tokens *dim"]) -> Float[Tensor, "blocks width *dim"]:
        """What ``x`` has for the query at each place; an empty place has token 0's."""
        return self.split(x.index_select(0, self.rows))

    def split(self, x: Float[Tensor, "blocks_width *dim"]) -> Float[Tensor, "blocks width *dim"]:
        """A value a place, block by block."""
        return x.unflatten(0, (len(self.blocks), -1))


@dataclass(frozen=True)
class _Plan:
    """Which queries go to which key block: ``place`` is where each choice stands, after all of them if it is absent."""

    tables: list[_Table]
    place: Int[Tensor, "heads queries past"]
    places: int

    @classmethod
    def of(cls, heads: _Heads, chosen: Int[Tensor, "heads queries past"]) -> _Plan:
        device, blocks, past = chosen.device, len(heads.k), chosen.shape[-1]
        begin = torch.arange(0, blocks, blocks // heads.count, device=device)
        chosen = torch.where(chosen < 0, -1, chosen + begin[:, None, None])
        narrow = torch.int16 if blocks < 2**15 else torch.int32  # quicker to sort
        block, order = chosen.flatten().to(narrow).sort(stable=True)
        absent, *demand = torch.bincount(block + 1, minlength=blocks + 1).tolist()
        order = order[absent:]

        groups, first, places = [], [0] * blocks, 0
        for members in _of_like_demand(demand):
            start = places
            for member in members:
                first[member], places = places, places + demand[members[0]]
            groups.append((members, slice(start, places)))
        demanded = torch.tensor(demand, device=device)
        shift = torch.tensor(first, device=device) - (demanded.cumsum(0) - demanded)
        place = torch.arange(len(order), device=device) + shift.repeat_interleave(demanded)

        row = heads.rows().flatten()
        rows = order.new_zeros(places).scatter_(0, place, row.index_select(0, order // max(past, 1)))
        tables = [_Table(torch.tensor(members, device=device), rows[part], part) for members, part in groups]
        everywhere = order.new_full((chosen.numel(),), places).scatter_(0, order, place)
        return cls(tables, everywhere.view_as(chosen), places)

    def by_query(self, parts: Float[Tensor, "places dim"]) -> Float[Tensor, "heads queries dim"]:
        """What stands at a query's places, added up; the last part is the absent choices', zero."""
        *shape, past = self.place.shape
        begins = torch.arange(math.prod(shape), device=parts.device) * past
        return F.embedding_bag(self.place.flatten(), parts, begins, mode="sum").unflatten(0, shape)


def _of_like_demand(demand: list[int]) -> Iterator[list[int]]:
    """Blocks that anyone chose, most wanted first, as many together as fit a table of rows as long as the first's."""
    wanted = sorted(filter(demand.__getitem__, range(len(demand))), key=demand.__getitem__, reverse=True)
    while wanted:
        several = max(1, TABLE // demand[wanted[0]])
        yield wanted[:several]
        wanted = wanted[several:]


def _highest(heads: _Heads, plan: _Plan) -> Float[Tensor, " tokens"]:
    """The highest of each query's scores."""
    highest = heads.own_scores().amax(-1).flatten()
    past = highest.new_full((plan.places + 1,), -torch.inf)
    for table in plan.tables:
        scores = torch.bmm(table.take(heads.q), heads.k.index_select(0, table.blocks).mT)
        torch.amax(scores, dim=-1, out=table.split(past[table.places]))
    for scores in past[plan.place].unbind(-1):
        heads.queries(highest).copy_(torch.maximum(heads.queries(highest), scores))
    return highest


def _attend(
    heads: _Heads, plan: _Plan, reference: Float[Tensor, " tokens"] | None = None
) -> tuple[Float[Tensor, "heads queries value_dim"], Float[Tensor, "heads queries top_k"]]:
    """Values summed with weights 2**score, or 2**(score - reference), and the weights' sum over each chosen block."""
    own = heads.own_scores()
    if reference is not None:
        own.sub_(heads.by_block(reference)[..., None])
    mixed = torch.bmm(own.exp2_(), heads.own(heads.v).flatten(0, 1)).flatten(0, 1)
    sums, parts = own.new_zeros(plan.places + 1), own.new_empty(plan.places + 1, heads.v.shape[-1])
    parts[-1] = 0
    for table in plan.tables:
        weights = torch.bmm(table.take(heads.q), heads.k.index_select(0, table.blocks).mT)
        if reference is not None:
            weights.sub_(table.take(reference)[..., None])
        torch.sum(weights.exp2_(), dim=-1, out=table.split(sums[table.places]))
        torch.bmm(weights, heads.v.index_select(0, table.blocks), out=table.split(parts[table.places]))
    mass = torch.cat([heads.queries(own.sum(-1).flatten())[..., None], sums[plan.place]], dim=-1)
    return heads.queries(mixed) + plan.by_query(parts), mass


def _forward(
    heads: _Heads, chosen: Int[Tensor, "heads queries top_k"]
) -> tuple[
    Float[Tensor, "heads queries value_dim"], Float[Tensor, "heads queries top_k"], Float[Tensor, "heads queries"]
]:
    """Output, share of the softmax on each chosen block, and log2 of the sum that divides it."""
    plan = _Plan.of(heads, chosen[..., 1:])
    mixed, mass = _attend(heads, plan)
    total, highest = mass.sum(-1, keepdim=True), 0.0
    if not in_range(total):
        reference = _highest(heads, plan)
        mixed, mass = _attend(heads, plan, reference)
        total, highest = mass.sum(-1, keepdim=True), heads.queries(reference)
    return mixed.div_(total), mass.div_(total), total.squeeze(-1).log2() + highest


class DispatchedAttention(torch.autograd.Function):
    """softmax over the chosen blocks, and how much of it fell on each of them."""

    @staticmethod
    @without_autocast
    def forward(ctx, q, k, v, chosen, block_size: int):
        wide = torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        mass, log_sum = q.new_empty(chosen.shape, dtype=wide), q.new_empty(q.shape[:-1], dtype=wide)
        for part in _together(chosen):
            heads = _Heads.of(q[part].to(wide), k[part].to(wide), v[part].to(wide), block_size)
            for whole, computed in zip((out, mass, log_sum), _forward(heads, chosen[part]), strict=True):
                whole[part] = computed
        ctx.save_for_backward(q, k, v, chosen, out, log_sum)
        ctx.block_size = block_size
        ctx.mark_non_differentiable(mass)
        return out, mass

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, chosen, out, log_sum = ctx.saved_tensors
        wide = log_sum.dtype
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for part in _together(chosen):
            heads = _Heads.of(q[part].to(wide), k[part].to(wide), v[part].to(wide), ctx.block_size)
            gradients = _backward(heads, chosen[part], grads[0][part].to(wide), out[part].to(wide), log_sum[part])
            for whole, computed in zip((dq, dk, dv), gradients, strict=True):
                whole[part] = computed[:, : whole.shape[1]]
        return dq, dk, dv, None, None


def _together(chosen: Int[Tensor, "heads queries top_k"]) -> Iterator[slice]:
    """Heads to be taken at a time: few tokens alone make operations that are too short."""
    several = max(1, TOGETHER // chosen.shape[1:].numel())
    return (slice(at, at + several) for at in range(0, len(chosen), several))


def _backward(
    heads: _Heads,
    chosen: Int[Tensor, "heads queries top_k"],
    grad: Float[Tensor, "heads queries value_dim"],
    out: Float[Tensor, "heads queries value_dim"],
    log_sum: Float[Tensor, "heads queries"],
) -> tuple[Float[Tensor, "heads queries dim"], Float[Tensor, "heads keys dim"], Float[Tensor, "heads keys value_dim"]]:
    """Gradients of the queries, and of the keys and values in whole blocks. The weights are computed again."""
    plan = _Plan.of(heads, chosen[..., 1:])
    divisor = log_sum.new_full((plan.places + 1,), torch.inf)  # of an empty place: its weights become 0
    divisor[plan.place] = log_sum[..., None].expand_as(plan.place)
    inner, grad, log_sum = (heads.padded(x) for x in ((grad * out).sum(-1), grad, log_sum))
    dk, dv = torch.zeros_like(heads.k), torch.zeros_like(heads.v)

    k, v = heads.own(heads.k).flatten(0, 1), heads.own(heads.v).flatten(0, 1)
    q, d_out = heads.by_block(heads.q), heads.by_block(grad)
    weights = heads.own_scores().sub_(heads.by_block(log_sum)[..., None]).exp2_()
    d_scores = torch.bmm(d_out, v.mT).sub_(heads.by_block(inner)[..., None]).mul_(weights)
    dq = heads.queries(torch.bmm(d_scores, k).flatten(0, 1))
    for whole, part in ((dk, torch.bmm(d_scores.mT, q)), (dv, torch.bmm(weights.mT, d_out))):
        heads.own(whole).copy_(part.unflatten(0, (heads.count, -1)))

    parts = dq.new_empty(plan.places + 1, dq.shape[-1])
    parts[-1] = 0
    for table in plan.tables:
        k, v = heads.k.index_select(0, table.blocks), heads.v.index_select(0, table.blocks)
        q, d_out = table.take(heads.q), table.take(grad)
        weights = torch.bmm(q, k.mT).sub_(table.split(divisor[table.places])[..., None]).exp2_()
        d_scores = torch.bmm(d_out, v.mT).sub_(table.take(inner)[..., None]).mul_(weights)
        torch.bmm(d_scores, k, out=table.split(parts[table.places]))
        dk.index_add_(0, table.blocks, torch.bmm(d_scores.mT, q))
        dv.index_add_(0, table.blocks, torch.bmm(weights.mT, d_out))
    dq = (dq + plan.by_query(parts)) * heads.k.shape[-1] ** -0.5
    dk, dv = (x.view(heads.count, -1, x.shape[-1]) for x in (dk / LOG2E, dv))
    return dq, dk, dv
