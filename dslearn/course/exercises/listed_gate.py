"""02.8: the article's gate, repaired; its six defects show one by one."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip
from dslearn.course.exercises.listed_gate_calls import (
    ask,
    build,
    choice,
    gradient,
    is_free,
    most,
    repaired_gate,
)


def _choices_a_token(call: Call) -> bool:
    sent = call.got[0]
    return bool((sent <= 1).all()) and bool((sent.sum(dim=1) <= call["top_k"]).all())


def _limited(call: Call) -> bool:
    return int(call.got[0].sum(dim=0).max()) <= most(call)


def _filled(call: Call) -> bool:
    return bool(call["bias"].any()) or torch.equal(call.got[0].sum(dim=0), call.expected[0].sum(dim=0))


def _earlier_first(call: Call) -> bool:
    return bool(call["bias"].any()) or torch.equal(call.got[0], call.expected[0])


def _probabilities(call: Call) -> Tensor:
    return (call["x"] @ call["gate_weight"].detach().T).softmax(dim=1)


def _weighs(call: Call) -> bool:
    return torch.allclose(call.got[1], _probabilities(call) * call.got[0], rtol=1e-4, atol=1e-6)


def _learns(call: Call) -> bool:
    token, expert = call.got[0].nonzero(as_tuple=True)
    gate_weight = call["gate_weight"].detach().requires_grad_()
    weight = (call["x"] @ gate_weight.T).softmax(dim=1)[token, expert]
    return torch.allclose(call.got.gradient, gradient(weight, expert, gate_weight), rtol=1e-3, atol=1e-5)


def _bias_decides(call: Call) -> bool:
    return torch.equal(call.got[0], call.expected[0])


def _load(call: Call) -> bool:
    return torch.equal(call.got[2], call.expected[2])


def _load_of_the_sent(call: Call) -> bool:
    return _bias_decides(call) and torch.equal(call.got[2], call.got[0].sum(dim=0))


def _without_bias(call: Call) -> bool:
    """Right for those who choose without the bias."""
    experts = choice(call["x"], call["gate_weight"].detach(), torch.zeros(len(call["bias"])), call["top_k"])
    table = torch.zeros_like(call.got[0]).scatter(1, experts, 1)
    came = table.cumsum(dim=0) <= most(call)
    return torch.equal(call.got[0], table * came)


EXERCISE = Exercise(
    id="02.8",
    title="Six defects",
    minutes=40,
    difficulty=3,
    function="repaired_gate",
    right=repaired_gate,
    ask=ask,
    draw=st.tuples(
        st.sampled_from(range(1, 9)),
        st.sampled_from(range(1, 6)),
        st.sampled_from(range(1, 5)),
        st.sampled_from((1.0, 1.2, 0.5, 2.0, 100.0)),
        st.sampled_from(("free", "alike", "plain")),
        st.sampled_from(range(100)),
    ),
    edges=(
        (200, 8, 2, 1.2, "alike", 0),
        (150, 6, 1, 1.25, "plain", 1),
        (64, 8, 1, 1.0, "free", 2),
        (90, 7, 3, 0.3, "plain", 3),
        (12, 5, 2, 1.2, "high", 4),
    ),
    build=build,
    shown=(4, 3, 1, 1.2, "alike", 1),
    behaviours=(
        Behaviour(
            "1 · takes no more than `top_k` experts for a token, all different",
            _choices_a_token,
            "How many experts a token takes is `top_k`, and has nothing to do with the room of an expert. A choice "
            "that finds room is one pair; there is no more to it.",
        ),
        Behaviour(
            "2, 3 · gives no expert more tokens than it has room for",
            _limited,
            "An expert has room for `ceil(capacity_factor · tokens · top_k / experts)` tokens. What does not fit is "
            "left out altogether: a pair with the weight 0 is still sent, and computed.",
        ),
        Behaviour(
            "2, 3 · uses the room there is",
            _filled,
            "There is room left, and somebody who asked for it has been dropped. Count, for each choice, how many "
            "*earlier* ones went to the same expert, and round the room *up*.",
        ),
        Behaviour(
            "serves who comes first",
            _earlier_first,
            "Earlier tokens come before later ones, and a token's better choice before its next one: a cumulative sum "
            "over the pairs, token by token, says who came before.",
        ),
        Behaviour(
            "4 · weighs by the probability as it is",
            _weighs,
            "Do not divide by the sum of the chosen: with one expert a token that is 1 whatever the gate says, and the "
            "gate learns nothing. The weight is the softmax's probability, over all experts, of this pair.",
        ),
        Behaviour(
            "4 · lets the gate learn",
            _learns,
            "The numbers are right, but no right gradient reaches the gate's matrix: were the weights detached, or "
            "made anew from plain numbers?",
        ),
        Behaviour(
            "6 · lets the bias decide",
            _bias_decides,
            "Choose by probability *plus* `bias`, which balances; the weight stays without it.",
        ),
        Behaviour(
            "6 · counts the load that was asked for",
            _load,
            "The last thing to return is how many choices fell on each expert, idle ones included, *before* any was "
            "dropped: the busy must be seen to be busy.",
        ),
    ),
    slips=(
        Slip(
            lambda call: _weighs(call) and _bias_decides(call) and _load(call),
            "The numbers are right, but no right gradient reaches the gate's matrix: were the weights detached, or "
            "made anew from plain numbers?",
        ),
        Slip(
            lambda call: _weighs(call) and _load_of_the_sent(call),
            "Your load counts what found room, so that a full expert looks like any other. Count the choices before "
            "any is dropped.",
        ),
        Slip(
            lambda call: _weighs(call) and _without_bias(call),
            "6 · You choose without the bias, so nothing balances. Choose by probability plus `bias`.",
        ),
        Slip(
            lambda call: is_free(call) and _weighs(call) and _bias_decides(call),
            "Right for as long as there is room for all.",
        ),
    ),
    done="All six are gone: `top_k` is the token's, the room the expert's; pairs are sent, the gate learns, and the "
    "load that comes back is what a bias needs.",
)
