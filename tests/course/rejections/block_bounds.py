from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("01.2")


def summaries(k, block_size):
    complete = len(k) // block_size
    blocks = k[: complete * block_size].reshape(complete, block_size, k.shape[1])
    return blocks.amax(dim=1), blocks.amin(dim=1)


@ANSWERS.accepted
def positive_and_negative_part(q, k, block_size):
    top, low = summaries(k, block_size)
    return q.clamp(min=0) @ top.T + q.clamp(max=0) @ low.T


@ANSWERS.accepted
def the_larger_of_two_products(q, k, block_size):
    top, low = summaries(k, block_size)
    return torch.maximum(q[:, None] * top, q[:, None] * low).sum(dim=-1)


@ANSWERS.accepted
def choose_by_sign(q, k, block_size):
    top, low = summaries(k, block_size)
    return torch.einsum("qd,qbd->qb", q, torch.where(q[:, None] > 0, top, low))


@ANSWERS.accepted
def best_product_of_each_feature(q, k, block_size):
    complete = len(k) // block_size
    products = q[:, None] * k[: complete * block_size]
    return products.reshape(len(q), complete, block_size, k.shape[1]).max(dim=2).values.sum(dim=-1)


@ANSWERS.accepted
def as_in_the_chapter(q, k, block_size):
    blocks = k[: len(k) - len(k) % block_size].unflatten(0, (-1, block_size))
    return q.clamp(min=0) @ blocks.amax(dim=-2).mT + q.clamp(max=0) @ blocks.amin(dim=-2).mT


