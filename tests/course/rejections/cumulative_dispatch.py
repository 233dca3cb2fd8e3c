from __future__ import annotations

import numpy
import torch
import torch.nn.functional as F

from tests.course.rejections import Answers

ANSWERS = Answers("02.2")


def begins(experts, num_experts):
    counts = torch.bincount(experts.flatten(), minlength=num_experts)
    return counts.cumsum(0) - counts


def earlier(experts, num_experts):
    came = F.one_hot(experts.flatten(), num_experts).cumsum(0)
    return (came.gather(1, experts.flatten()[:, None])[:, 0] - 1).view_as(experts)


@ANSWERS.accepted
def sorted_twice(experts, num_experts):
    return experts.flatten().argsort(stable=True).argsort().view_as(experts)


@ANSWERS.accepted
def counted_in_a_loop(experts, num_experts):
    following, rows = begins(experts, num_experts).tolist(), []
    for token in experts.tolist():
        for expert in token:
            rows.append(following[expert])
            following[expert] += 1
    return torch.tensor(rows, dtype=torch.int32).reshape(experts.shape)


@ANSWERS.accepted
def by_numpy(experts, num_experts):
    order = numpy.argsort(experts.numpy().ravel(), kind="stable")
    rows = numpy.empty_like(order)
    rows[order] = numpy.arange(len(order))
    return torch.from_numpy(rows).reshape(experts.shape)


@ANSWERS.accepted
def by_comparing_all_pairs(experts, num_experts):
    flat = experts.flatten()
    before = (flat[None] < flat[:, None]) | (
        (flat[None] == flat[:, None]) & torch.ones(len(flat), len(flat)).tril(-1).bool()
    )
    return before.sum(1).view_as(experts)


@ANSWERS.refused("the other way round", "That is the order", first=True)
def the_order_itself(experts, num_experts):
    return experts.flatten().argsort(stable=True).view_as(experts)


@ANSWERS.refused("no beginnings", "every expert begins at row 0", first=True)
def place_within_the_expert(experts, num_experts):
    return earlier(experts, num_experts)


@ANSWERS.refused("one expert late", "one expert too late", first=True)
def begins_after_itself(experts, num_experts):
    counts = torch.bincount(experts.flatten(), minlength=num_experts)
    return counts.cumsum(0)[experts] + earlier(experts, num_experts)


@ANSWERS.refused("off by one", "one too high", first=True)
def counted_from_one(experts, num_experts):
    return sorted_twice(experts, num_experts) + 1


@ANSWERS.refused("wrong order", "all first choices", first=True)
def first_choices_before_second_ones(experts, num_experts):
    return sorted_twice(experts.T.contiguous(), num_experts).T


@ANSWERS.refused("wrong axis", "a row of its own", first=True)
def counted_along_the_experts(experts, num_experts):
    came = F.one_hot(experts.flatten(), num_experts).cumsum(1)
    return begins(experts, num_experts)[experts] + (came.gather(1, experts.flatten()[:, None])[:, 0] - 1).view_as(
        experts
    )


@ANSWERS.refused("idle experts", "raised")
def idle_experts_forgotten(experts, num_experts):
    counts = torch.bincount(experts.flatten())
    onehot = F.one_hot(experts.flatten())
    return (counts.cumsum(0) - counts + torch.zeros(num_experts, dtype=torch.long))[experts] + onehot.sum() * 0


@ANSWERS.refused("unstable", "in their order")
def two_pairs_of_an_expert_exchanged(experts, num_experts):
    """Sorts so that equal ones do not keep their order."""
    flat = experts.flatten()
    key = flat * (len(flat) + 1) + (torch.arange(len(flat)) ^ 1)
    return key.argsort().argsort().view_as(experts)


@ANSWERS.refused("runs backwards", "run backwards")
def last_token_first(experts, num_experts):
    return sorted_twice(experts.flip(0, 1), num_experts).flip(0, 1)


@ANSWERS.refused("wrong order", "expert 0 first")
def last_expert_first(experts, num_experts):
    return sorted_twice(num_experts - 1 - experts, num_experts)


@ANSWERS.refused("does nothing", "expert 0 first")
def as_they_stand(experts, num_experts):
    return torch.arange(experts.numel()).view_as(experts)


@ANSWERS.refused("right shape, zeros", "all zeros")
def zeros(experts, num_experts):
    return torch.zeros_like(experts)


@ANSWERS.refused("wrong shape", "(tokens, top_k)")
def flat(experts, num_experts):
    return sorted_twice(experts, num_experts).flatten()


@ANSWERS.refused("wrong dtype", "torch.float32")
def with_a_point(experts, num_experts):
    return sorted_twice(experts, num_experts).float()


@ANSWERS.refused("overflow", "a row of its own", first=True)
def counted_in_eight_bits(experts, num_experts):
    came = F.one_hot(experts.flatten(), num_experts).to(torch.int8).cumsum(0, dtype=torch.int8)
    within = came.gather(1, experts.flatten()[:, None])[:, 0].long() - 1
    return begins(experts, num_experts)[experts] + within.view_as(experts)


@ANSWERS.refused("ignores the second choice", "a row of its own")
def first_choices_counted_only(experts, num_experts):
    counts = torch.bincount(experts[:, 0], minlength=num_experts)
    return (counts.cumsum(0) - counts)[experts] + earlier(experts, num_experts)


@ANSWERS.refused("right shape, one number", "a row of its own", first=True)
def the_number_of_the_token(experts, num_experts):
    return torch.arange(len(experts))[:, None].expand_as(experts)


@ANSWERS.refused("precision", "in their order", first=True)
def sorted_by_a_key_with_decimals(experts, num_experts):
    """Expert before the point, place behind it, where single precision ends."""
    key = experts.flatten().float() + torch.arange(experts.numel()) / experts.numel() * 0.001
    return key.argsort().argsort().view_as(experts)


@ANSWERS.accepted
def in_sixteen_bits(experts, num_experts):
    return sorted_twice(experts, num_experts).to(torch.uint16)


@ANSWERS.accepted
def keys_wide_enough(experts, num_experts):
    flat = experts.flatten()
    return (flat * 10_000 + torch.arange(len(flat))).argsort().argsort().view_as(experts)


@ANSWERS.refused("the other way round", "That is the order", first=True)
def the_order_with_equals_mixed(experts, num_experts):
    flat = experts.flatten()
    order = len(flat) - 1 - flat.flip(0).argsort(stable=True)
    return order.view_as(experts)


@ANSWERS.refused("equals mixed", "stable=True", first=True)
def every_second_pair_first(experts, num_experts):
    flat = experts.flatten()
    key = flat * 10_000 + torch.arange(len(flat)) + 5_000 * (torch.arange(len(flat)) % 2)
    return key.argsort().argsort().view_as(experts)


@ANSWERS.refused("complex numbers", "torch.complex64", first=True)
def complex_rows(experts, num_experts):
    return sorted_twice(experts, num_experts).to(torch.complex64)


@ANSWERS.refused("a loop in a loop", "a loop run within another", first=True)
def each_pair_asks_all_others(experts, num_experts):
    flat = experts.flatten()
    rows = [sum(1 for j, other in enumerate(flat) if (other, j) < (own, i)) for i, own in enumerate(flat)]
    return torch.tensor(rows).view_as(experts)
