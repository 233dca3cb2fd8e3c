"""The experts' computation, forward and backward: each expert's rows stay in one core's cache from first to last."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dslearn.attention.threads import side_by_side, threads_for

_WORTHWHILE = 1 << 24  # multiply-adds, below which starting threads costs more than it saves


def mix_experts(
    x: Float[Tensor, "tokens dim"],
    gate_up: Float[Tensor, "experts two_hidden dim"],
    down: Float[Tensor, "experts dim hidden"],
    token: Int[Tensor, " pairs"],
    expert: Int[Tensor, " pairs"],
    weight: Float[Tensor, " pairs"],
) -> Float[Tensor, "tokens dim"]:
    """Σ weight · W_down (SiLU(W_gate x) ⊙ W_up x) over each token's pairs; zeros for a token without any.

    Pairs are sorted by expert; then each expert gathers its tokens and runs on one core, unless one of them has so
    many pairs that the others would wait for it.
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
        hidden = x.new_empty(len(token), gate_up.shape[1])
        out = x.new_empty(len(token), x.shape[1])

        def run(expert: int, rows: slice) -> None:
            torch.mm(x.index_select(0, token[rows]), gate_up[expert].T, out=hidden[rows])
            gate, up = hidden[rows].chunk(2, dim=-1)
            torch.mm(F.silu(gate).mul_(up), down[expert].T, out=out[rows])

        _each_expert(run, counts, x, work=gate_up[0].numel())
        ctx.save_for_backward(x, gate_up, down, weight, token, hidden)
        ctx.counts = counts
        return _sum_by_token(out, token, len(x), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        x, gate_up, down, weight, token, hidden = ctx.saved_tensors
        (grad_out,) = grad_outputs
        grad_gate_up, grad_down = torch.zeros_like(gate_up), torch.zeros_like(down)
        grad_weight = torch.empty_like(weight)
        grad_x = x.new_empty(len(token), x.shape[1])

        def run(expert: int, rows: slice) -> None:
            gate, up = hidden[rows].chunk(2, dim=-1)
            squashed = gate.sigmoid()
            silu = gate * squashed
            act = silu * up
            grad_rows = grad_out.index_select(0, token[rows])
            grad_act = grad_rows @ down[expert]
            torch.sum(grad_act * act, dim=-1, out=grad_weight[rows])
            grad_act *= weight[rows, None]
            torch.mm((grad_rows * weight[rows, None]).T, act, out=grad_down[expert])
            grad_silu = squashed + silu * (1 - squashed)
            grad_hidden = torch.cat([grad_act * up * grad_silu, grad_act * silu], dim=-1)
            torch.mm(grad_hidden.T, x.index_select(0, token[rows]), out=grad_gate_up[expert])
            torch.mm(grad_hidden, gate_up[expert], out=grad_x[rows])

        _each_expert(run, ctx.counts, x, work=2 * gate_up[0].numel())
        return _sum_by_token(grad_x, token, len(x)), grad_gate_up, grad_down, grad_weight, None, None


def _each_expert(run: Callable[[int, slice], None], counts: list[int], x: Tensor, *, work: int) -> None:
    """`run(expert, rows)` for every expert with rows; dealt out to the cores so that they finish together."""
    pairs = sum(counts)
    cores = threads_for(x.device, worthwhile=pairs * work > _WORTHWHILE)
    if max(counts) * cores > pairs:  # the others would wait for this one: let all cores share each operation
        cores = 1
    ends = list(accumulate(counts))
    hands, dealt = [[] for _ in range(cores)], [0] * cores
    for expert in sorted(range(len(counts)), key=counts.__getitem__, reverse=True):
        lightest = dealt.index(min(dealt))
        hands[lightest].append(expert)
        dealt[lightest] += counts[expert]

    def play(hand: list[int]) -> None:
        for expert in hand:
            if counts[expert]:
                run(expert, slice(ends[expert] - counts[expert], ends[expert]))

    side_by_side(play, hands, threads=cores)


def _sum_by_token(
    values: Float[Tensor, "pairs dim"], token: Int[Tensor, " pairs"], tokens: int, weight: Tensor | None = None
) -> Float[Tensor, "tokens dim"]:
    order = token.sort(stable=True).indices
    starts = F.pad(torch.bincount(token, minlength=tokens).cumsum(0), (1, -1))
    weights = None if weight is None else weight[order]
    return F.embedding_bag(order, values, starts, mode="sum", per_sample_weights=weights)
