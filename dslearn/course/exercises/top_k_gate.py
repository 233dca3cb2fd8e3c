"""02.1: who is chosen, by scores and bias, and with which weight, by scores alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def gate(
    logits: Float[Tensor, "tokens experts"], bias: Float[Tensor, " experts"], top_k: int
) -> tuple[Int[Tensor, "tokens top_k"], Float[Tensor, "tokens top_k"]]:
    """The experts with the highest sigmoid score plus bias, best first; their scores, divided by the sum of these."""
    liked = _preference(logits, bias).tolist()
    experts = torch.tensor([sorted(range(len(row)), key=lambda one: -row[one])[:top_k] for row in liked])
    return experts, _weights(logits, experts)


def build(tokens: int, experts: int, top_k: int, kind: str, seed: int) -> tuple[Tensor, Tensor, int]:
    """Logits from −25 to 25, "low" or "high" ones, and a bias; "strong" ones outweigh a score, "huge" ones all."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(tokens, experts, generator=generator)
    bias = torch.randn(experts, generator=generator)
    shift = {"low": -12.0, "lowest": -21.0, "high": 12.0}.get(kind, 0.0)
    scale = {"gentle": 0.05, "strong": 3.0, "none": 0.0, "huge": 1e12}.get(kind, 0.3)
    return (logits + shift).clamp(-25, 25), scale * bias, 1 + (top_k - 1) % experts


class Gated(tuple[Tensor, Tensor]):
    """Experts and weights, and the gradient in the logits of a fixed mixture of the weights."""

    _fields = ("experts", "weights")
    gradient: Tensor


def ask(answer: Callable[..., Any], logits: Tensor, bias: Tensor, top_k: int) -> Any:
    """What the answer returns; where that is a choice and its weights, with the gradient."""
    returned = answer(logits.requires_grad_(), bias, top_k)
    if not isinstance(returned, tuple | list) or len(returned) != 2 or not all(isinstance(x, Tensor) for x in returned):
        return returned
    experts, weights = returned
    is_whole = not (experts.is_floating_point() or experts.is_complex() or experts.dtype == torch.bool)
    gated = Gated((experts.long() if is_whole else experts, weights.detach()))
    gated.gradient = _gradient(weights, logits)
    return gated


def _gradient(weights: Tensor, logits: Tensor) -> Tensor:
    """Of Σ weight / place, in the logits; 0 where nothing connects the two."""
    if not weights.requires_grad or weights.dim() != 2:
        return torch.zeros_like(logits)
    mixed = (weights / torch.arange(1, weights.shape[1] + 1)).sum()
    (gradient,) = torch.autograd.grad(mixed, logits, materialize_grads=True)
    return gradient


def _preference(logits: Tensor, bias: Tensor) -> Tensor:
    return logits.detach().sigmoid() + bias


def _weights(logits: Tensor, experts: Tensor) -> Tensor:
    chosen = logits.sigmoid().gather(1, experts)
    return chosen / chosen.sum(dim=1, keepdim=True)


def _are_experts(call: Call) -> bool:
    rows = call.got[0].tolist()
    return all(len(set(row)) == len(row) and 0 <= min(row) <= max(row) < call["logits"].shape[1] for row in rows)


def _liked(call: Call, experts: Tensor) -> Tensor:
    return _preference(call["logits"], call["bias"]).gather(1, experts)


def _chooses_best(call: Call) -> bool:
    got, best = (_liked(call, chosen).sort(dim=1).values for chosen in (call.got[0], call.expected[0]))
    return torch.allclose(got, best, rtol=0, atol=1e-6)


def _best_first(call: Call) -> bool:
    liked = _liked(call, call.got[0])
    return bool((liked[:, 1:] <= liked[:, :-1] + 1e-6).all())


def _sums_to_one(call: Call) -> bool:
    return torch.allclose(call.got[1].sum(dim=1), torch.ones(len(call.got[1])), atol=1e-4)


def _by_scores(call: Call) -> bool:
    return torch.allclose(call.got[1], _weights(call["logits"].detach(), call.got[0]), rtol=1e-4, atol=1e-6)


def _only_gradient(call: Call) -> bool:
    """Whether there is nothing but the gradient to complain of."""
    return _are_experts(call) and _chooses_best(call) and _best_first(call) and _sums_to_one(call) and _by_scores(call)


