from __future__ import annotations

import torch

from tests.course.rejections import Answers

ANSWERS = Answers("01.3")


def own_and_past(scores, block_size):
    own = torch.arange(len(scores)) // block_size
    return own, torch.arange(scores.shape[1]) < own[:, None]


@ANSWERS.accepted
def masked_sort(scores, top_k, block_size):
    own, past = own_and_past(scores, block_size)
    order = scores.masked_fill(~past, -torch.inf).sort(dim=1, descending=True)
    blocks = order.indices.masked_fill(order.values == -torch.inf, -1)[:, : top_k - 1]
    missing = top_k - 1 - blocks.shape[1]
    return torch.nn.functional.pad(torch.cat([own[:, None], blocks], dim=1), (0, missing), value=-1)


@ANSWERS.accepted
def own_block_with_infinite_score(scores, top_k, block_size):
    own, past = own_and_past(scores, block_size)
    lifted = scores.masked_fill(~past, -torch.inf).scatter(1, own[:, None], torch.inf)
    padded = torch.nn.functional.pad(lifted, (0, top_k), value=-torch.inf)
    best = padded.topk(top_k, dim=1)
    return torch.where(best.values > -torch.inf, best.indices, -1)


@ANSWERS.accepted
def picked_one_at_a_time(scores, top_k, block_size):
    rows = []
    for token, row in enumerate(scores.tolist()):
        own = token // block_size
        left, picked = list(range(own)), [own]
        while left and len(picked) < top_k:
            best = max(left, key=lambda block, row=row: row[block])
            left.remove(best)
            picked.append(best)
        rows.append(picked + [-1] * (top_k - len(picked)))
    return torch.tensor(rows)


@ANSWERS.accepted
def in_small_whole_numbers(scores, top_k, block_size):
    return masked_sort(scores, top_k, block_size).to(torch.int8)


@ANSWERS.refused("no second mask", "Mask again after it", first=True)
def topk_fills_up_with_the_future(scores, top_k, block_size):
    own, past = own_and_past(scores, block_size)
    places = min(top_k - 1, scores.shape[1])
    best = scores.masked_fill(~past, -torch.inf).topk(places).indices
    return torch.nn.functional.pad(torch.cat([own[:, None], best], dim=1), (0, top_k - 1 - places), value=-1)


@ANSWERS.refused("future leak", "*before* its own only", first=True)
def no_mask_at_all(scores, top_k, block_size):
    own, _ = own_and_past(scores, block_size)
    others = scores.scatter(1, own[:, None], -torch.inf)
    padded = torch.nn.functional.pad(others, (0, top_k), value=-torch.inf).topk(top_k - 1)
    return torch.cat([own[:, None], padded.indices.masked_fill(padded.values == -torch.inf, -1)], dim=1)


@ANSWERS.refused("off by one", "one token too long", first=True)
def blocks_one_token_too_long(scores, top_k, block_size):
    return masked_sort(scores, top_k, block_size + 1)


@ANSWERS.refused("own block twice", "compete again", first=True)
def own_block_may_be_chosen_again(scores, top_k, block_size):
    own, _ = own_and_past(scores, block_size)
    seen = torch.arange(scores.shape[1]) <= own[:, None]
    padded = torch.nn.functional.pad(scores.masked_fill(~seen, -torch.inf), (0, top_k), value=-torch.inf)
    best = padded.topk(top_k - 1)
    return torch.cat([own[:, None], best.indices.masked_fill(best.values == -torch.inf, -1)], dim=1)


@ANSWERS.refused("wrong axis", "shape")
def best_tokens_of_each_block(scores, top_k, block_size):
    return scores.topk(min(top_k, len(scores)), dim=0).indices


@ANSWERS.refused("wrong order", "*lowest* scores")
def ascending(scores, top_k, block_size):
    return masked_sort(-scores, top_k, block_size)


@ANSWERS.refused("no own block", "own block first")
def own_block_left_out(scores, top_k, block_size):
    return masked_sort(scores, top_k + 1, block_size)[:, 1:]


@ANSWERS.refused("right shape, zeros", "all zeros")
def zeros(scores, top_k, block_size):
    return torch.zeros(len(scores), top_k, dtype=torch.long)


@ANSWERS.refused("shown example only", "shape")
def the_shown_answer(scores, top_k, block_size):
    return torch.tensor([[0, -1], [0, -1], [1, 0], [1, 0], [2, 1], [2, 1]])


@ANSWERS.refused("mutated input", "changes its first argument")
def masks_in_place(scores, top_k, block_size):
    _, past = own_and_past(scores, block_size)
    scores.masked_fill_(~past, -torch.inf)
    return masked_sort(scores, top_k, block_size)


