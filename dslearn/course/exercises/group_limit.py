"""02.6: experts from a few groups alone, since a group stands for a computer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def choose_near(
    scores: Float[Tensor, "tokens experts"], top_k: int, num_groups: int, top_groups: int
) -> Int[Tensor, "tokens top_k"]:
    """The best experts of the ``top_groups`` groups whose best ``top_k / top_groups`` experts have the highest sum."""
    size, judges = scores.shape[1] // num_groups, top_k // top_groups
    rows = []
    for row in scores.tolist():
        worth = [sum(sorted(row[at * size : (at + 1) * size])[-judges:]) for at in range(num_groups)]
        best = sorted(range(num_groups), key=lambda group, worth=worth: -worth[group])[:top_groups]
        open_ = [expert for expert in range(len(row)) if expert // size in best]
        rows.append(sorted(open_, key=lambda expert, row=row: -row[expert])[:top_k])
    return torch.tensor(rows)


def build(
    tokens: int, size: int, groups: int, top_groups: int, judges: int, kind: str, seed: int
) -> tuple[Tensor, int, int, int]:
    """Scores in which neither experts nor groups tie; with a bias in it, "negative", "far" below 0, or one "zero"."""
    top_groups, judges = 1 + (top_groups - 1) % groups, 1 + (judges - 1) % size
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(tokens, groups * size, generator=generator)
    if kind == "one star":  # a group with one high score and nothing else
        star = torch.randint(groups * size, (tokens, 1), generator=generator)
        scores = scores.scatter_add(1, star, torch.full((tokens, 1), 0.9))
    if kind == "negative":
        scores = scores - 1.5
    if kind == "far":
        scores = (scores - 1.5) * 1e35
    if kind == "zero":
        scores = scores - scores[:, :1]
    return scores, judges * top_groups, groups, top_groups


def _size(call: Call) -> int:
    return call["scores"].shape[1] // call["num_groups"]


def _are_experts(call: Call) -> bool:
    rows = call.got.tolist()
    return all(len(set(row)) == len(row) and 0 <= min(row) <= max(row) < call["scores"].shape[1] for row in rows)


def _groups(call: Call, experts: Tensor) -> list[set[int]]:
    return [set(row) for row in (experts // _size(call)).tolist()]


def _few_groups(call: Call) -> bool:
    return all(len(groups) <= call["top_groups"] for groups in _groups(call, call.got))


def _best_groups(call: Call) -> bool:
    by_group = call["scores"].unflatten(1, (call["num_groups"], -1))
    worth = by_group.topk(call["top_k"] // call["top_groups"]).values.sum(dim=2)
    best = worth.topk(call["top_groups"]).indices.tolist()
    return all(groups <= set(row) for groups, row in zip(_groups(call, call.got), best, strict=True))


def _best_experts(call: Call) -> bool:
    return torch.equal(call.got.sort(dim=1).values, call.expected.sort(dim=1).values)


def _right(call: Call) -> bool:
    return torch.equal(call.got, call.expected)


def _judged(worth: Callable[[Tensor, int], Tensor], outside: float = -torch.inf) -> Callable[[Call], bool]:
    """Whether all is explained by judging groups of experts otherwise, or by another mask."""

    def wrong(scores: Tensor, top_k: int, num_groups: int, top_groups: int) -> Tensor:
        by_group = scores.unflatten(1, (num_groups, -1))
        best = worth(by_group, top_k // top_groups).topk(top_groups).indices
        closed = torch.ones(len(scores), num_groups).scatter(1, best, 0).bool()
        return by_group.masked_fill(closed[..., None], outside).flatten(1).topk(top_k).indices

    return gives(wrong)


def _blanked(call: Call) -> bool:
    """Whether all is explained by a number where −∞ should stand."""
    return any(_judged(_best_sum, outside=-blank)(call) for blank in (0.0, 1.0, *(10.0**k for k in range(2, 33))))


def _zero_times_infinity(scores: Tensor, top_k: int, num_groups: int, top_groups: int) -> Tensor:
    by_group = scores.unflatten(1, (num_groups, -1))
    best = _best_sum(by_group, top_k // top_groups).topk(top_groups).indices
    closed = torch.ones(len(scores), num_groups).scatter(1, best, 0)
    return (by_group + closed[..., None] * -torch.inf).flatten(1).topk(top_k).indices


def _one_by_one(blank: float) -> Callable[[Call], bool]:
    """Whether all is explained by taking the best group again and again, taken ones being worth ``blank``."""

    def wrong(scores: Tensor, top_k: int, num_groups: int, top_groups: int) -> Tensor:
        by_group = scores.unflatten(1, (num_groups, -1))
        worth, closed = _best_sum(by_group, top_k // top_groups), torch.ones(len(scores), num_groups)
        for _ in range(top_groups):
            best = worth.argmax(dim=1, keepdim=True)
            worth, closed = worth.scatter(1, best, blank), closed.scatter(1, best, 0)
        return by_group.masked_fill(closed.bool()[..., None], -torch.inf).flatten(1).topk(top_k).indices

    return gives(wrong)


def _everywhere(scores: Tensor, top_k: int, *_: int) -> Tensor:
    return scores.topk(top_k).indices


def _too_many_groups(scores: Tensor, top_k: int, num_groups: int, top_groups: int) -> Tensor:
    by_group = scores.unflatten(1, (num_groups, -1))
    best = _best_sum(by_group, top_k // top_groups).topk(min(top_k, num_groups)).indices
    closed = torch.ones(len(scores), num_groups).scatter(1, best, 0).bool()
    return by_group.masked_fill(closed[..., None], -torch.inf).flatten(1).topk(top_k).indices


def _best_sum(by_group: Tensor, judges: int) -> Tensor:
    return by_group.topk(judges).values.sum(dim=2)


def _as_many_from_each(scores: Tensor, top_k: int, num_groups: int, top_groups: int) -> Tensor:
    by_group = scores.unflatten(1, (num_groups, -1))
    best = by_group.topk(top_k // top_groups)
    chosen = best.values.sum(dim=2).topk(top_groups).indices
    numbers = best.indices + by_group.shape[2] * torch.arange(num_groups)[:, None]
    experts = torch.take_along_dim(numbers, chosen[..., None], dim=1).flatten(1)
    return experts.gather(1, scores.gather(1, experts).argsort(dim=1, descending=True))


def _strided(scores: Tensor, top_k: int, num_groups: int, top_groups: int) -> Tensor:
    order = torch.arange(scores.shape[1]).view(-1, num_groups).T.flatten()
    return order[choose_near(scores[:, order], top_k, num_groups, top_groups)]


EXERCISE = Exercise(
    id="02.6",
    title="Few computers",
    minutes=20,
    difficulty=2,
    function="choose_near",
    right=choose_near,
    draw=st.tuples(
        st.sampled_from(range(1, 4)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(1, 4)),
        st.sampled_from(range(1, 4)),
        st.sampled_from(("plain", "one star", "negative", "far")),
        st.sampled_from(range(100)),
    ),
    edges=(
        (30, 8, 8, 4, 2, "plain", 0),
        (30, 8, 8, 4, 2, "negative", 1),
        (20, 6, 5, 2, 3, "one star", 2),
        (20, 6, 5, 2, 3, "far", 3),
        (6, 3, 4, 2, 2, "zero", 4),
    ),
    build=build,
    axes="(tokens, top_k)",
    shown=(2, 3, 3, 2, 1, "plain", 1),
    behaviours=(
        Behaviour(
            "chooses existing experts, none of them twice",
            _are_experts,
            "Numbers of experts, from 0: if you choose inside the groups, remember where each group begins.",
        ),
        Behaviour(
            "stays within `top_groups` groups",
            _few_groups,
            "Experts stand in `num_groups` groups of neighbours: with two in a group, experts 0 and 1 are the first. "
            "Set the scores outside a token's best groups to −∞, then take the best experts.",
        ),
        Behaviour(
            "takes the best groups",
            _best_groups,
            "A group is judged by the sum of its `top_k // top_groups` best scores, for each token anew.",
        ),
        Behaviour(
            "takes the best experts of these groups",
            _best_experts,
            "In the chosen groups all experts are open, however many of them come from one group: take the `top_k` "
            "best of them all.",
        ),
        Behaviour("puts the best first", _right, "A token's experts stand in falling order of their scores."),
    ),
    slips=(
        Slip(
            _blanked,
            "You blank the other groups with a number. With a bias in it, a score can be below that, and the blank "
            "wins. Use −∞.",
        ),
        Slip(
            _judged(lambda by_group, _: by_group.amax(dim=2)),
            "You judge a group by its best expert alone. It is the sum of its `top_k // top_groups` best: one star "
            "makes no team.",
        ),
        Slip(
            _judged(lambda by_group, _: by_group.sum(dim=2)),
            "You judge a group by all its experts. Only its `top_k // top_groups` best count: the others will not "
            "be asked.",
        ),
        Slip(
            gives(_as_many_from_each),
            "You take equally many experts from each chosen group. The limit is on groups: within them, the best win, "
            "even if most of them share one.",
        ),
        Slip(
            gives(_strided),
            "Your groups are not neighbours. Experts 0, 1, … up to a group's size stand in the first group: "
            "`unflatten(1, (num_groups, -1))`.",
        ),
        Slip(
            gives(_zero_times_infinity),
            "0 · ∞ is NaN: where a mask of zeros is multiplied with ∞, the open groups are lost. Use `masked_fill` or "
            "`where`.",
        ),
        Slip(
            lambda call: any(_one_by_one(-blank)(call) for blank in (0.0, 1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e9)),
            "You strike out a group that is taken with a number. With a bias in the scores, the others can be worth "
            "less, and it is taken again. Use −∞, or `topk`.",
        ),
        Slip(
            lambda call: gives(_everywhere)(call) or gives(_too_many_groups)(call),
            "Too many groups are open: all of them, or `top_k`. Find each token's `top_groups` best, and close the "
            "others.",
        ),
    ),
    done="However its experts are spread, a token now travels to `top_groups` computers at most.",
)
