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

    Pairs are sorted by expert, their tokens gathered; then one expert after the other multiplies its rows. What is kept
    for the way back is the hidden layer; a weight's gradient does not need the expert's output.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, gate_up, down = x.to(dtype), gate_up.to(dtype), down.to(dtype)
    by_expert = expert.sort(stable=True).indices
    counts = torch.bincount(expert, minlength=len(down))
    with torch.autocast(x.device.type, enabled=False):
        return _Mix.apply(x, gate_up, down, weight.to(x.dtype)[by_expert], token[by_expert], counts.tolist())


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gate_up: Tensor, down: Tensor, weight: Tensor, token: Tensor, counts: list[int]
    ) -> Tensor:
        rows = x.index_select(0, token)
        hidden = _by_expert(rows, gate_up, counts, out=x.new_empty(len(token), gate_up.shape[1]))
        gate, up = hidden.chunk(2, dim=-1)
        out = _by_expert(F.silu(gate).mul_(up), down, counts, out=rows)
        ctx.save_for_backward(x, gate_up, down, weight, token, hidden)
        ctx.counts = counts
        return _sum_by_token(out, token, len(x), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gate_up, down, weight, token, hidden = ctx.saved_tensors
        (grad_out,) = grad_outputs
        grad_gate_up, grad_down = torch.empty_like(gate_up), torch.empty_like(down)
        gate, up = hidden.chunk(2, dim=-1)
        squashed = gate.sigmoid()
        silu = gate * squashed
        act = silu * up
        grad_rows = grad_out.index_select(0, token)
        grad_act = _by_expert(grad_rows, down.mT, ctx.counts, out=torch.empty_like(act))
        grad_weight = (grad_act * act).sum(dim=-1)
        grad_act *= weight[:, None]
        grad_rows *= weight[:, None]
        grad_hidden = torch.cat([grad_act * up * (squashed + silu * (1 - squashed)), grad_act * silu], dim=-1)
        rows = x.index_select(0, token)
        for expert, part in _rows(ctx.counts):
            torch.mm(grad_rows[part].T, act[part], out=grad_down[expert])
            torch.mm(grad_hidden[part].T, rows[part], out=grad_gate_up[expert])
        grad_x = _by_expert(grad_hidden, gate_up.mT, ctx.counts, out=rows)
        return _sum_by_token(grad_x, token, len(x)), grad_gate_up, grad_down, grad_weight, None, None


def _by_expert(
    x: Float[Tensor, "pairs from"], matrices: Float[Tensor, "experts to from"], counts: list[int], *, out: Tensor
) -> Float[Tensor, "pairs to"]:
    """Each row by the matrix of its expert, into ``out``."""
    for expert, rows in _rows(counts):
        torch.mm(x[rows], matrices[expert].T, out=out[rows])
    return out


def _rows(counts: list[int]) -> Iterator[tuple[int, slice]]:
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
