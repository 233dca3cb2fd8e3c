"""02.2: the row of each pair in one table sorted by experts, by two cumulative sums."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from jaxtyping import Int
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def rows_of(experts: Int[Tensor, "tokens top_k"], num_experts: int) -> Int[Tensor, "tokens top_k"]:
    """Pairs are put in order by expert, then as they stand; each is told its place."""
    flat = experts.flatten().tolist()
    order = sorted(range(len(flat)), key=lambda pair: (flat[pair], pair))
    rows = torch.empty(len(flat), dtype=torch.long)
    rows[torch.tensor(order)] = torch.arange(len(flat))
    return rows.view_as(experts)


def build(tokens: int, experts: int, top_k: int, kind: str, seed: int) -> tuple[Tensor, int]:
    """Different experts for each token; all like the same ones if "crowded", and the last are "idle"."""
    liking = torch.rand(tokens, experts, generator=torch.Generator().manual_seed(seed))
    if kind == "crowded":
        liking = liking + 2 * torch.randperm(experts, generator=torch.Generator().manual_seed(seed))
    if kind == "idle":
        liking[:, experts // 2 :] -= 1
    return liking.topk(1 + (top_k - 1) % experts).indices, experts


def _own_row(call: Call) -> bool:
    return torch.equal(call.got.flatten().sort().values, torch.arange(call.got.numel()))


def _expert_of_row(call: Call, rows: Tensor) -> Tensor:
    return torch.empty(rows.numel(), dtype=torch.long).scatter_(0, rows.flatten(), call["experts"].flatten())


def _together(call: Call) -> bool:
    return torch.equal(_expert_of_row(call, call.got), call["experts"].flatten().sort().values)


def _right(call: Call) -> bool:
    return torch.equal(call.got, call.expected)


def _within_expert(experts: Tensor, num_experts: int) -> Tensor:
    came = torch.nn.functional.one_hot(experts.flatten(), num_experts).cumsum(dim=0)
    return (came.gather(1, experts.flatten()[:, None]) - 1).view_as(experts)


def _behind_its_own(experts: Tensor, num_experts: int) -> Tensor:
    counts = torch.bincount(experts.flatten(), minlength=num_experts)
    return counts.cumsum(0)[experts] + _within_expert(experts, num_experts)


def _is_order(call: Call) -> bool:
    """Whether these are the pairs in an order of rows, equal experts perhaps mixed."""
    sorted_by = call["experts"].flatten()[call.got.flatten()]
    return _own_row(call) and torch.equal(sorted_by, sorted_by.sort().values)


def _first_choices_first(experts: Tensor, num_experts: int) -> Tensor:
    return rows_of(experts.T.contiguous(), num_experts).T


def _last_first(experts: Tensor, num_experts: int) -> Tensor:
    return rows_of(experts.flip(0, 1), num_experts).flip(0, 1)


EXERCISE = Exercise(
    id="02.2",
    title="One table, sorted",
    minutes=20,
    difficulty=2,
    function="rows_of",
    right=rows_of,
    draw=st.tuples(
        st.sampled_from(range(1, 7)),
        st.sampled_from(range(1, 7)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(("plain", "idle", "crowded")),
        st.sampled_from(range(100)),
    ),
    edges=((400, 16, 2, "plain", 0), (300, 9, 4, "crowded", 1), (5, 12, 1, "idle", 2), (1500, 64, 2, "plain", 3)),
    build=build,
    axes="(tokens, top_k)",
    shown=(4, 3, 2, "plain", 3),
    behaviours=(
        Behaviour(
            "gives every pair a row of its own",
            _own_row,
            "All rows from 0 to the number of pairs less 1 are used, each once. Two things make a row: how many pairs "
            "all experts *before* this one have together, and how many pairs of the *same* expert came earlier.",
        ),
        Behaviour(
            "keeps the pairs of an expert together, expert 0 first",
            _together,
            "The rows of expert 0 come first, then those of expert 1, and so on: an expert's part begins after all "
            "pairs of the experts before it.",
        ),
        Behaviour(
            "keeps the pairs of one expert in their order",
            _right,
            "Within an expert, the earlier token stands above the later one: count the pairs of the same expert that "
            "came before this one. If you sort, `stable=True` keeps equals as they stand.",
        ),
    ),
    slips=(
        Slip(
            _is_order,
            "That is the order: which pair stands in row 0, in row 1, … Asked is the other way round: in which row "
            "each pair stands.",
        ),
        Slip(
            gives(_within_expert),
            "You count within each expert, so that every expert begins at row 0. Add where its part begins: the number "
            "of pairs of all experts before it.",
        ),
        Slip(
            gives(_behind_its_own),
            "Your parts begin one expert too late: `cumsum` counts an expert's own pairs, too. Take them off again.",
        ),
        Slip(
            gives(lambda experts, many: rows_of(experts, many) + 1),
            "Every row is one too high: rows are counted from 0, and `cumsum` counts the pair itself. Take 1 off.",
        ),
        Slip(
            gives(_first_choices_first),
            "You let all first choices come before all second ones. The pairs come token by token: flatten `experts` "
            "as it is.",
        ),
        Slip(
            gives(_last_first),
            "Within each expert your rows run backwards: earlier tokens come first.",
        ),
    ),
    done="Two cumulative sums, no sorting and no loop: this is how a table for each expert is filled on a GPU.",
)
