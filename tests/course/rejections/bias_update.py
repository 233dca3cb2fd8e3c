from __future__ import annotations

from collections import Counter

import numpy
import torch

from tests.course.rejections import Answers

ANSWERS = Answers("02.4")


def load_of(bias, experts):
    return torch.bincount(experts.flatten(), minlength=len(bias)).float()


@ANSWERS.accepted
def by_sign(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * torch.sign(load.mean() - load)


@ANSWERS.accepted
def expert_by_expert(bias, experts, rate):
    load, mean = Counter(experts.flatten().tolist()), experts.numel() / len(bias)
    steps = [rate if load[one] < mean else -rate if load[one] > mean else 0.0 for one in range(len(bias))]
    return bias + torch.tensor(steps)


@ANSWERS.accepted
def by_numpy(bias, experts, rate):
    load = numpy.bincount(experts.numpy().ravel(), minlength=len(bias))
    return bias - rate * torch.from_numpy(numpy.sign(load * len(bias) - load.sum())).float()


@ANSWERS.accepted
def on_a_copy(bias, experts, rate):
    load, bias = load_of(bias, experts), bias.clone()
    bias[load < load.mean()] += rate
    bias[load > load.mean()] -= rate
    return bias


@ANSWERS.refused("wrong sign", "the busy get busier", first=True)
def busier(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * torch.sign(load - load.mean())


@ANSWERS.refused("grows with the distance", "Only its sign counts", first=True)
def by_the_distance(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * (load.mean() - load)


@ANSWERS.refused("grows with the distance", "Only its sign counts", first=True)
def by_the_share_of_the_distance(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * (load.mean() - load) / load.mean()


@ANSWERS.refused("wrong mean", "`top_k` choices", first=True)
def tokens_by_experts(bias, experts, rate):
    return bias + rate * torch.sign(len(experts) / len(bias) - load_of(bias, experts))


@ANSWERS.refused("wrong mean", "compare with the median")
def median(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * torch.sign(load.median() - load)


@ANSWERS.refused("idle experts", "The idle count, too", first=True)
def mean_of_the_busy(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * torch.sign(load[load > 0].mean() - load)


@ANSWERS.refused("idle experts", "raised", first=True)
def counts_up_to_the_last_chosen(bias, experts, rate):
    load = torch.bincount(experts.flatten()).float()
    return bias + rate * torch.sign(load.mean() - load)


@ANSWERS.refused("ties", "stay where it is", first=True)
def even_ones_are_lowered(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * torch.where(load < load.mean(), 1.0, -1.0)


@ANSWERS.refused("ties", "stay where it is")
def even_ones_are_raised(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * torch.where(load <= load.mean(), 1.0, -1.0)


@ANSWERS.refused("changed input", "changes its first argument")
def in_place(bias, experts, rate):
    bias += rate * torch.sign(load_of(bias, experts).mean() - load_of(bias, experts))
    return bias


@ANSWERS.refused("ignores rate", "same step for all")
def always_a_thousandth(bias, experts, rate):
    return by_sign(bias, experts, 0.001)


@ANSWERS.refused("ignores bias", "the step alone")
def the_step_alone(bias, experts, rate):
    load = load_of(bias, experts)
    return rate * torch.sign(load.mean() - load)


@ANSWERS.refused("only the busiest", "below the mean")
def the_busiest_alone(bias, experts, rate):
    load = load_of(bias, experts)
    return bias - rate * (load == load.max()) * (load > load.mean())


@ANSWERS.refused("half the job", "shall be chosen more often")
def raises_the_busy_only(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * (load > load.mean())


@ANSWERS.refused("half the job", "goes down")
def raises_the_idle_only(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * (load < load.mean())


@ANSWERS.refused("first choices only", "mean load")
def first_choices(bias, experts, rate):
    return by_sign(bias, experts[:, :1], rate)


@ANSWERS.refused("right shape, zeros", "all zeros")
def zeros(bias, experts, rate):
    return torch.zeros_like(bias)


@ANSWERS.refused("does nothing", "below the mean")
def unchanged(bias, experts, rate):
    return bias.clone()


@ANSWERS.refused("precision", "mean load")
def in_half_precision(bias, experts, rate):
    return by_sign(bias.bfloat16(), experts, rate).float()


@ANSWERS.refused("wrong shape", "(experts,)")
def as_a_column(bias, experts, rate):
    return by_sign(bias, experts, rate)[:, None]


@ANSWERS.refused("rounded shares", "Shares are rounded", first=True)
def compares_shares(bias, experts, rate):
    share = torch.bincount(experts.flatten(), minlength=len(bias)) / experts.numel()
    return bias + rate * (share.mean() - share).sign()


@ANSWERS.refused("kept in bounds", "stays where it is", first=True)
def kept_within_one(bias, experts, rate):
    return by_sign(bias, experts, rate).clamp(-1, 1)


@ANSWERS.refused("shares rounded", "Shares are rounded", first=True)
def shares_by_numpy(bias, experts, rate):
    load = numpy.bincount(experts.numpy().ravel(), minlength=len(bias)) / experts.numel()
    return bias + rate * torch.from_numpy(numpy.sign(load.mean() - load)).float()


@ANSWERS.accepted
def shares_against_a_part(bias, experts, rate):
    share = load_of(bias, experts) / experts.numel()
    return bias + rate * torch.sign(1 / len(bias) - share)


@ANSWERS.refused("shares rounded", "Shares are rounded", first=True)
def shares_in_double_precision(bias, experts, rate):
    share = load_of(bias, experts).double() / experts.numel()
    return bias + rate * torch.sign(share.mean() - share).float()


@ANSWERS.refused("a dead band", "however little", first=True)
def leaves_alone_what_is_within_a_tenth(bias, experts, rate):
    load = load_of(bias, experts)
    step = torch.sign(load.mean() - load)
    return bias + rate * torch.where((load - load.mean()).abs() < 0.1, 0.0, step)


@ANSWERS.refused("a dead band", "however little", first=True)
def leaves_alone_what_is_within_a_hundredth_of_the_mean(bias, experts, rate):
    load = load_of(bias, experts)
    step = torch.sign(load.mean() - load)
    return bias + rate * torch.where((load - load.mean()).abs() < 0.01 * load.mean(), 0.0, step)


@ANSWERS.refused("a soft step", "same step", first=True)
def steep_tanh(bias, experts, rate):
    load = load_of(bias, experts)
    return bias + rate * torch.tanh(100 * (load.mean() - load))


@ANSWERS.refused("counts too narrow", "mean", first=True)
def counted_in_eight_bits(bias, experts, rate):
    load = load_of(bias, experts).to(torch.int8).float()
    return bias + rate * torch.sign(load.mean() - load)


@ANSWERS.refused("counts too narrow", "mean", first=True)
def mean_in_bfloat16(bias, experts, rate):
    load = load_of(bias, experts).to(torch.bfloat16)
    return bias + rate * torch.sign(load.mean() - load).float()


@ANSWERS.refused("forgets", "a small number", first=True)
def decays(bias, experts, rate):
    """Lets the bias fade by a thousandth."""
    return by_sign(0.999 * bias, experts, rate)