@ANSWERS.accepted
def block_after_block_with_numpy(q, k, block_size):
    q_, k_ = q.numpy(), k.numpy()
    out = np.empty((len(q_), len(k_) // block_size), dtype=q_.dtype)
    for block in range(out.shape[1]):
        rows = k_[block * block_size : (block + 1) * block_size]
        out[:, block] = np.where(q_ > 0, q_ * rows.max(0), q_ * rows.min(0)).sum(1)
    return torch.from_numpy(out)


@ANSWERS.accepted
class AsAModule(nn.Module):
    def forward(self, q, k, block_size):
        columns = [
            torch.stack([q * key for key in block]).amax(dim=0).sum(dim=-1)
            for block in k.split(block_size)
            if len(block) == block_size
        ]
        return torch.stack(columns, dim=1) if columns else q.new_empty(len(q), 0)


@ANSWERS.refused("sign forgotten", "largest value only", first=True)
def largest_values_only(q, k, block_size):
    top, _ = summaries(k, block_size)
    return q @ top.T


@ANSWERS.refused("swapped", "the *lower* bound", first=True)
def max_and_min_swapped(q, k, block_size):
    top, low = summaries(k, block_size)
    return q.clamp(min=0) @ low.T + q.clamp(max=0) @ top.T


@ANSWERS.refused("average", "average", first=True)
def average_key(q, k, block_size):
    complete = len(k) // block_size
    return q @ k[: complete * block_size].reshape(complete, block_size, k.shape[1]).mean(dim=1).T


@ANSWERS.refused("reads every key", "best score itself", first=True)
def best_key(q, k, block_size):
    complete = len(k) // block_size
    return (q @ k[: complete * block_size].T).reshape(len(q), complete, block_size).amax(dim=-1)


@ANSWERS.refused("incomplete block kept", "shape", first=True)
def one_more_block(q, k, block_size):
    parts = k.split(block_size)
    top, low = (torch.stack([f(part, dim=0) for part in parts]) for f in (torch.amax, torch.amin))
    return q.clamp(min=0) @ top.T + q.clamp(max=0) @ low.T


@ANSWERS.refused("no complete block", "raised")
def fails_without_a_complete_block(q, k, block_size):
    blocks = torch.stack(k.split(block_size)[: len(k) // block_size])
    return q.clamp(min=0) @ blocks.amax(dim=1).T + q.clamp(max=0) @ blocks.amin(dim=1).T


@ANSWERS.refused("off by one", "first keys", first=True)
def drops_the_first_keys(q, k, block_size):
    return positive_and_negative_part(q, k[len(k) % block_size :], block_size)


@ANSWERS.refused("wrong axis", "every so many", first=True)
def every_nth_key_in_a_block(q, k, block_size):
    complete = len(k) // block_size
    blocks = k[: complete * block_size].reshape(block_size, complete, k.shape[1])
    return q.clamp(min=0) @ blocks.amax(dim=0).T + q.clamp(max=0) @ blocks.amin(dim=0).T


@ANSWERS.refused("right shape, zeros", "all zeros", first=True)
def zeros(q, k, block_size):
    return q.new_zeros(len(q), len(k) // block_size)


@ANSWERS.refused("sign forgotten", "leave the negative entries of q out")
def positive_entries_only(q, k, block_size):
    top, _ = summaries(k, block_size)
    return q.relu() @ top.T


@ANSWERS.refused("sign lost", "have lost their minus")
def both_parts_positive(q, k, block_size):
    top, low = summaries(k, block_size)
    return q.relu() @ top.T + (-q).relu() @ low.T


@ANSWERS.refused("loose", "without their signs")
def absolute_values(q, k, block_size):
    top, low = summaries(k, block_size)
    return q.abs() @ torch.maximum(top.abs(), low.abs()).T


@ANSWERS.refused("loose", "q count once")
def product_of_lengths(q, k, block_size):
    """|q|·|k| is a bound as well, by Cauchy and Schwarz, and knows no features."""
    complete = len(k) // block_size
    lengths = k[: complete * block_size].norm(dim=-1).reshape(complete, block_size).amax(dim=1)
    return q.norm(dim=-1, keepdim=True) * lengths


@ANSWERS.refused("maximum outside the sum", "*inside* the sum")
def larger_of_the_two_scores(q, k, block_size):
    top, low = summaries(k, block_size)
    return torch.maximum(q @ top.T, q @ low.T)


@ANSWERS.refused("starts at zero", "Zero takes part")
def running_extremes_from_zero(q, k, block_size):
    columns = []
    for start in range(0, len(k) - block_size + 1, block_size):
        top, low = torch.zeros_like(k[0]), torch.zeros_like(k[0])
        for key in k[start : start + block_size]:
            top, low = torch.maximum(top, key), torch.minimum(low, key)
        columns.append(q.clamp(min=0) @ top + q.clamp(max=0) @ low)
    return torch.stack(columns, dim=1) if columns else q.new_empty(len(q), 0)


@ANSWERS.refused("incomplete block kept", "left over have gone into the last")
def rest_joins_the_last_block(q, k, block_size):
    complete = len(k) // block_size
    columns = []
    for block in range(complete):
        end = len(k) if block == complete - 1 else (block + 1) * block_size
        rows = k[block * block_size : end]
        columns.append(q.clamp(min=0) @ rows.amax(dim=0) + q.clamp(max=0) @ rows.amin(dim=0))
    return torch.stack(columns, dim=1) if columns else q.new_empty(len(q), 0)


@ANSWERS.refused("extra scale", "divide by √d")
def scaled_like_attention(q, k, block_size):
    return positive_and_negative_part(q, k, block_size) / q.shape[1] ** 0.5


@ANSWERS.refused("off by one", "breaks the promise")
def blocks_without_their_last_key(q, k, block_size):
    complete = len(k) // block_size
    blocks = k[: complete * block_size].reshape(complete, block_size, k.shape[1])[:, : max(1, block_size - 1)]
    return q.clamp(min=0) @ blocks.amax(dim=1).T + q.clamp(max=0) @ blocks.amin(dim=1).T


@ANSWERS.refused("future leak", "looser than it need be")
def reads_the_next_key_as_well(q, k, block_size):
    longer = torch.cat([k, k[-1:]])
    columns = []
    for start in range(0, len(k) - block_size + 1, block_size):
        rows = longer[start : start + block_size + (block_size > 1)]
        columns.append(q.clamp(min=0) @ rows.amax(dim=0) + q.clamp(max=0) @ rows.amin(dim=0))
    return torch.stack(columns, dim=1) if columns else q.new_empty(len(q), 0)


@ANSWERS.refused("ignores q", "once, with its sign")
def largest_sum_of_features(q, k, block_size):
    top, _ = summaries(k, block_size)
    return top.sum(dim=-1).expand(len(q), -1)


@ANSWERS.refused("ignores k", "once, with its sign")
def the_length_of_the_query(q, k, block_size):
    return q.square().sum(dim=-1, keepdim=True).expand(-1, len(k) // block_size)


@ANSWERS.refused("ignores block_size", "shape")
def always_blocks_of_three(q, k, block_size):
    return positive_and_negative_part(q, k, 3)


@ANSWERS.refused("wrong axis", "shape")
def features_in_blocks(q, k, block_size):
    """Takes the extremes over the features of a key instead of over the keys of a block."""
    return q.clamp(min=0).sum(-1, keepdim=True) * k.amax(dim=1) + q.clamp(max=0).sum(-1, keepdim=True) * k.amin(dim=1)


@ANSWERS.refused("right for the example only", "shape")
def the_shown_shape(q, k, block_size):
    return q.new_ones(2, 2)


@ANSWERS.refused("half precision", "half precision")
def in_half_precision(q, k, block_size):
    return positive_and_negative_part(q.half(), k.half(), block_size).to(q.dtype)


@ANSWERS.refused("off by one", "shape")
def cuts_off_from_the_end(q, k, block_size):
    """Where nothing is left over, `k[:-0]` is no key at all."""
    return positive_and_negative_part(q, k[: -(len(k) % block_size)], block_size)


@ANSWERS.refused("precision", "nearly right")
def double_precision_through_single(q, k, block_size):
    return positive_and_negative_part(q.float(), k.float(), block_size).to(q.dtype)


@ANSWERS.refused("wrong dtype", "your answer is torch.float32")
def always_single_precision(q, k, block_size):
    return positive_and_negative_part(q.float(), k.float(), block_size)


@ANSWERS.refused("mutated input", "changes its first argument")
def clamps_in_place(q, k, block_size):
    top, low = summaries(k, block_size)
    negative = q.clamp(max=0)
    return q.clamp_(min=0) @ top.T + negative @ low.T


@ANSWERS.refused("NaN", "NaN")
def sign_by_division(q, k, block_size):
    """Mixes largest and smallest by q / |q|, which is no sign where q is 0."""
    top, low = summaries(k, block_size)
    sign = (q / q.abs())[:, None]
    return (q[:, None] * ((1 + sign) / 2 * top + (1 - sign) / 2 * low)).sum(dim=-1)


@ANSWERS.refused("wrong type", "returns a list")
def rows_in_a_list(q, k, block_size):
    return list(positive_and_negative_part(q, k, block_size))


@ANSWERS.refused("returns nothing", "returns nothing")
def forgets_to_return(q, k, block_size):
    positive_and_negative_part(q, k, block_size)


@ANSWERS.refused("not −∞", "or with −∞", first=True)
def running_largest_from_minus_a_hundred(q, k, block_size):
    complete = len(k) // block_size
    blocks = k[: complete * block_size].reshape(complete, block_size, k.shape[1])
    top, low = blocks.amax(dim=1).clamp(min=-100), blocks.amin(dim=1).clamp(max=100)
    return q.clamp(min=0) @ top.mT + q.clamp(max=0) @ low.mT


@ANSWERS.refused("small entries dropped", "promise", first=True)
def small_queries_are_nothing(q, k, block_size):
    complete = len(k) // block_size
    blocks = k[: complete * block_size].reshape(complete, block_size, k.shape[1])
    return (q * (q > 1e-3)) @ blocks.amax(dim=1).mT + (q * (q < -1e-3)) @ blocks.amin(dim=1).mT


@ANSWERS.refused("no complete block", "the answer has 0 columns", first=True)
def stacks_nothing(q, k, block_size):
    blocks = [k[start : start + block_size] for start in range(0, len(k) - block_size + 1, block_size)]
    top, low = (torch.stack([side(dim=0).values for side in sides]) for sides in _sides(blocks))
    return q.clamp(min=0) @ top.mT + q.clamp(max=0) @ low.mT


def _sides(blocks):
    return [block.max for block in blocks], [block.min for block in blocks]
