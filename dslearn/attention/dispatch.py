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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dslearn.attention.precision import without_autocast
from dslearn.attention.threads import side_by_side, threads_for

LOG2E = math.log2(math.e)  # powers of two are three times as quick as powers of e
SHARED = 2**20  # scores a head from which on heads side by side are quicker than one after the other
LARGEST = 2.0**100  # a sum of weights beyond this asks for a better reference


@dataclass(frozen=True)
class _Head:
    """One head's tokens from the start of the first query's block, in whole blocks; the first ``skip`` are none."""

    q: Float[Tensor, "tokens dim"]
    k: Float[Tensor, "blocks size dim"]
    v: Float[Tensor, "blocks size value_dim"]
    first: int
    skip: int

    @classmethod
    def of(cls, q: Tensor, k: Tensor, v: Tensor, block_size: int) -> _Head:
        start = len(k) - len(q)
        skip, rest = start % block_size, -len(k) % block_size
        q = _pad(q * (q.shape[-1] ** -0.5 * LOG2E), skip, rest)
        k = _pad(k, 0, rest).unflatten(0, (-1, block_size))
        v = _pad(v, 0, rest).unflatten(0, (-1, block_size))
        return cls(q, k, v, start // block_size, skip)

    def own_scores(self) -> Float[Tensor, "own size size"]:
        """Each query's scores in its own block, later keys at −∞."""
        size = self.k.shape[1]
        scores = torch.bmm(self.q.view(-1, size, self.q.shape[-1]), self.k[self.first :].mT)
        return scores.add_(torch.full((size, size), -torch.inf, device=scores.device).triu(1))


def _pad(x: Float[Tensor, "tokens *dim"], before: int, after: int) -> Float[Tensor, "padded *dim"]:
    """Rows of zeros around ``x``; ``x`` itself where none are needed."""
    return F.pad(x, (*(0, 0) * (x.ndim - 1), before, after)) if before or after else x


@dataclass(frozen=True)
class _Plan:
    """Which queries go to which key block: ``order`` sorts the choices by block, ``rows`` are their queries."""

    order: Int[Tensor, " choices"]
    rows: Int[Tensor, " choices"]
    sizes: list[int]

    @classmethod
    def of(cls, chosen: Int[Tensor, "queries past"], head: _Head) -> _Plan:
        block, order = chosen.flatten().sort(stable=True)
        absent, *sizes = torch.bincount(block + 1, minlength=len(head.k) + 1).tolist()
        order = order[absent:]
        return cls(order, order // max(chosen.shape[-1], 1) + head.skip, sizes)

    def split(self, by_choice: Tensor | None = None) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each key block that anyone chose: its number, its queries' rows, and its part of a tensor by choice."""
        rows = self.rows.split(self.sizes)
        parts = rows if by_choice is None else by_choice.split(self.sizes)
        return (
            (number, row, part)
            for number, (row, part) in enumerate(zip(rows, parts, strict=True))
            if self.sizes[number]
        )


def _highest(head: _Head, plan: _Plan, own: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """The true maximum of each query's scores, for the rare inputs that need it."""
    highest = own.clone()
    for number, rows, _ in plan.split():
        highest[rows] = torch.maximum(highest[rows], (head.q[rows] @ head.k[number].T).amax(-1))
    return highest


def _attend(
    head: _Head, plan: _Plan, reference: Float[Tensor, " tokens"]
) -> tuple[Float[Tensor, "tokens value_dim"], Float[Tensor, " tokens"], Float[Tensor, " choices"]]:
    """Weighted sum of values, and the weights of the own block and of each choice, all relative to 2**reference."""
    own = head.own_scores().sub_(reference.view(-1, head.k.shape[1], 1)).exp2_()
    mixed = torch.bmm(own, head.v[head.first :]).flatten(0, 1)
    mass = own.new_empty(len(plan.rows))
    keys, values = head.k.mT.unbind(), head.v.unbind()
    for number, rows, part in plan.split(mass):
        weights = (head.q.index_select(0, rows) @ keys[number]).sub_(reference[rows, None]).exp2_()
        torch.sum(weights, dim=-1, out=part)
        mixed.index_add_(0, rows, weights @ values[number])
    return mixed, own.sum(-1).flatten(), mass


def _forward_head(
    head: _Head, chosen: Int[Tensor, "queries top_k"]
) -> tuple[Float[Tensor, "queries value_dim"], Float[Tensor, "queries top_k"], Float[Tensor, " queries"]]:
    """Output, share of the softmax on each chosen block, and log2 of the sum that divides it."""
    plan = _Plan.of(chosen[:, 1:], head)
    reference = head.own_scores().amax(-1).flatten()
    mixed, own, past = _attend(head, plan, reference)
    if not bool((past < LARGEST).all()):
        reference = _highest(head, plan, reference)
        mixed, own, past = _attend(head, plan, reference)
    queries = slice(head.skip, head.skip + len(chosen))
    mass = torch.zeros(chosen.shape, dtype=own.dtype, device=own.device)
    mass[:, 0] = own[queries]
    mass.view(-1)[plan.order + plan.order // max(chosen.shape[1] - 1, 1) + 1] = past
    total = mass.sum(-1, keepdim=True)
    return mixed[queries].div_(total), mass.div_(total), reference[queries] + total.squeeze(-1).log2()


class DispatchedAttention(torch.autograd.Function):
    """softmax over the chosen blocks, and how much of it fell on each of them."""

    @staticmethod
    @without_autocast
    def forward(ctx, q, k, v, chosen, block_size: int):
        wide = torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        mass, log_sum = q.new_empty(chosen.shape, dtype=wide), q.new_empty(q.shape[:-1], dtype=wide)

        def attend(i: int) -> None:
            head = _Head.of(q[i].to(wide), k[i].to(wide), v[i].to(wide), block_size)
            out[i], mass[i], log_sum[i] = _forward_head(head, chosen[i])

        _for_each_head(attend, chosen, block_size)
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

        def attend(i: int) -> None:
            head = _Head.of(q[i].to(wide), k[i].to(wide), v[i].to(wide), ctx.block_size)
            gradients = _backward_head(head, chosen[i], grads[0][i].to(wide), out[i].to(wide), log_sum[i])
            for total, part in zip((dq, dk, dv), gradients, strict=True):
                total[i] = part[: total.shape[1]]

        _for_each_head(attend, chosen, ctx.block_size)
        return dq, dk, dv, None, None


def _for_each_head(attend: Callable[[int], None], chosen: Int[Tensor, "heads queries top_k"], block_size: int) -> None:
    large = chosen.shape[1:].numel() * block_size >= SHARED
    side_by_side(attend, range(len(chosen)), threads=threads_for(chosen.device, worthwhile=large))


def _backward_head(
    head: _Head,
    chosen: Int[Tensor, "queries top_k"],
    grad: Float[Tensor, "queries value_dim"],
    out: Float[Tensor, "queries value_dim"],
    log_sum: Float[Tensor, " queries"],
) -> tuple[Float[Tensor, "queries dim"], Float[Tensor, "keys dim"], Float[Tensor, "keys value_dim"]]:
    """Gradients of the queries, and of the keys and values in whole blocks. The weights are computed again."""
    rest = len(head.q) - head.skip - len(grad)
    inner = _pad((grad * out).sum(-1), head.skip, rest)
    grad, log_sum = _pad(grad, head.skip, rest), _pad(log_sum, head.skip, rest)
    dk, dv = torch.zeros_like(head.k), torch.zeros_like(head.v)
    own = slice(head.first, None)

    q, d_out = head.q.view(dk[own].shape), grad.view(dv[own].shape)
    weights = head.own_scores().sub_(log_sum.view(*q.shape[:2], 1)).exp2_()
    d_scores = torch.bmm(d_out, head.v[own].mT).sub_(inner.view(*q.shape[:2], 1)).mul_(weights)
    dq = torch.bmm(d_scores, head.k[own]).flatten(0, 1)
    dk[own], dv[own] = torch.bmm(d_scores.mT, q), torch.bmm(weights.mT, d_out)

    for number, rows, _ in _Plan.of(chosen[:, 1:], head).split():
        q, d_out = head.q.index_select(0, rows), grad.index_select(0, rows)
        weights = (q @ head.k[number].T).sub_(log_sum[rows, None]).exp2_()
        d_scores = (d_out @ head.v[number].T).sub_(inner[rows, None]).mul_(weights)
        dq.index_add_(0, rows, d_scores @ head.k[number])
        dk[number].addmm_(d_scores.T, q)
        dv[number].addmm_(weights.T, d_out)

    queries = slice(head.skip, head.skip + len(out))
    return dq[queries] * head.k.shape[-1] ** -0.5, dk.flatten(0, 1) / LOG2E, dv.flatten(0, 1)
