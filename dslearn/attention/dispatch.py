"""Block-sparse attention by dispatch: each key block receives the tokens that chose it, as an expert does.

Gathering copies ``top_k`` blocks of keys for every query; with one query a unit that is the whole cost. Turned round,
each key block takes the queries that chose it and multiplies them at once. A past block is complete, so nothing in it
is masked; the own blocks are one batched diagonal.

The partial softmaxes are joined without keeping them apart: weights are taken relative to the largest score in the
query's *own* block. The own block then sums to at least one, so nothing underflows; should another score stand so far
above that its power overflows, the reference is replaced by the true maximum and the sum is taken again.
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

LOG2E = math.log2(math.e)  # powers of two are three times as quick as powers of e
LARGEST = 2.0**100  # a sum of weights beyond this asks for a better reference


@dataclass(frozen=True)
class _Head:
    """One head's tokens from the start of the first query's block, in whole blocks; the first ``skip`` are no queries."""

    q: Float[Tensor, "tokens dim"]
    k: Float[Tensor, "blocks size dim"]
    v: Float[Tensor, "blocks size value_dim"]
    first: int
    skip: int

    @classmethod
    def of(cls, q: Tensor, k: Tensor, v: Tensor, block_size: int) -> _Head:
        start = len(k) - len(q)
        skip, rest = start % block_size, -len(k) % block_size
        pad = (0, 0, 0, rest)
        q = F.pad(q * (q.shape[-1] ** -0.5 * LOG2E), (0, 0, skip, rest))
        k = F.pad(k, pad).view(-1, block_size, k.shape[-1])
        v = F.pad(v, pad).view(-1, block_size, v.shape[-1])
        return cls(q, k, v, start // block_size, skip)

    def own_scores(self) -> Float[Tensor, "own size size"]:
        """Each query's scores in its own block, later keys at −∞."""
        size = self.k.shape[1]
        scores = torch.bmm(self.q.view(-1, size, self.q.shape[-1]), self.k[self.first :].mT)
        return scores.masked_fill_(torch.ones(size, size, dtype=torch.bool, device=scores.device).triu(1), -torch.inf)


def _by_block(chosen: Int[Tensor, "queries past"], head: _Head) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each key block that anyone chose: its number, the rows of those queries, and their places in ``chosen``."""
    place = (chosen >= 0).flatten().nonzero().squeeze(-1)
    block = chosen.flatten()[place]
    order = block.argsort(stable=True)
    place = place[order]
    rows = place // chosen.shape[-1] + head.skip
    sizes = torch.bincount(block, minlength=len(head.k)).tolist()
    for number, (row, where) in enumerate(zip(rows.split(sizes), place.split(sizes), strict=True)):
        if len(row):
            yield number, row, where


def _highest(
    head: _Head, chosen: Int[Tensor, "queries past"], own: Float[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """The true maximum of each query's scores, for the rare inputs that need it."""
    highest = own.clone()
    for number, row, _ in _by_block(chosen, head):
        highest[row] = torch.maximum(highest[row], (head.q[row] @ head.k[number].T).amax(-1))
    return highest


def _attend(
    head: _Head,
    chosen: Int[Tensor, "queries past"],
    own: Float[Tensor, "own size size"],
    reference: Float[Tensor, " tokens"],
) -> tuple[Float[Tensor, "tokens value_dim"], Float[Tensor, " tokens"], Float[Tensor, "queries past"]]:
    """Weighted sum of values, sum of weights, and weight of each choice, all relative to 2**reference."""
    own = own.sub_(reference.view(*own.shape[:2], 1)).exp2_()
    total = own.sum(-1).flatten()
    mixed = torch.bmm(own, head.v[head.first :]).flatten(0, 1)
    mass = total.new_zeros(chosen.numel())
    for number, row, where in _by_block(chosen, head):
        weights = (head.q.index_select(0, row) @ head.k[number].T).sub_(reference[row, None]).exp2_()
        part = weights.sum(-1)
        mass[where] = part
        total.index_add_(0, row, part)
        mixed.index_add_(0, row, weights @ head.v[number])
    return mixed, total, mass.view_as(chosen)


class DispatchedAttention(torch.autograd.Function):
    """softmax over the chosen blocks, and how much of it fell on each of them."""

    @staticmethod
    def forward(ctx, q, k, v, chosen, block_size: int):
        wide = torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        log_sum = q.new_empty(q.shape[:-1], dtype=wide)
        mass = q.new_empty(chosen.shape, dtype=wide)
        for i in range(len(q)):
            head = _Head.of(q[i].to(wide), k[i].to(wide), v[i].to(wide), block_size)
            real = slice(head.skip, head.skip + q.shape[1])
            own = head.own_scores()
            reference = own.amax(-1).flatten()
            mixed, total, past = _attend(head, chosen[i, :, 1:], own, reference)
            if not bool((total < LARGEST).all()):
                reference = _highest(head, chosen[i, :, 1:], reference)
                mixed, total, past = _attend(head, chosen[i, :, 1:], head.own_scores(), reference)
            out[i] = (mixed / total[:, None])[real]
            mass[i, :, 1:] = past / total[real, None]
            mass[i, :, 0] = 1 - mass[i, :, 1:].sum(-1)
            log_sum[i] = (reference + total.log2())[real]
        ctx.save_for_backward(q, k, v, chosen, out, log_sum)
        ctx.block_size = block_size
        ctx.mark_non_differentiable(mass)
        return out, mass

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        q, k, v, chosen, out, log_sum = ctx.saved_tensors
        wide = log_sum.dtype
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for i in range(len(q)):
            head = _Head.of(q[i].to(wide), k[i].to(wide), v[i].to(wide), ctx.block_size)
            dq[i], dk[i], dv[i] = _backward_head(
                head, chosen[i, :, 1:], grad[i].to(wide), out[i].to(wide), log_sum[i], keys=k.shape[1]
            )
        return dq, dk, dv, None, None


def _backward_head(head: _Head, chosen, grad, out, log_sum, *, keys: int):
    rest = len(head.q) - head.skip - len(grad)
    grad, log_sum = F.pad(grad, (0, 0, head.skip, rest)), F.pad(log_sum, (head.skip, rest))
    inner = F.pad((grad[head.skip : head.skip + len(out)] * out).sum(-1), (head.skip, rest))
    size, dim = head.k.shape[1:]
    dk, dv = torch.zeros_like(head.k), torch.zeros_like(head.v)

    weights = head.own_scores().sub_(log_sum.view(-1, size, 1)).exp2_()
    d_out = grad.view(-1, size, grad.shape[-1])
    d_scores = (torch.bmm(d_out, head.v[head.first :].mT) - inner.view(-1, size, 1)).mul_(weights)
    dq = torch.bmm(d_scores, head.k[head.first :]).view(-1, dim)
    dk[head.first :] = torch.bmm(d_scores.mT, head.q.view(-1, size, dim))
    dv[head.first :] = torch.bmm(weights.mT, d_out)

    for number, row, _ in _by_block(chosen, head):
        rows, d_out = head.q.index_select(0, row), grad.index_select(0, row)
        weights = (rows @ head.k[number].T).sub_(log_sum[row, None]).exp2_()
        d_scores = (d_out @ head.v[number].T).sub_(inner[row, None]).mul_(weights)
        dq.index_add_(0, row, d_scores @ head.k[number])
        dk[number] += d_scores.T @ rows
        dv[number] += weights.T @ d_out

    scale = dim**-0.5
    return dq[head.skip : head.skip + len(out)] * scale, dk.view(-1, dim)[:keys] / LOG2E, dv.flatten(0, 1)[:keys]