def _struck_out(blank: float) -> Callable[[Call], bool]:
    """Whether all is explained by taking the best again and again, those taken having the preference ``blank``."""

    def wrong(logits: Tensor, bias: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
        logits = logits.detach()
        liked, experts = _preference(logits, bias), []
        for _ in range(top_k):
            experts.append(liked.argmax(dim=1, keepdim=True))
            liked = liked.scatter(1, experts[-1], blank)
        chosen = torch.cat(experts, dim=1)
        return chosen, _weights(logits, chosen)

    return gives(wrong)


def _learns(call: Call) -> bool:
    logits = call["logits"].detach().requires_grad_()
    due = _gradient(_weights(logits, call.got[0]), logits)
    return torch.allclose(call.got.gradient, due, rtol=1e-3, atol=1e-5)


def _otherwise(
    choose_by: Callable[[Tensor, Tensor], Tensor], weigh_by: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
) -> Callable[[Call], bool]:
    """Whether all is explained by another preference, or by other weights (logits, bias, experts)."""

    def wrong(logits: Tensor, bias: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
        logits = logits.detach()
        experts = choose_by(logits, bias).topk(top_k).indices
        return experts, _weights(logits, experts) if weigh_by is None else weigh_by(logits, bias, experts)

    return gives(wrong)


def _with_bias(logits: Tensor, bias: Tensor, experts: Tensor) -> Tensor:
    liked = _preference(logits, bias).gather(1, experts)
    return liked / liked.sum(dim=1, keepdim=True)


EXERCISE = Exercise(
    id="02.1",
    title="A gate",
    minutes=15,
    difficulty=1,
    function="gate",
    right=gate,
    ask=ask,
    draw=st.tuples(
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(1, 7)),
        st.sampled_from(range(1, 7)),
        st.sampled_from(("plain", "gentle", "strong", "low", "none", "high")),
        st.sampled_from(range(100)),
    ),
    edges=(
        (3, 5, 2, "lowest", 0),
        (64, 16, 4, "plain", 1),
        (2, 8, 8, "strong", 2),
        (9, 6, 1, "low", 3),
        (4, 6, 5, "huge", 4),
    ),
    build=build,
    shown=(2, 4, 2, "plain", 5),
    behaviours=(
        Behaviour(
            "chooses existing experts, none of them twice",
            _are_experts,
            "The first thing that you return are numbers of experts, from 0, `top_k` different ones for each token. "
            "`topk` returns values and indices: which of them did you take?",
        ),
        Behaviour(
            "chooses by score plus bias",
            _chooses_best,
            "The score is `sigmoid(logits)`. The bias is added to that, not to the logits, and the highest sums win.",
        ),
        Behaviour("puts the best first", _best_first, "A token's experts stand in falling order of score plus bias."),
        Behaviour(
            "gives each token weights with the sum one",
            _sums_to_one,
            "Divide the chosen experts' scores by the sum over the *chosen* ones, token by token. No small number "
            "needs to be added to the sum: all scores are above 0.",
        ),
        Behaviour(
            "weighs by the scores alone",
            _by_scores,
            "The weight of an expert is its score, without the bias, divided by the sum of the chosen ones' scores. "
            "And is each weight in the place of its expert?",
        ),
        Behaviour(
            "lets the gradient through to the logits",
            _learns,
            "The gate learns through its weights: the gradient must reach the logits, through each of them.",
        ),
    ),
    slips=(
        Slip(
            _only_gradient,
            "The numbers are right, their gradient is not: something on the way was detached, or made anew from plain "
            "numbers. The gate learns through its weights, the sum that they are divided by included.",
        ),
        Slip(
            lambda call: any(_struck_out(-blank)(call) for blank in (0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e9)),
            "You strike out who is chosen with a number. With the bias, a preference can be below that. Use −∞, or "
            "`topk`.",
        ),
        Slip(
            _otherwise(_preference, _with_bias),
            "The bias has got into the weights. It says how busy an expert is, not how well it suits: use it to "
            "choose, then gather the *scores* of the chosen.",
        ),
        Slip(
            _otherwise(lambda logits, _: logits.sigmoid()),
            "You choose without the bias. Take the `topk` of `scores + bias`.",
        ),
        Slip(
            _otherwise(lambda logits, bias: logits + bias),
            "You add the bias to the logits. It is added to the scores: `sigmoid(logits) + bias`.",
        ),
        Slip(
            _otherwise(_preference, lambda logits, _, experts: logits.sigmoid().gather(1, experts)),
            "The weights are the scores as they are. Divide them by their sum over the chosen experts.",
        ),
        Slip(
            _otherwise(_preference, lambda logits, _, experts: logits.gather(1, experts).softmax(dim=1)),
            "You weigh by a softmax. Here, every score is a sigmoid of its own; then the chosen ones are divided by "
            "their sum.",
        ),
        Slip(
            _otherwise(lambda logits, bias: -_preference(logits, bias)),
            "You take the *lowest*: `topk` takes the largest, `sort` and `argsort` begin at the smallest.",
        ),
    ),
    done="The bias decides who is asked, the scores decide who is heard, and the weights carry the gradient.",
)
