from __future__ import annotations

import torch

from tests.course.rejections import Answers

ANSWERS = Answers("02.6")


def within(scores, groups, num_groups, outside=-torch.inf):
    """Scores, closed outside the (tokens, top_groups) ``groups``."""
    closed = torch.ones(len(scores), num_groups, dtype=torch.bool).scatter(1, groups, False)
    return scores.masked_fill(closed.repeat_interleave(scores.shape[1] // num_groups, dim=1), outside)


def best_groups(scores, top_k, num_groups, top_groups):
    by_group = scores.unflatten(1, (num_groups, -1))
    return by_group.topk(top_k // top_groups).values.sum(-1).topk(top_groups).indices


@ANSWERS.accepted
def by_a_mask(scores, top_k, num_groups, top_groups):
    groups = best_groups(scores, top_k, num_groups, top_groups)
    return within(scores, groups, num_groups).topk(top_k).indices


@ANSWERS.accepted
def by_gathering_groups(scores, top_k, num_groups, top_groups):
    size = scores.shape[1] // num_groups
    groups = best_groups(scores, top_k, num_groups, top_groups)
    numbers = (groups[..., None] * size + torch.arange(size)).flatten(1)
    best = scores.gather(1, numbers).argsort(dim=1, descending=True)[:, :top_k]
    return numbers.gather(1, best)


@ANSWERS.accepted
def token_by_token(scores, top_k, num_groups, top_groups):
    rows = []
    for row in scores:
        worth = [part.sort().values[-(top_k // top_groups) :].sum().item() for part in row.chunk(num_groups)]
        best = sorted(range(num_groups), key=worth.__getitem__, reverse=True)[:top_groups]
        size = len(row) // num_groups
        numbers = torch.cat([torch.arange(group * size, (group + 1) * size) for group in best])
        rows.append(numbers[row[numbers].argsort(descending=True)[:top_k]])
    return torch.stack(rows).short()


@ANSWERS.refused("not −∞", "the blank wins", first=True)
def blanked_with_zero(scores, top_k, num_groups, top_groups):
    groups = best_groups(scores, top_k, num_groups, top_groups)
    return within(scores, groups, num_groups, outside=0.0).topk(top_k).indices


@ANSWERS.refused("not −∞", "the blank wins", first=True)
def multiplied_by_the_mask(scores, top_k, num_groups, top_groups):
    groups = best_groups(scores, top_k, num_groups, top_groups)
    return (scores * within(torch.ones_like(scores), groups, num_groups, outside=0.0)).topk(top_k).indices


@ANSWERS.refused("judged by one", "one star", first=True)
def groups_judged_by_their_best(scores, top_k, num_groups, top_groups):
    groups = scores.unflatten(1, (num_groups, -1)).amax(-1).topk(top_groups).indices
    return within(scores, groups, num_groups).topk(top_k).indices


@ANSWERS.refused("judged by all", "will not be asked", first=True)
def groups_judged_by_all(scores, top_k, num_groups, top_groups):
    groups = scores.unflatten(1, (num_groups, -1)).mean(-1).topk(top_groups).indices
    return within(scores, groups, num_groups).topk(top_k).indices


@ANSWERS.refused("equal shares", "equally many experts", first=True)
def as_many_from_each_group(scores, top_k, num_groups, top_groups):
    size = scores.shape[1] // num_groups
    groups = best_groups(scores, top_k, num_groups, top_groups)
    rows = []
    for row, chosen in zip(scores, groups.tolist(), strict=True):
        numbers = [g * size + row[g * size : (g + 1) * size].topk(top_k // top_groups).indices for g in chosen]
        numbers = torch.cat(numbers)
        rows.append(numbers[row[numbers].argsort(descending=True)])
    return torch.stack(rows)


@ANSWERS.refused("wrong groups", "not neighbours", first=True)
def every_nth_expert(scores, top_k, num_groups, top_groups):
    order = torch.arange(scores.shape[1]).view(-1, num_groups).T.flatten()
    return order[by_a_mask(scores[:, order], top_k, num_groups, top_groups)]


@ANSWERS.refused("no limit", "Too many groups are open")
def unlimited(scores, top_k, num_groups, top_groups):
    return scores.topk(top_k).indices


@ANSWERS.refused("wrong size", "top_groups` groups", first=True)
def group_sizes_confused(scores, top_k, num_groups, top_groups):
    """Takes ``num_groups`` for the number of experts in a group."""
    many = scores.shape[1] // num_groups
    if many < top_groups or top_k // top_groups > num_groups or top_groups * num_groups < top_k:
        return by_a_mask(scores, top_k, num_groups, top_groups)
    return by_a_mask(scores, top_k, many, top_groups)


@ANSWERS.refused("judged too broadly", "best groups")
def judged_by_top_k_experts(scores, top_k, num_groups, top_groups):
    by_group = scores.unflatten(1, (num_groups, -1))
    groups = by_group.topk(min(top_k, by_group.shape[-1])).values.sum(-1).topk(top_groups).indices
    return within(scores, groups, num_groups).topk(top_k).indices


@ANSWERS.refused("for all tokens together", "best groups")
def same_groups_for_all_tokens(scores, top_k, num_groups, top_groups):
    groups = best_groups(scores.mean(0, keepdim=True), top_k, num_groups, top_groups)
    return within(scores, groups.expand(len(scores), -1), num_groups).topk(top_k).indices


@ANSWERS.refused("worst groups", "best groups")
def worst_groups(scores, top_k, num_groups, top_groups):
    groups = best_groups(-scores, top_k, num_groups, top_groups)
    return within(scores, groups, num_groups).topk(top_k).indices


@ANSWERS.refused("wrong order", "falling order")
def by_number(scores, top_k, num_groups, top_groups):
    return by_a_mask(scores, top_k, num_groups, top_groups).sort(dim=1).values


@ANSWERS.refused("numbers inside the group", "remember where each group begins")
def numbers_inside_the_group(scores, top_k, num_groups, top_groups):
    return by_a_mask(scores, top_k, num_groups, top_groups) % (scores.shape[1] // num_groups)


@ANSWERS.refused("groups for experts", "shape")
def the_groups(scores, top_k, num_groups, top_groups):
    return best_groups(scores, top_k, num_groups, top_groups)


@ANSWERS.refused("one group too many", "top_groups` groups")
def one_group_more(scores, top_k, num_groups, top_groups):
    worth = scores.unflatten(1, (num_groups, -1)).topk(top_k // top_groups).values.sum(-1)
    groups = worth.topk(min(top_groups + 1, num_groups)).indices
    return within(scores, groups, num_groups).topk(top_k).indices


@ANSWERS.refused("right shape, zeros", "none of them twice")
def zeros(scores, top_k, num_groups, top_groups):
    return torch.zeros(len(scores), top_k, dtype=torch.long)


@ANSWERS.refused("changed input", "changes its first argument")
def closed_in_place(scores, top_k, num_groups, top_groups):
    groups = best_groups(scores, top_k, num_groups, top_groups)
    closed = torch.ones(len(scores), num_groups, dtype=torch.bool).scatter(1, groups, False)
    scores.unflatten(1, (num_groups, -1)).masked_fill_(closed[..., None], -torch.inf)
    return scores.topk(top_k).indices


@ANSWERS.refused("scores for numbers", "torch.float32")
def the_scores(scores, top_k, num_groups, top_groups):
    groups = best_groups(scores, top_k, num_groups, top_groups)
    return within(scores, groups, num_groups).topk(top_k).values


@ANSWERS.refused("not −∞", "the blank wins", first=True)
def blanked_with_a_low_number(scores, top_k, num_groups, top_groups):
    groups = best_groups(scores, top_k, num_groups, top_groups)
    return within(scores, groups, num_groups, outside=-1e9).topk(top_k).indices


@ANSWERS.refused("not −∞", "the blank wins", first=True)
def blanked_with_minus_a_hundred(scores, top_k, num_groups, top_groups):
    groups = best_groups(scores, top_k, num_groups, top_groups)
    return within(scores, groups, num_groups, outside=-100.0).topk(top_k).indices


@ANSWERS.accepted
def in_narrow_numbers(scores, top_k, num_groups, top_groups):
    return by_a_mask(scores, top_k, num_groups, top_groups).to(torch.uint16)


def closed_groups(scores, top_k, num_groups, top_groups):
    groups = best_groups(scores, top_k, num_groups, top_groups)
    closed = torch.ones(len(scores), num_groups).scatter(1, groups, 0)
    return closed.repeat_interleave(scores.shape[1] // num_groups, dim=1)


@ANSWERS.refused("not −∞", "the blank wins", first=True)
def blanked_by_minus_ten_to_the_twelfth(scores, top_k, num_groups, top_groups):
    closed = closed_groups(scores, top_k, num_groups, top_groups)
    return scores.masked_fill(closed.bool(), -1e12).topk(top_k).indices


@ANSWERS.refused("not −∞", "−∞", first=True)
def a_large_number_taken_off(scores, top_k, num_groups, top_groups):
    closed = closed_groups(scores, top_k, num_groups, top_groups)
    return (scores - 1e10 * closed).topk(top_k).indices


@ANSWERS.refused("zero times infinity", "0 · ∞ is NaN", first=True)
def a_mask_times_infinity(scores, top_k, num_groups, top_groups):
    closed = closed_groups(scores, top_k, num_groups, top_groups)
    return (scores + closed * -torch.inf).topk(top_k).indices


@ANSWERS.refused("zero times infinity", "groups", first=True)
def scores_times_infinity(scores, top_k, num_groups, top_groups):
    closed = closed_groups(scores, top_k, num_groups, top_groups).bool()
    return torch.where(closed, scores.abs() * -torch.inf, scores).topk(top_k).indices


@ANSWERS.refused("too many groups", "Too many groups are open", first=True)
def top_k_groups(scores, top_k, num_groups, top_groups):
    by_group = scores.unflatten(1, (num_groups, -1))
    groups = by_group.topk(top_k // top_groups).values.sum(2).topk(min(top_k, num_groups)).indices
    return within(scores, groups, num_groups).topk(top_k).indices


@ANSWERS.refused("struck out with a number", "strike out a group", first=True)
def groups_one_by_one(scores, top_k, num_groups, top_groups):
    worth = scores.unflatten(1, (num_groups, -1)).topk(top_k // top_groups).values.sum(2)
    groups = []
    for _ in range(top_groups):
        groups.append(worth.argmax(1, keepdim=True))
        worth = worth.scatter(1, groups[-1], -1.0)
    return within(scores, torch.cat(groups, 1), num_groups).topk(top_k).indices
