"""02.8: the repaired gate, what is drawn for it, and the pairs of an answer as tables that can be compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.course.exercise import Call
from dslearn.course.guard import Trouble


def repaired_gate(
    x: Float[Tensor, "tokens dim"],
    gate_weight: Float[Tensor, "experts dim"],
    bias: Float[Tensor, " experts"],
    top_k: int,
    capacity_factor: float,
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Float[Tensor, " pairs"], Int[Tensor, " experts"]]:
    """Who is sent where, token by token: (token, expert, weight, load asked for)."""
    probabilities = (x @ gate_weight.T).softmax(dim=1)
    chosen = choice(x, gate_weight, bias, top_k)
    load, pairs, most = [0] * len(gate_weight), [], room(len(x), top_k, len(gate_weight), capacity_factor)
    for token, row in enumerate(chosen.tolist()):
        for expert in row:
            load[expert] += 1
            if load[expert] <= most:
                pairs.append((token, expert))
    token, expert = torch.tensor(pairs).view(-1, 2).unbind(dim=1)
    return token, expert, probabilities[token, expert], torch.tensor(load)


def choice(x: Tensor, gate_weight: Tensor, bias: Tensor, top_k: int) -> Int[Tensor, "tokens top_k"]:
    """Each token's experts, best first, by probability plus bias."""
    return ((x @ gate_weight.T).softmax(dim=1) + bias).topk(top_k).indices


def room(tokens: int, top_k: int, experts: int, factor: float) -> int:
    """For how many tokens an expert has room."""
    return math.ceil(factor * tokens * top_k / experts)


def build(tokens: int, experts: int, top_k: int, factor: float, kind: str, seed: int) -> tuple[Any, ...]:
    """Tokens without ties; "alike" ones all like the same experts; "free" if there is no bias and room for all; "high"
    logits, of all experts alike, are beyond what `exp` can hold.
    """
    generator = torch.Generator().manual_seed(seed)
    dim = 3
    x = torch.randn(tokens, dim, generator=generator)
    gate_weight = torch.randn(experts, dim, generator=generator)
    bias = 0.3 * torch.randn(experts, generator=generator)
    if kind == "alike":
        x = 0.2 * x + torch.randn(dim, generator=generator)
    if kind in ("alike", "free"):
        bias = torch.zeros(experts)
    if kind == "free":
        factor = float(experts)
    if kind == "high":
        gate_weight = gate_weight + 60
    top_k = 1 + (top_k - 1) % experts
    return x, gate_weight, bias, top_k, _rounded_alike(factor, tokens, top_k, experts)


def _rounded_alike(factor: float, tokens: int, top_k: int, experts: int) -> float:
    """A factor for which the room is the same in whatever order it is computed."""
    even = tokens * top_k / experts
    rooms = {
        math.ceil(x) for x in (factor * tokens * top_k / experts, factor * even, factor / experts * tokens * top_k)
    }
    return factor if len(rooms) == 1 else factor + 0.01


class Sent(tuple[Tensor, Tensor, Tensor]):
    """How often each pair is sent (tokens, experts), with which weight, and the load asked for.

    ``gradient`` is that of Σ weight · (1 + expert) in the gate's matrix.
    """

    _fields = ("how_often_each_token_goes_to_each_expert", "with_which_weight", "load_asked_for")
    gradient: Tensor


def ask(answer: Callable[..., Any], x: Tensor, gate_weight: Tensor, bias: Tensor, top_k: int, factor: float) -> Any:
    """The pairs that an answer returns, in whatever order, as tables.

    Raises:
        Trouble: it returns something else.
    """
    returned = answer(x, gate_weight.requires_grad_(), bias, top_k, factor)
    if returned is None or returned is ...:
        return returned
    token, expert, weight, load = _parts(returned, len(x), len(gate_weight))
    place = token * len(gate_weight) + expert
    table = weight.new_zeros(len(x) * len(gate_weight))
    sent = Sent(
        (
            torch.bincount(place, minlength=len(table)).view(len(x), -1),
            table.index_add(0, place, weight.detach()).view(len(x), -1),
            load,
        )
    )
    sent.gradient = gradient(weight, expert, gate_weight)
    return sent


def gradient(weight: Tensor, expert: Tensor, gate_weight: Tensor) -> Tensor:
    """What flows into the gate's matrix from Σ weight · (1 + expert)."""
    if not weight.requires_grad:
        return torch.zeros_like(gate_weight)
    (found,) = torch.autograd.grad((weight * (1 + expert)).sum(), gate_weight, materialize_grads=True)
    return found


def _parts(returned: Any, tokens: int, experts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if isinstance(returned, Tensor):
        raise Trouble(
            "5 · You return a table, mostly zeros, and whoever multiplies by it runs every expert on every token. "
            "Return what is to be sent: token, expert and weight of each pair, and the load."
        )
    if not isinstance(returned, tuple | list) or len(returned) != 4 or not all(isinstance(x, Tensor) for x in returned):
        raise Trouble("Return four tensors: token, expert and weight of each pair, and the load of each expert.")
    token, expert, weight, load = returned
    if token.dim() != 1 or not token.shape == expert.shape == weight.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (token, expert, weight))
        raise Trouble(f"Token, expert and weight have one entry a pair, all three (pairs,); yours are {shapes}.")
    if load.shape != (experts,):
        raise Trouble(
            f"The load has an entry for each of the {experts} experts; yours has the shape {tuple(load.shape)}."
        )
    if any(x.is_floating_point() or x.dtype == torch.bool for x in (token, expert, load)):
        raise Trouble("Token, expert and load are whole numbers.")
    if not weight.is_floating_point():
        raise Trouble(f"The weights are numbers with a point; yours are {weight.dtype}.")
    for name, numbers, many in (("token", token, tokens), ("expert", expert, experts)):
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < many:
            raise Trouble(f"There are {many} {name}s, from 0; you send number {int(numbers.max())} or a negative one.")
    return token.long(), expert.long(), weight, load.long()


def is_free(call: Call) -> bool:
    """Whether there is no bias, and every expert has room for all tokens."""
    return not bool(call["bias"].any()) and most(call) >= len(call["x"])


def most(call: Call) -> int:
    """For how many tokens an expert has room."""
    return room(len(call["x"]), call["top_k"], len(call["gate_weight"]), call["capacity_factor"])
