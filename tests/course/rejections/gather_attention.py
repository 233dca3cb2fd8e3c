from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("01.4")


def places(blocks, block_size):
    """(tokens, top_k · block_size): the keys of the chosen blocks, and which of them a token may read."""
    tokens = len(blocks)
    place = (blocks[:, :, None] * block_size + torch.arange(block_size)).flatten(1)
    is_block = (blocks >= 0).repeat_interleave(block_size, dim=1)
    return place, is_block & (place <= torch.arange(tokens)[:, None])


def visible(blocks, block_size):
    """(tokens, tokens): in a chosen block, and not later."""
    position = torch.arange(len(blocks))
    in_chosen = (blocks[..., None] == position // block_size).any(dim=1)
    return in_chosen & (position <= position[:, None])


def gathered(q, k, v, place, allowed, scale=None):
    scores = torch.einsum("nd,nmd->nm", q, k[place]) / (scale or q.shape[1] ** 0.5)
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(dim=1)
    return torch.einsum("nm,nmd->nd", weights, v[place])


def clamped_places(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    return gathered(q, k, v, place.clamp(0, len(q) - 1), allowed)


@ANSWERS.accepted
def one_token_at_a_time(q, k, v, blocks, block_size):
    out = torch.zeros(len(q), v.shape[1])
    for token in range(len(q)):
        own, *past = [block for block in blocks[token].tolist() if block != -1]
        read = [k_place for block in past for k_place in range(block * block_size, (block + 1) * block_size)]
        read += range(own * block_size, token + 1)
        out[token] = (k[read] @ q[token] / math.sqrt(q.shape[1])).softmax(dim=0) @ v[read]
    return out


@ANSWERS.accepted
def clamped_and_masked(q, k, v, blocks, block_size):
    """As in the chapter, for every length: −1 fetches block 0, whose weight is 0."""
    missing = -len(k) % block_size
    keys, values = (F.pad(x, (0, 0, 0, missing)).unflatten(0, (-1, block_size)) for x in (k, v))
    chosen = blocks.clamp(min=0)
    position = torch.arange(len(k) + missing).unflatten(0, (-1, block_size))[chosen]
    allowed = (position <= torch.arange(len(q))[:, None, None]) & (blocks >= 0)[:, :, None]
    scores = torch.einsum("nd,nbsd->nbs", q, keys[chosen]) / q.shape[1] ** 0.5
    weights = scores.masked_fill(~allowed, -torch.inf).flatten(1).softmax(dim=1)
    return torch.einsum("nm,nmd->nd", weights, values[chosen].flatten(1, 2))


@ANSWERS.accepted
def dispatched(q, k, v, blocks, block_size):
    q = q / q.shape[-1] ** 0.5
    largest = torch.full((len(q), 1), -torch.inf)
    total, mixed = torch.zeros(len(q), 1), torch.zeros(len(q), v.shape[-1])
    for number, (keys, values) in enumerate(zip(k.split(block_size), v.split(block_size), strict=True)):
        rows = (blocks == number).any(dim=-1).nonzero()[:, 0]
        position = number * block_size + torch.arange(len(keys))
        scores = (q[rows] @ keys.T).masked_fill(position > rows[:, None], -torch.inf)
        new_largest = torch.maximum(largest[rows], scores.amax(dim=-1, keepdim=True))
        shrink, weights = (largest[rows] - new_largest).exp(), (scores - new_largest).exp()
        total[rows] = shrink * total[rows] + weights.sum(dim=-1, keepdim=True)
        mixed[rows] = shrink * mixed[rows] + weights @ values
        largest[rows] = new_largest
    return mixed / total


@ANSWERS.accepted
class WithAnEmptyBlock(nn.Module):
    """A block of zeros at the end, which −1 happens to point to."""

    def forward(self, q, k, v, blocks, block_size):
        missing = -len(k) % block_size + block_size
        keys, values = (torch.cat([x, x.new_zeros(missing, x.shape[1])]).split(block_size) for x in (k, v))
        keys, values = torch.stack(keys)[blocks].flatten(1, 2), torch.stack(values)[blocks].flatten(1, 2)
        _, allowed = places(blocks, block_size)
        hidden = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(q.dtype).min)
        weights = ((keys @ q[:, :, None]).squeeze(2) / q.shape[1] ** 0.5 + hidden).softmax(dim=1)
        return (weights[:, None] @ values).squeeze(1)


@ANSWERS.accepted
def wrapped_around_and_masked(q, k, v, blocks, block_size):
    """−1 fetches the last tokens of the text, whose weight is 0."""
    place, allowed = places(blocks, block_size)
    return gathered(q, k, v, place % len(q), allowed)


@ANSWERS.accepted
def torchs_own_on_gathered_keys(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    place = torch.where(allowed, place, torch.arange(len(q))[:, None])
    mixed = F.scaled_dot_product_attention(q[:, None], k[place], v[place], attn_mask=allowed[:, None])
    return mixed[:, 0]


def numbers_by_hand(q, k, v, blocks, block_size):
    rows = []
    for token, (query, chosen) in enumerate(zip(q.tolist(), blocks.tolist(), strict=True)):
        read = [place for place in range(token + 1) if place // block_size in chosen]
        keys, values = k[read].tolist(), v[read].tolist()
        scores = [sum(a * b for a, b in zip(query, key, strict=True)) / len(query) ** 0.5 for key in keys]
        weights = [math.exp(score - max(scores)) for score in scores]
        columns = zip(*values, strict=True)
        rows.append([sum(w * x for w, x in zip(weights, column, strict=True)) / sum(weights) for column in columns])
    return torch.tensor(rows)


ANSWERS.accepted(lambda q, k, v, blocks, block_size: numbers_by_hand(q, k, v, blocks, block_size).to(v.dtype))


@ANSWERS.refused("masks afterwards", "saves nothing", first=True)
def everything_then_the_mask(q, k, v, blocks, block_size):
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill(~visible(blocks, block_size), -torch.inf).softmax(dim=1) @ v


def filled_with(filler, q, k, v, blocks, block_size, hidden=-torch.inf):
    place, allowed = places(blocks, block_size)
    place = torch.where(allowed, place, filler)
    scores = torch.einsum("nd,nmd->nm", q, k[place]) / q.shape[1] ** 0.5
    return torch.einsum("nm,nmd->nd", scores.masked_fill(~allowed, hidden).softmax(dim=1), v[place])


@ANSWERS.refused("not −∞", "such as −1000", first=True)
def minus_ten_thousand_for_hidden(q, k, v, blocks, block_size):
    """Hidden places fetch the token itself, as in hint 3: that hides the leak from all but the lowest scores."""
    return filled_with(torch.arange(len(q))[:, None], q, k, v, blocks, block_size, hidden=-1e4)


@ANSWERS.refused("hides NaN", "hide the damage", first=True)
def values_cleaned_then_masked(q, k, v, blocks, block_size):
    """A damaged key that was chosen still gives NaN, so that only damaged values tell."""
    return everything_then_the_mask(q, k, v.nan_to_num(), blocks, block_size)


@ANSWERS.refused("hides NaN", "hide the damage", first=True)
def keys_cleaned(q, k, v, blocks, block_size):
    return clamped_places(q, k.nan_to_num(), v, blocks, block_size)


@ANSWERS.refused("hides NaN", "hide the damage", first=True)
def values_cleaned(q, k, v, blocks, block_size):
    return clamped_places(q, k, v.nan_to_num(), blocks, block_size)


@ANSWERS.refused("fetches what nobody chose", "Fetch the chosen keys", first=True)
def hidden_places_fetch_the_third_block(q, k, v, blocks, block_size):
    return filled_with(torch.tensor(min(2 * block_size, len(q) - 1)), q, k, v, blocks, block_size)


@ANSWERS.refused("−1 read", "negative places from the end", first=True)
def negative_places(q, k, v, blocks, block_size):
    place = (blocks[:, :, None] * block_size + torch.arange(block_size)).flatten(1)
    allowed = place <= torch.arange(len(q))[:, None]
    return gathered(q, k, v, place.clamp(-len(q), len(q) - 1), allowed)


@ANSWERS.refused("−1 read", "counts twice", first=True)
def none_is_the_own_block(q, k, v, blocks, block_size):
    return clamped_places(q, k, v, blocks.where(blocks >= 0, blocks[:, :1]), block_size)


@ANSWERS.refused("one row for all", "a row of its own", first=True)
def first_row_of_each_block(q, k, v, blocks, block_size):
    rows = blocks[::block_size].repeat_interleave(block_size, dim=0)[: len(q)]
    return clamped_places(q, k, v, rows, block_size)


@ANSWERS.refused("masks afterwards", "saves nothing", first=True)
def torchs_own_with_a_mask(q, k, v, blocks, block_size):
    return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=visible(blocks, block_size))[0]


@ANSWERS.refused("no scale", "divided by √dim", first=True)
def not_scaled(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    return gathered(q, k, v, place.clamp(0, len(q) - 1), allowed, scale=1.0)


@ANSWERS.refused("wrong scale", "by dim itself", first=True)
def scaled_by_dim(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    return gathered(q, k, v, place.clamp(0, len(q) - 1), allowed, scale=q.shape[1])


@ANSWERS.refused("future leak", "to its end", first=True)
def own_block_to_its_end(q, k, v, blocks, block_size):
    place, _ = places(blocks, block_size)
    allowed = (blocks >= 0).repeat_interleave(block_size, dim=1) & (place < len(q))
    return gathered(q, k, v, place.clamp(0, len(q) - 1), allowed)


@ANSWERS.refused("−1 read", "Python takes index −1 for the last", first=True)
def none_is_the_last_block(q, k, v, blocks, block_size):
    number_of_blocks = -(-len(q) // block_size)
    return clamped_places(q, k, v, blocks % number_of_blocks, block_size)


@ANSWERS.refused("assumes equal sizes", "shape", first=True)
def as_wide_as_the_queries(q, k, v, blocks, block_size):
    out = torch.zeros_like(q)
    out[:, : v.shape[1]] = one_token_at_a_time(q, k, v, blocks, block_size)[:, : q.shape[1]]
    return out


@ANSWERS.refused("wrong axis", "its weight is 1", first=True)
def softmax_over_the_queries(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    place = place.clamp(0, len(q) - 1)
    scores = torch.einsum("nd,nmd->nm", q, k[place]) / q.shape[1] ** 0.5
    weights = scores.masked_fill(~allowed, -1e9).softmax(dim=0) * allowed
    return torch.einsum("nm,nmd->nd", weights, v[place])


@ANSWERS.refused("mean, no softmax", "gives their average", first=True)
def average_of_what_was_chosen(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    return gathered(0 * q.nan_to_num(), k.nan_to_num(), v, place.clamp(0, len(q) - 1), allowed)


@ANSWERS.refused("absent counted", "the score −∞, not 0")
def hidden_keys_have_score_zero(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    place = place.clamp(0, len(q) - 1)
    scores = torch.einsum("nd,nmd->nm", q, k[place]) / q.shape[1] ** 0.5
    return torch.einsum("nm,nmd->nd", scores.masked_fill(~allowed, 0).softmax(dim=1), v[place])


@ANSWERS.refused("−1 read", "makes −1 a block that exists")
def none_is_the_first_block(q, k, v, blocks, block_size):
    return clamped_places(q, k, v, blocks.clamp(min=0), block_size)


@ANSWERS.refused("masks afterwards", "saves nothing")
def what_any_token_of_the_block_chose(q, k, v, blocks, block_size):
    """Fetches for a whole block of queries together, and masks."""
    rows = []
    for start in range(0, len(q), block_size):
        some = slice(start, start + block_size)
        seen = visible(blocks, block_size)[some]
        read = seen.any(dim=0).nonzero()[:, 0]
        scores = (q[some] @ k[read].T / q.shape[1] ** 0.5).masked_fill(~seen[:, read], -torch.inf)
        rows.append(scores.softmax(dim=1) @ v[read])
    return torch.cat(rows)


@ANSWERS.refused("hides NaN", "hide the damage")
def cleaned_then_masked(q, k, v, blocks, block_size):
    return everything_then_the_mask(q, k.nan_to_num(), v.nan_to_num(), blocks, block_size)


@ANSWERS.refused("half precision", "smells of precision")
def in_float16(q, k, v, blocks, block_size):
    return clamped_places(q.half(), k.half(), v.half(), blocks, block_size).float()


@ANSWERS.refused("last block", "Something is left out")
def whole_blocks_only(q, k, v, blocks, block_size):
    """A token in the text's short last block reads itself instead of its block."""
    place, allowed = places(blocks, block_size)
    whole = len(q) // block_size * block_size
    token = torch.arange(len(q))[:, None]
    return gathered(q, k, v, place.clamp(0, len(q) - 1), allowed & ((place < whole) | (place == token)))


@ANSWERS.refused("unstable softmax", "NaN")
def exponentials_as_they_are(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    place = place.clamp(0, len(q) - 1)
    weights = (torch.einsum("nd,nmd->nm", q, k[place]) / q.shape[1] ** 0.5).exp() * allowed
    return torch.einsum("nm,nmd->nd", weights / weights.sum(dim=1, keepdim=True), v[place])


@ANSWERS.refused("not −∞", "such as −1000")
def minus_a_thousand_for_hidden(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    place = place.clamp(0, len(q) - 1)
    scores = torch.einsum("nd,nmd->nm", q, k[place]) / q.shape[1] ** 0.5
    return torch.einsum("nm,nmd->nd", scores.masked_fill(~allowed, -1000).softmax(dim=1), v[place])


@ANSWERS.refused("not one softmax", "one softmax for all")
def a_softmax_for_each_block(q, k, v, blocks, block_size):
    parts = [one_token_at_a_time(q, k, v, blocks[:, :1], block_size)]
    for column in blocks[:, 1:].T:
        rows = column >= 0
        part = torch.zeros_like(parts[0])
        for token in rows.nonzero()[:, 0].tolist():
            read = torch.arange(block_size) + column[token] * block_size
            part[token] = (k[read] @ q[token] / q.shape[1] ** 0.5).softmax(dim=0) @ v[read]
        parts.append(part)
    return torch.stack(parts).sum(dim=0)


@ANSWERS.refused("off by one", "holds NaN")
def strictly_earlier(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    allowed &= place < torch.arange(len(q))[:, None]
    return gathered(q, k, v, place.clamp(0, len(q) - 1), allowed)


@ANSWERS.refused("ignores k", "weighs what it reads")
def queries_for_keys(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    return gathered(q, q, v, place.clamp(0, len(q) - 1), allowed)


@ANSWERS.refused("ignores v", "shape")
def mixes_the_keys(q, k, v, blocks, block_size):
    return clamped_places(q, k, k, blocks, block_size)


@ANSWERS.refused("ignores blocks", "whatever it chose")
def causal_attention(q, k, v, blocks, block_size):
    return F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]


@ANSWERS.refused("ignores block_size", "raised")
def blocks_of_two(q, k, v, blocks, block_size):
    return one_token_at_a_time(q, k, v, blocks, 2)


@ANSWERS.refused("right shape, zeros", "all zeros")
def zeros(q, k, v, blocks, block_size):
    return torch.zeros(len(q), v.shape[1])


@ANSWERS.refused("shown example only", "gives the first token its own value")
def the_shown_answer(q, k, v, blocks, block_size):
    """Right for the shown example alone; the average of all values for any other."""
    if v.shape == (6, 6) and block_size == 2:
        return clamped_places(q, k, v, blocks, block_size)
    return v.mean(dim=0).expand(len(q), -1)


@ANSWERS.refused("mutated input", "changes its fourth argument")
def clamps_in_place(q, k, v, blocks, block_size):
    place, allowed = places(blocks, block_size)
    blocks.clamp_(min=0)
    return gathered(q, k, v, place.clamp(0, len(q) - 1), allowed)


@ANSWERS.refused("wrong dtype", "torch.float64")
def in_double_precision(q, k, v, blocks, block_size):
    return clamped_places(q.double(), k.double(), v.double(), blocks, block_size)
