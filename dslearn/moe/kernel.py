"""The experts' computation, forward and backward, an expert at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


def mix_experts(
    x: Float[Tensor, "tokens dim"],
    gate_up: Float[Tensor, "experts two_hidden dim"],
    down: Float[Tensor, "experts dim hidden"],
    token: Int[Tensor, " pairs"],
    expert: Int[Tensor, " pairs"],
    weight: Float[Tensor, " pairs"],
) -> Float[Tensor, "tokens dim"]:
    """Σ weight · W_down (SiLU(W_gate x) ⊙ W_up x) over each token's pairs; zeros for a token without any.

    Pairs are sorted by expert; then one expert after the other gathers its tokens' rows and multiplies them while they
    are in cache. What is kept for the way back is the hidden layer; a weight's gradient does not need the expert's
    output.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, gate_up, down = x.to(dtype), gate_up.to(dtype), down.to(dtype)
    by_expert = expert.sort(stable=True).indices
    counts = torch.bincount(expert, minlength=len(down))
    with torch.autocast(x.device.type, enabled=False):
        pairs = weight.to(x.dtype)[by_expert], token[by_expert], counts.tolist()
        return _Mix.apply(x, gate_up, down, *pairs, torch.is_grad_enabled())


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gate_up: Tensor, down: Tensor, weight: Tensor, token: Tensor, counts: list[int], keep: bool
    ) -> Tensor:
        rows = x.new_empty(max(counts), x.shape[1])
        hidden = x.new_empty(len(token) if keep else len(rows), gate_up.shape[1])
        out = x.new_empty(len(token), x.shape[1])
        for expert, part in _parts(counts):
            own = rows[: counts[expert]]
            torch.index_select(x, 0, token[part], out=own)
            inner = torch.mm(own, gate_up[expert].T, out=hidden[part] if keep else hidden[: len(own)])
            gate, up = inner.chunk(2, dim=-1)
            torch.mm(F.silu(gate).mul_(up), down[expert].T, out=out[part])
        ctx.save_for_backward(x, gate_up, down, weight, token, hidden)
        ctx.counts = counts
        return _sum_by_token(out, token, len(x), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gate_up, down, weight, token, hidden = ctx.saved_tensors
        (grad_out,) = grad_outputs
        grad_gate_up, grad_down = torch.empty_like(gate_up), torch.empty_like(down)
        grad_weight, grad_rows = torch.empty_like(weight), x.new_empty(len(token), x.shape[1])
        for expert, part in _parts(ctx.counts):
            rows, grad = (each.index_select(0, token[part]) for each in (x, grad_out))
            gate, up = hidden[part].chunk(2, dim=-1)
            squashed = gate.sigmoid()
            silu = gate * squashed
            act = silu * up
            grad_act = grad @ down[expert]
            torch.sum(grad_act * act, dim=-1, out=grad_weight[part])
            torch.mm(grad.mul_(weight[part, None]).T, act, out=grad_down[expert])
            grad_act *= weight[part, None]
            grad_inner = torch.cat([grad_act * up * (squashed + silu * (1 - squashed)), grad_act * silu], dim=-1)
            torch.mm(grad_inner.T, rows, out=grad_gate_up[expert])
            torch.mm(grad_inner, gate_up[expert], out=grad_rows[part])
        return _sum_by_token(grad_rows, token, len(x)), grad_gate_up, grad_down, grad_weight, None, None, None


def _parts(counts: list[int]) -> Iterator[tuple[int, slice]]:
    """Every expert and its rows, none for an idle one: a product over nothing is zero."""
    start = 0
    for expert, count in enumerate(counts):
        yield expert, slice(start, start + count)
        start += count


def _sum_by_token(
    values: Float[Tensor, "pairs dim"], token: Int[Tensor, " pairs"], tokens: int, weight: Tensor | None = None
) -> Float[Tensor, "tokens dim"]:
    order = token.sort(stable=True).indices
    starts = F.pad(torch.bincount(token, minlength=tokens).cumsum(0), (1, -1))
    weights = None if weight is None else weight[order]
    return F.embedding_bag(order, values, starts, mode="sum", per_sample_weights=weights)
