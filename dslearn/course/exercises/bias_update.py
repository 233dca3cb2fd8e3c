"""02.4: the thermostat that balances without a loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def new_bias(
    bias: Float[Tensor, " experts"], experts: Int[Tensor, "tokens top_k"], rate: float
) -> Float[Tensor, " experts"]:
    """One step up for experts with less than the mean load, one down for those with more."""
    chosen, many = experts.flatten().tolist(), len(bias)
    above = [chosen.count(expert) * many - len(chosen) for expert in range(many)]
    return bias - rate * torch.tensor([(excess > 0) - (excess < 0) for excess in above])


LOADS = {  # hardly uneven
    "one has two": [2] + [1] * 11,
    "one of a hundred has two": [2] + [1] * 99,
    "about two hundred": [201, 200, 199],
    "more than 127": [130, 100, 90],
    "one more than 64": [65] + [64] * 15,
}


def build(tokens: int, experts: int, top_k: int, kind: str, rate: float, seed: int) -> tuple[Tensor, Tensor, float]:
    """ "even" loads as far as they go, "crowded" ones, the last "idle", those of LOADS; a bias that has come "far"."""
    generator = torch.Generator().manual_seed(seed)
    liking, top_k = torch.rand(tokens, experts, generator=generator), 1 + (top_k - 1) % experts
    if kind == "crowded":
        liking = liking + torch.randperm(experts, generator=generator)
    if kind == "idle":
        liking[:, (experts + 1) // 2 :] -= 1
    chosen = liking.topk(top_k).indices
    if kind == "even":
        chosen = (torch.arange(tokens * top_k) % experts).view(tokens, top_k)
    if kind in LOADS:
        chosen = torch.arange(experts).repeat_interleave(torch.tensor(LOADS[kind]))[:, None]
    scale = 4.0 if kind == "far" else 0.2
    return scale * torch.randn(experts, generator=generator), chosen, rate


def _excess(call: Call) -> Tensor:
    """Load less mean load, times the number of experts: whole numbers."""
    load = torch.bincount(call["experts"].flatten(), minlength=len(call["bias"]))
    return load * len(load) - load.sum()


def _moved(call: Call) -> Tensor:
    return (call.got - call["bias"]) / call["rate"]


def _leaves_the_even(call: Call) -> bool:
    return bool((_moved(call)[_excess(call) == 0].abs() < 1e-2).all())


def _raises(call: Call) -> bool:
    return bool((_moved(call)[_excess(call) < 0] > 1e-3).all())


def _lowers(call: Call) -> bool:
    return bool((_moved(call)[_excess(call) > 0] < -1e-3).all())


def _one_step(call: Call) -> bool:
    return torch.allclose(_moved(call), -_excess(call).sign().float(), rtol=0, atol=1e-2)


def _by(direction: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], bool]:
    """Whether all is explained by another step, ``direction(load, experts)``, in units of the rate."""

    def wrong(bias: Tensor, experts: Tensor, rate: float) -> Tensor:
        return bias + rate * direction(torch.bincount(experts.flatten(), minlength=len(bias)).float(), experts)

    return gives(wrong)


EXERCISE = Exercise(
    id="02.4",
    title="The thermostat",
    minutes=10,
    difficulty=1,
    function="new_bias",
    right=new_bias,
    draw=st.tuples(
        st.sampled_from(range(1, 8)),
        st.sampled_from(range(1, 7)),
        st.sampled_from(range(1, 4)),
        st.sampled_from(("plain", "even", "idle", "crowded", "far")),
        st.sampled_from((0.5, 0.01)),
        st.sampled_from(range(100)),
    ),
    edges=(
        (512, 16, 2, "plain", 0.001, 0),
        (64, 8, 2, "even", 0.01, 1),
        (9, 6, 2, "even", 0.5, 2),
        (30, 7, 3, "crowded", 0.01, 3),
        (5, 12, 1, "idle", 0.5, 4),
        (60, 12, 2, "even", 0.5, 5),
        (20, 10, 1, "even", 0.01, 6),
        (40, 8, 2, "far", 0.5, 7),
        *((tokens, tokens, 1, "even", 0.5, 8) for tokens in (7, 41, 49)),
        (21, 7, 1, "even", 0.5, 9),
        (7, 3, 3, "even", 0.5, 10),
        *((sum(loads), len(loads), 1, kind, 0.5, 11) for kind, loads in LOADS.items()),
    ),
    build=build,
    axes="(experts,)",
    shown=(4, 4, 1, "plain", 0.5, 2),
    behaviours=(
        Behaviour(
            "leaves an expert alone that has the mean load",
            _leaves_the_even,
            "The mean load is all choices, `top_k` for each token, divided by the number of experts. Whoever has "
            "exactly that stays where it is: `sign(0)` is 0. Compare counts, which are whole. Shares are rounded.",
        ),
        Behaviour(
            "raises the bias of experts below the mean, idle ones too",
            _raises,
            "An expert below the mean shall be chosen more often, so its bias goes up, however little it is below. One "
            "that nobody chose has the load 0: `bincount(…, minlength=…)` counts it, too.",
        ),
        Behaviour(
            "lowers the bias of experts above the mean",
            _lowers,
            "An expert above the mean shall be chosen less often, so its bias goes down, however little it is above.",
        ),
        Behaviour(
            "takes the same step for all",
            _one_step,
            "Every bias that moves does so by `rate`, however far its load is from the mean.",
        ),
    ),
    slips=(
        Slip(
            _by(lambda load, _: (load - load.mean()).sign()),
            "The sign is the wrong way round: the busy get busier. Below the mean, the bias goes *up*.",
        ),
        Slip(
            gives(lambda bias, experts, rate: new_bias(bias, experts, rate) - bias),
            "That is the step alone. Add it to the bias, which remembers the steps before.",
        ),
        Slip(
            _by(lambda load, _: load.mean() - load),
            "Your steps grow with the distance. Only its sign counts: one `rate` up or one down.",
        ),
        Slip(
            _by(lambda load, _: (load.mean() - load) / load.mean()),
            "Your steps grow with the distance. Only its sign counts: one `rate` up or one down.",
        ),
        Slip(
            _by(lambda load, experts: (len(experts) / len(load) - load).sign()),
            "You compare with tokens by experts. Each token makes `top_k` choices, so that the mean load is `top_k` "
            "times as high.",
        ),
        Slip(
            _by(lambda load, _: (load.median() - load).sign()),
            "You compare with the median. An even load is the *mean*.",
        ),
        Slip(
            _by(lambda load, _: (load[load > 0].mean() - load).sign()),
            "You take the mean over experts that were chosen at all. The idle count, too: they are what this is for.",
        ),
        Slip(
            _by(lambda load, _: ((load / load.sum()).mean() - load / load.sum()).sign()),
            "Shares are rounded: ten tenths do not add up to one, and an expert with exactly the mean load moves. "
            "Compare the counts, which are whole.",
        ),
        Slip(
            _by(lambda load, _: torch.where(load < load.mean(), 1.0, -1.0)),
            "An expert with exactly the mean load moves, too. It should stay where it is.",
        ),
        Slip(
            _by(lambda load, _: torch.where(load <= load.mean(), 1.0, -1.0)),
            "An expert with exactly the mean load moves, too. It should stay where it is.",
        ),
    ),
    done="No loss and no gradient: the busy get a little less attractive, the idle a little more, step by step.",
)
