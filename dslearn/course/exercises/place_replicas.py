"""02.7: the busy experts get copies, and all GPUs about the same to do."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Int
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def place(load: list[int], num_gpus: int, slots: int) -> Int[Tensor, "num_gpus slots"]:
    """Copies to the largest load a copy; then the heaviest copy into the lightest GPU that has a slot."""
    return _pack(load, _copies(load, num_gpus * slots), num_gpus, slots)


def _copies(load: list[int], total: int) -> list[int]:
    """Of each expert, how many."""
    copies = [1] * len(load)
    for _ in range(total - len(load)):
        copies[max(range(len(load)), key=lambda one: Fraction(load[one], copies[one]))] += 1
    return copies


def _pack(load: list[int], copies: list[int], num_gpus: int, slots: int, *, heaviest_first: bool = True) -> Tensor:
    shares = [(Fraction(load[one], copies[one]), one) for one in range(len(load)) for _ in range(copies[one])]
    if heaviest_first:
        shares.sort(key=lambda share: -share[0])
    gpus: list[list[int]] = [[] for _ in range(num_gpus)]
    filled = [Fraction(0)] * num_gpus
    for share, one in shares:
        gpu = min((gpu for gpu in range(num_gpus) if len(gpus[gpu]) < slots), key=filled.__getitem__)
        gpus[gpu].append(one)
        filled[gpu] += share
    return torch.tensor(gpus)


def build(experts: int, num_gpus: int, spare: int, kind: str, seed: int) -> tuple[list[int], int, int]:
    """Loads without ties; if "idle", some are 0; if "star", one is far above the others.

    "near" ones lie close together, "equal" ones do tie. There are at least ``spare`` slots more than experts.
    """
    slots = -(-(experts + spare) // num_gpus)
    generator = torch.Generator().manual_seed(seed)
    drawn = (1000 * torch.rand(experts, generator=generator, dtype=torch.float64) ** 2).tolist()
    load = [round(one) * 97 + 31 * at + 7 for at, one in enumerate(drawn)]
    if kind == "near":
        load = (1000 + torch.randperm(experts, generator=generator)).tolist()
    if kind == "equal":
        load = [1000] * experts
    if kind == "idle":
        load = [0 if at % 3 == 1 else one for at, one in enumerate(load)]
    if kind == "star":
        load[seed % experts] = 3 * sum(load) + 1
    return load, num_gpus, slots


def _counts(call: Call, placed: Tensor) -> list[int]:
    return [int((placed == one).sum()) for one in range(len(call["load"]))]


def _are_experts(call: Call) -> bool:
    return bool(((call.got >= 0) & (call.got < len(call["load"]))).all())


def _everyone_stands(call: Call) -> bool:
    return min(_counts(call, call.got)) > 0


def _right_copies(call: Call) -> bool:
    return _counts(call, call.got) == _counts(call, call.expected)


def _highest(call: Call, placed: Tensor) -> Fraction:
    copies = _counts(call, placed)
    return max(sum((Fraction(call["load"][one], copies[one]) for one in row), Fraction(0)) for row in placed.tolist())


def _no_busier(call: Call) -> bool:
    return _highest(call, call.got) <= _highest(call, call.expected)


def _right(call: Call) -> bool:
    return torch.equal(call.got.sort(dim=1).values, call.expected.sort(dim=1).values)


def ask(answer: Callable[..., Any], load: list[int], num_gpus: int, slots: int) -> Any:
    """The answer; the order of the slots of one GPU is free, so it is always the same here."""
    placed = answer(load, num_gpus, slots)
    is_table = isinstance(placed, Tensor) and placed.dim() == 2 and placed.numel() > 0
    if is_table and not placed.is_floating_point() and placed.dtype != torch.bool:
        return placed.long().sort(dim=1).values
    return placed


def _ordered(placed: Tensor) -> Tensor:
    return placed.sort(dim=1).values


def _busiest_once(load: list[int], num_gpus: int, slots: int) -> Tensor:
    """One more copy for each of the busiest, none gets a third."""
    spare, by_load = num_gpus * slots - len(load), sorted(range(len(load)), key=lambda one: -load[one])
    copies = [1 + sum(one == by_load[at % len(load)] for at in range(spare)) for one in range(len(load))]
    return _ordered(_pack(load, copies, num_gpus, slots))


def _all_to_the_busiest(load: list[int], num_gpus: int, slots: int) -> Tensor:
    copies = [1] * len(load)
    copies[load.index(max(load))] += num_gpus * slots - len(load)
    return _ordered(_pack(load, copies, num_gpus, slots))


def _by_number(load: list[int], num_gpus: int, slots: int) -> Tensor:
    copies = _copies(load, num_gpus * slots)
    return _ordered(_pack(load, copies, num_gpus, slots, heaviest_first=False))


def _whole_loads(load: list[int], num_gpus: int, slots: int) -> Tensor:
    """Packs every copy as if it had the whole load of its expert."""
    copies = _copies(load, num_gpus * slots)
    whole = [one * copy for one, copy in zip(load, copies, strict=True)]
    return _ordered(_pack(whole, copies, num_gpus, slots))


def _in_turns(load: list[int], num_gpus: int, slots: int) -> Tensor:
    copies = _copies(load, num_gpus * slots)
    one_gpu = _pack(load, copies, 1, num_gpus * slots)[0]
    return _ordered(one_gpu.view(slots, num_gpus).T)


EXERCISE = Exercise(
    id="02.7",
    title="Copies for the busy",
    minutes=30,
    difficulty=3,
    function="place",
    right=place,
    ask=ask,
    draw=st.tuples(
        st.sampled_from(range(1, 7)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(5)),
        st.sampled_from(("plain", "idle", "star")),
        st.sampled_from(range(100)),
    ),
    edges=(
        (16, 8, 8, "plain", 0),
        (24, 6, 12, "star", 1),
        (30, 5, 9, "idle", 2),
        (12, 4, 20, "star", 3),
        (12, 4, 8, "near", 4),
        (9, 3, 6, "near", 5),
        (12, 3, 19, "near", 6),
        (12, 3, 19, "near", 7),
        (7, 1, 4, "equal", 0),
        (5, 2, 3, "equal", 0),
    ),
    build=build,
    axes="(num_gpus, slots)",
    shown=(4, 3, 2, "plain", 4),
    behaviours=(
        Behaviour(
            "fills the slots with numbers of experts",
            _are_experts,
            "Each row is a GPU, each entry the number of an expert, from 0. No slot stays empty.",
        ),
        Behaviour(
            "leaves no expert without a place",
            _everyone_stands,
            "Each expert has one copy to begin with, an idle one too: tomorrow it may be asked.",
        ),
        Behaviour(
            "gives copies where the load of each copy is highest",
            _right_copies,
            "Spare slots are given away one at a time, each to the expert whose load, divided by the copies it has by "
            "then, is the highest.",
        ),
        Behaviour(
            "leaves no GPU busier than need be",
            _no_busier,
            "The heaviest copy first, each into the GPU that has the least to do so far and a slot left. A copy's load "
            "is its expert's, divided by the number of its copies.",
        ),
        Behaviour(
            "goes by the rule: heaviest copy first, lightest GPU with a slot",
            _right,
            "No GPU is busier than it should be, but some hold other experts. Of equally heavy copies the expert with "
            "the lower number comes first, of equally light GPUs the first one is taken.",
        ),
    ),
    slips=(
        Slip(
            gives(_busiest_once),
            "You give copies by the whole load, in turns. After each, divide by the copies there are by now: the "
            "busiest may need a third before another needs its second.",
        ),
        Slip(
            gives(_all_to_the_busiest),
            "You give all spare slots to the busiest expert. With each copy its load is shared, and another becomes "
            "the one that needs it most.",
        ),
        Slip(
            gives(_whole_loads),
            "You pack each copy as if it had the whole load. Two copies have half of it each.",
        ),
        Slip(
            gives(_by_number),
            "You pack the copies in the order of their numbers. Begin with the heaviest, while all GPUs are empty: "
            "small ones fill gaps, large ones make them.",
        ),
        Slip(
            gives(_in_turns),
            "You deal the copies out in turns. Look, for each, which GPU has the least to do.",
        ),
    ),
    done="That is the heart of the published placement. The chapter's also keeps groups of experts on one computer.",
)
