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

    Raises:
        ValueError: ``token`` is not in ascending order.
    """
    if bool((back := token.diff() < 0).any()):
        before, after = token[int(back.int().argmax()) :][:2].tolist()
        raise ValueError(f"token must be in ascending order; got {after} after {before}")
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, gate_up, down = x.to(dtype), gate_up.to(dtype), down.to(dtype)
    plan = _Plan.of(token, expert, len(down))
    with torch.autocast(x.device.type, enabled=False):
        return _Mix.apply(x, gate_up, down, weight.to(x.dtype), plan, torch.is_grad_enabled())


@dataclass(frozen=True)
class _Plan:
    """Where each pair of token and expert stands: for each of two experts as many places as the fuller one needs."""

    twos: list[slice]  # two experts, or the last one alone
    shapes: list[tuple[int, int]]  # how many they are, and the places of each
    token: Int[Tensor, " pairs"]
    place: Int[Tensor, " pairs"]
    tokens: Int[Tensor, " places"]  # the token at each place; at an empty one token 0, which nobody reads

    @classmethod
    def of(cls, token: Int[Tensor, " pairs"], expert: Int[Tensor, " pairs"], experts: int) -> _Plan:
        loads = torch.bincount(expert, minlength=experts)
        load = loads.tolist()
        by_load = sorted(range(experts), key=load.__getitem__)
        twos, shapes, first, end = [], [], [0] * experts, 0
        for members in (sorted(by_load[at : at + 2]) for at in range(0, experts, 2)):
            low, high, width = members[0], members[-1], max(load[each] for each in members)
            twos.append(slice(low, high + 1, max(1, high - low)))
            shapes.append((len(members), width))
            for member in members:
                first[member], end = end, end + width

        by_expert, order = expert.sort(stable=True)
        shift = torch.tensor(first, device=expert.device) - (loads.cumsum(0) - loads)
        in_order = torch.arange(len(expert), device=expert.device) + shift[by_expert]
        place = torch.empty_like(order).scatter_(0, order, in_order)
        return cls(twos, shapes, token, place, token.new_zeros(end).scatter_(0, place, token))

    @property
    def sizes(self) -> list[int]:
        return [count * width for count, width in self.shapes]

    def parts(self, values: Shaped[Tensor, "places *dim"]) -> list[Shaped[Tensor, "count width *dim"]]:
        """Each two's part of a value a place; of fewer values, which all use in turn, the first ones for each."""
        sizes = self.sizes
        parts = values.split(sizes) if len(values) == len(self.tokens) else [values[:size] for size in sizes]
        return [part.view(*shape, *values.shape[1:]) for part, shape in zip(parts, self.shapes, strict=True)]

    def sum_by_token(
        self, values: Float[Tensor, "places dim"], tokens: int, weight: Float[Tensor, " pairs"] | None = None
    ) -> Float[Tensor, "tokens dim"]:
        starts = F.pad(torch.bincount(self.token, minlength=tokens).cumsum(0), (1, -1))
        return F.embedding_bag(self.place, values, starts, mode="sum", per_sample_weights=weight)


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate_up: Tensor, down: Tensor, weight: Tensor, plan: _Plan, keep: bool) -> Tensor:
        most = max(plan.sizes)
        rows, out = x.new_empty(most, x.shape[1]), x.new_empty(len(plan.tokens), x.shape[1])
        hidden = x.new_empty(len(out) if keep else most, gate_up.shape[1])
        matrices = ([each[two].mT for two in plan.twos] for each in (gate_up, down))
        parts = map(plan.parts, (plan.tokens, rows, hidden, *hidden.chunk(2, dim=-1), out))
        for inwards, outwards, tokens, own, inner, gate, up, result in zip(*matrices, *parts, strict=True):
            torch.index_select(x, 0, tokens.flatten(), out=own.flatten(0, 1))
            torch.bmm(own, inwards, out=inner)
            torch.bmm(F.silu(gate, inplace=not keep).mul_(up), outwards, out=result)
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
        parts = map(plan.parts, (plan.tokens, weights, *hidden.chunk(2, dim=-1), grad_weights, grad_rows))
        for two, tokens, own, gate, up, grad_own, grad_row in zip(plan.twos, *parts, strict=True):
            rows, grad = (each.index_select(0, tokens.flatten()).view_as(grad_row) for each in (x, grad_out))
            squashed = gate.sigmoid()
            silu = gate * squashed
            act = silu * up
            grad_act = torch.bmm(grad, down[two])
            torch.sum(grad_act * act, dim=-1, out=grad_own)
            torch.bmm(grad.mul_(own[..., None]).mT, act, out=grad_down[two])
            grad_act *= own[..., None]
            grad_inner = torch.cat([grad_act * up * (squashed + silu * (1 - squashed)), grad_act * silu], dim=-1)
            torch.bmm(grad_inner.mT, rows, out=grad_gate_up[two])
            torch.bmm(grad_inner, gate_up[two], out=grad_row)
        grad_x = plan.sum_by_token(grad_rows, len(x))
        return grad_x, grad_gate_up, grad_down, grad_weights[plan.place], None, None
