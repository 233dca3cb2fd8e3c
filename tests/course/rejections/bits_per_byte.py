from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("00.1")


@ANSWERS.accepted
def sum_first(nats, num_bytes):
    return nats.sum() / math.log(2) / num_bytes


@ANSWERS.accepted
def token_by_token(nats, num_bytes):
    bits = 0.0
    for surprise in nats:
        bits += surprise.item() / math.log(2)
    return bits / num_bytes


@ANSWERS.accepted
def with_numpy(nats, num_bytes):
    return np.sum(nats.numpy()) * np.log2(np.e) / num_bytes


@ANSWERS.accepted
def as_a_dot_product(nats, num_bytes):
    return torch.einsum("t,t->", nats, torch.full_like(nats, 1 / (num_bytes * math.log(2))))


@ANSWERS.accepted
class AsAModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("nat", torch.tensor(2.0).log())

    def forward(self, nats, num_bytes):
        return (nats / self.nat).sum() / num_bytes


@ANSWERS.refused("missing scale", "*nats* for each byte", first=True)
def nats_a_byte(nats, num_bytes):
    return nats.sum() / num_bytes


@ANSWERS.refused("scale upside down", "multiply by ln 2", first=True)
def times_ln_2(nats, num_bytes):
    return nats.sum() * math.log(2) / num_bytes


@ANSWERS.refused("ignores num_bytes", "for each *token*", first=True)
def bits_a_token(nats, num_bytes):
    return nats.mean() / math.log(2)


@ANSWERS.refused("ignores num_bytes", "whole text", first=True)
def bits_of_the_whole_text(nats, num_bytes):
    return nats.sum() / math.log(2)


@ANSWERS.refused("mean for sum", "divide twice", first=True)
def mean_over_tokens_and_bytes(nats, num_bytes):
    return nats.mean() / math.log(2) / num_bytes


@ANSWERS.refused("off by one", "leave the first token out", first=True)
def without_the_first_token(nats, num_bytes):
    return nats[1:].sum() / math.log(2) / num_bytes


@ANSWERS.refused("right for the example only", "same answer whatever it is given", first=True)
def the_shown_answer(nats, num_bytes):
    return 2.0


@ANSWERS.refused("right kind, zero", "all zeros", first=True)
def zero(nats, num_bytes):
    return torch.zeros(())


@ANSWERS.accepted
def base_two_logarithm(nats, num_bytes):
    return sum(nats.tolist()) * math.log2(math.e) / num_bytes


@ANSWERS.refused("ignores nats", "is never below zero")
def a_guess_from_the_bytes_alone(nats, num_bytes):
    return 8 - num_bytes


@ANSWERS.refused("ignores num_bytes", "the bytes that you are given")
def four_bytes_a_token(nats, num_bytes):
    return nats.sum() / math.log(2) / (4 * len(nats))


@ANSWERS.refused("one sum too few", "one number")
def one_for_each_token(nats, num_bytes):
    return nats / math.log(2) / num_bytes


@ANSWERS.refused("sign", "wrong sign")
def minus_once_more(nats, num_bytes):
    return -sum_first(nats, num_bytes)


@ANSWERS.refused("two units at once", "divide by 8")
def bytes_become_bits(nats, num_bytes):
    return nats.sum() / math.log(2) / (8 * num_bytes)


@ANSWERS.refused("wrong base", "decimal digits")
def digits(nats, num_bytes):
    return nats.sum() / math.log(10) / num_bytes


@ANSWERS.refused("logarithm twice", "dividing by ln 2 is enough")
def back_to_chances(nats, num_bytes):
    return -torch.log2(torch.exp(-nats)).sum() / num_bytes


@ANSWERS.refused("logarithm twice", "only the unit is left to change")
def logarithm_of_the_surprise(nats, num_bytes):
    return (1 + nats).log2().sum() / num_bytes


@ANSWERS.refused("NaN", "NaN")
def surprise_weighted_by_chance(nats, num_bytes):
    """The entropy of a distribution, which the chances of these tokens are not."""
    p = torch.exp(-nats)
    return -(p * p.log2()).sum() / num_bytes


@ANSWERS.refused("off by one", "leave the last token out")
def without_the_last_token(nats, num_bytes):
    return nats[:-1].sum() / math.log(2) / num_bytes


@ANSWERS.refused("counts one token", "add up the surprise of all")
def the_most_surprising_token(nats, num_bytes):
    return nats.max() / math.log(2) / num_bytes


@ANSWERS.refused("ties", "add up the surprise of all")
def equal_surprises_counted_once(nats, num_bytes):
    return nats.unique().sum() / math.log(2) / num_bytes


@ANSWERS.refused("rounded constant", "`math.log(2)` has all the digits")
def typed_constant(nats, num_bytes):
    return nats.sum() / 0.693 / num_bytes


@ANSWERS.refused("rounded", "rounding is for printing")
def two_decimals(nats, num_bytes):
    return round(sum_first(nats, num_bytes).item(), 2)


@ANSWERS.refused("rounded", "rounding is for printing")
def whole_bits(nats, num_bytes):
    return int(nats.sum() / math.log(2)) // num_bytes


@ANSWERS.refused("half precision", "half precision")
def in_half_precision(nats, num_bytes):
    return sum_first(nats.half(), num_bytes).float()


@ANSWERS.refused("half precision", "half precision")
def in_bfloat16(nats, num_bytes):
    return (nats.bfloat16() / math.log(2)).float().sum().item() / num_bytes


@ANSWERS.refused("mutated input", "changes its first argument")
def divides_in_place(nats, num_bytes):
    nats /= math.log(2)
    return nats.sum() / num_bytes


@ANSWERS.refused("wrong type", "returns a list")
def in_a_list(nats, num_bytes):
    return [token_by_token(nats, num_bytes)]


@ANSWERS.refused("wrong type", "returns a str")
def as_text(nats, num_bytes):
    return f"{token_by_token(nats, num_bytes):.3f}"


@ANSWERS.refused("returns nothing", "returns nothing")
def printed(nats, num_bytes):
    print(token_by_token(nats, num_bytes))


@ANSWERS.refused("back to chances", "back from surprise to chances", first=True)
def chances_in_double_precision(nats, num_bytes):
    return -nats.double().neg().exp().log2().sum() / num_bytes


@ANSWERS.refused("back to chances", "back from surprise to chances", first=True)
def chances_multiplied(nats, num_bytes):
    """The chance of a long text is 0 in any precision."""
    return -nats.double().neg().exp().prod().log2() / num_bytes
