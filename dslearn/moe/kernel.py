"""The experts' computation, forward and backward, two experts side by side.

A batched product of two gives each of two cores an expert of its own. Any two experts' weights can be its operands,
since a slice may step from one right to the other; so those of like load are taken together, and few places stay empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
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

    Two experts after two others gather their tokens' rows and multiply them while they are in cache. What is kept for
    the way back is the hidden layer; a weight's gradient does not need the expert's output.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, gate_up, down = x.to(dtype), gate_up.to(dtype), down.to(dtype)
    plan = _Plan.of(token, expert, len(down))
    with torch.autocast(x.device.type, enabled=False):
        return _Mix.apply(x, gate_up, down, weight.to(x.dtype), plan, torch.is_grad_enabled())


@dataclass(frozen=True)
class _Two:
    """Two experts (or the last one alone), and their places: as many for each as the fuller has tokens."""

    experts: slice
    places: slice
    count: int

    def split(self, x: Shaped[Tensor, "places *dim"]) -> Shaped[Tensor, "count width *dim"]:
        """A value a place, expert by expert."""
        return x.unflatten(0, (self.count, -1))


@dataclass(frozen=True)
class _Plan:
    """Where each pair of token and expert stands."""

    twos: list[_Two]
    most: int  # places of the fullest two
    token: Int[Tensor, " pairs"]
    place: Int[Tensor, " pairs"]
    tokens: Int[Tensor, " places"]  # the token at each place; at an empty one token 0, which nobody reads

    @classmethod
    def of(cls, token: Int[Tensor, " pairs"], expert: Int[Tensor, " pairs"], experts: int) -> _Plan:
        loads = torch.bincount(expert, minlength=experts)
        load = loads.tolist()
        by_load = sorted(range(experts), key=load.__getitem__)
        twos, first, end = [], [0] * experts, 0
        for members in (sorted(by_load[at : at + 2]) for at in range(0, experts, 2)):
            start = end
            for member in members:
                first[member], end = end, end + max(load[each] for each in members)
            low, high = members[0], members[-1]
            twos.append(_Two(slice(low, high + 1, max(1, high - low)), slice(start, end), len(members)))

        order = expert.sort(stable=True).indices
        shift = torch.tensor(first, device=expert.device) - (loads.cumsum(0) - loads)
        in_order = torch.arange(len(expert), device=expert.device) + shift.repeat_interleave(loads)
        place = torch.empty_like(order).scatter_(0, order, in_order)
        tokens = token.new_zeros(end).scatter_(0, place, token)
        return cls(twos, max(two.places.stop - two.places.start for two in twos), token, place, tokens)

    def sum_by_token(
        self, values: Float[Tensor, "places dim"], tokens: int, weight: Float[Tensor, " pairs"] | None = None
    ) -> Float[Tensor, "tokens dim"]:
        order = self.token.sort(stable=True).indices
        starts = F.pad(torch.bincount(self.token, minlength=tokens).cumsum(0), (1, -1))
        weights = None if weight is None else weight[order]
        return F.embedding_bag(self.place[order], values, starts, mode="sum", per_sample_weights=weights)


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate_up: Tensor, down: Tensor, weight: Tensor, plan: _Plan, keep: bool) -> Tensor:
        rows, out = x.new_empty(plan.most, x.shape[1]), x.new_empty(len(plan.tokens), x.shape[1])
        hidden = x.new_empty(len(out) if keep else plan.most, gate_up.shape[1])
        for two in plan.twos:
            tokens = plan.tokens[two.places]
            own = torch.index_select(x, 0, tokens, out=rows[: len(tokens)])
            inner = two.split(hidden[two.places] if keep else hidden[: len(tokens)])
            torch.bmm(two.split(own), gate_up[two.experts].mT, out=inner)
            gate, up = inner.chunk(2, dim=-1)
            torch.bmm(F.silu(gate).mul_(up), down[two.experts].mT, out=two.split(out[two.places]))
        ctx.save_for_backward(x, gate_up, down, weight, hidden)
        ctx.plan = plan
        return plan.sum_by_token(out, len(x), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gate_up, down, weight, hidden = ctx.saved_tensors
        plan: _Plan = ctx.plan
        (grad_out,) = grad_outputs
        grad_gate_up, grad_down = torch.empty_like(gate_up), torch.empty_like(down)
        weights = weight.new_zeros(len(hidden)).scatter_(0, plan.place, weight)
        grad_weights, grad_rows = torch.empty_like(weights), x.new_empty(len(hidden), x.shape[1])
        for two in plan.twos:
            rows, grad = (two.split(each.index_select(0, plan.tokens[two.places])) for each in (x, grad_out))
            gate, up = two.split(hidden[two.places]).chunk(2, dim=-1)
            squashed = gate.sigmoid()
            silu = gate * squashed
            act = silu * up
            grad_act = torch.bmm(grad, down[two.experts])
            torch.sum(grad_act * act, dim=-1, out=two.split(grad_weights[two.places]))
            own = two.split(weights[two.places])[..., None]
            torch.bmm(grad.mul_(own).mT, act, out=grad_down[two.experts])
            grad_act *= own
            grad_inner = torch.cat([grad_act * up * (squashed + silu * (1 - squashed)), grad_act * silu], dim=-1)
            torch.bmm(grad_inner.mT, rows, out=grad_gate_up[two.experts])
            torch.bmm(grad_inner, gate_up[two.experts], out=two.split(grad_rows[two.places]))
        grad_x = plan.sum_by_token(grad_rows, len(x))
        return grad_x, grad_gate_up, grad_down, grad_weights[plan.place], None, None