@ANSWERS.refused("ignores an argument", "shape")
def always_two(scores, top_k, block_size):
    return masked_sort(scores, 2, block_size)


@ANSWERS.refused("wrong type", "returns a list")
def lists(scores, top_k, block_size):
    return picked_one_at_a_time(scores, top_k, block_size).tolist()


@ANSWERS.refused("wrong dtype", "torch.float32")
def as_numbers_with_a_point(scores, top_k, block_size):
    return masked_sort(scores, top_k, block_size).float()


@ANSWERS.refused("ties", "exactly where there are fewer")
def everything_above_the_threshold(scores, top_k, block_size):
    """Keeps what beats the last of the best strictly, and so drops that last one."""
    chosen = masked_sort(scores, top_k, block_size)
    kept = scores.gather(1, chosen.clamp(min=0)) > scores.gather(1, chosen[:, -1:].clamp(min=0))
    kept[:, 0] = True
    return torch.where(kept, chosen, -1)


@ANSWERS.refused("precision", "highest scores")
def compares_in_half_precision(scores, top_k, block_size):
    return masked_sort(scores.to(torch.float8_e4m3fn).float(), top_k, block_size)


def masked_by(lowest, scores, top_k, block_size):
    """Right as long as every score is above ``lowest``."""
    own, past = own_and_past(scores, block_size)
    places = min(top_k - 1, scores.shape[1])
    best = scores.masked_fill(~past, lowest).topk(places)
    blocks = torch.where(best.values == lowest, -1, best.indices)
    return torch.nn.functional.pad(torch.cat([own[:, None], blocks], dim=1), (0, top_k - 1 - places), value=-1)


@ANSWERS.refused("not −∞", "any finite number", first=True)
def minus_ten_for_later_blocks(scores, top_k, block_size):
    return masked_by(-10.0, scores, top_k, block_size)


@ANSWERS.refused("not −∞", "any finite number", first=True)
def minus_a_billion_for_later_blocks(scores, top_k, block_size):
    return masked_by(-1e9, scores, top_k, block_size)


@ANSWERS.refused("not −∞", "any finite number", first=True)
def lowest_float_for_later_blocks(scores, top_k, block_size):
    return masked_by(torch.finfo(scores.dtype).min, scores, top_k, block_size)


@ANSWERS.refused("not −∞", "any finite number", first=True)
def finite_mask_and_no_second_one(scores, top_k, block_size):
    """Sorts with −1e9 for later blocks, and knows how many past ones there are: right until a score is lower."""
    own, past = own_and_past(scores, block_size)
    order = scores.masked_fill(~past, -1e9).argsort(dim=1, descending=True)[:, : top_k - 1]
    blocks = torch.where(torch.arange(order.shape[1]) < own[:, None], order, -1)
    return torch.nn.functional.pad(torch.cat([own[:, None], blocks], dim=1), (0, top_k - 1 - order.shape[1]), value=-1)


def own_lifted_to(highest, scores, top_k, block_size):
    own, past = own_and_past(scores, block_size)
    lifted = scores.masked_fill(~past, -torch.inf).scatter(1, own[:, None], highest)
    best = torch.nn.functional.pad(lifted, (0, top_k), value=-torch.inf).topk(top_k, dim=1)
    return torch.where(best.values > -torch.inf, best.indices, -1)


@ANSWERS.refused("not ∞", "higher than what you give the own block", first=True)
def own_block_gets_a_large_number(scores, top_k, block_size):
    return own_lifted_to(3e30, scores, top_k, block_size)


@ANSWERS.refused("overflow", "large ones infinite", first=True)
def scores_multiplied_first(scores, top_k, block_size):
    return masked_sort(scores * 100, top_k, block_size)


@ANSWERS.refused("precision", "next to another one", first=True)
def one_added_to_all_scores(scores, top_k, block_size):
    return masked_sort(scores + 1, top_k, block_size)


@ANSWERS.refused("precision", "different ones become equal", first=True)
def scores_through_asinh(scores, top_k, block_size):
    return masked_sort(scores.asinh(), top_k, block_size)


@ANSWERS.refused("precision", "half precision", first=True)
def compares_in_bfloat16(scores, top_k, block_size):
    return masked_sort(scores.bfloat16(), top_k, block_size)


@ANSWERS.refused("wrong padding", "hold −1, and only those")
def filled_up_with_minus_two(scores, top_k, block_size):
    chosen = masked_sort(scores, top_k, block_size)
    return chosen.masked_fill(chosen < 0, -2)
