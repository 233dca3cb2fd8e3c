from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("01.6")


@ANSWERS.accepted
def gathered(q, k, v, selector, w_out, budget):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    tokens, dim = q.shape[-2:]
    past = torch.ones(tokens, tokens).tril() > 0
    choice = ((q * selector[:, None]) @ k.mT).masked_fill(~past, -torch.inf)
    best = choice.masked_fill(torch.eye(tokens) > 0, torch.inf).topk(min(budget, tokens))
    is_kept = best.values > -torch.inf
    index = best.indices.where(is_kept, torch.arange(tokens)[:, None])
    scores = (q @ k.mT / dim**0.5).gather(-1, index)
    weights = scores.masked_fill(~is_kept, -torch.inf).softmax(dim=-1)
    values = torch.take_along_dim(v[:, :, None], index[..., None], dim=3)
    mixed = (weights[..., None, :] @ values)[..., 0, :]
    return mixed.transpose(1, 2).flatten(2) @ w_out


@ANSWERS.accepted
def plain_numbers(q, k, v, selector, w_out, budget):
    batch, tokens, heads, dim = q.shape
    mixed = torch.zeros(batch, tokens, heads, dim)
    for b in range(batch):
        for h in range(heads):
            for t in range(tokens):
                choice = [
                    sum(a * c * s for a, c, s in zip(*rows, strict=True)) for rows in _rows(q, k, selector, b, h, t)
                ]
                kept = [t, *sorted(range(t), key=choice.__getitem__, reverse=True)[: budget - 1]]
                weights = torch.stack([q[b, t, h].dot(k[b, s, h]) / dim**0.5 for s in kept]).softmax(dim=0)
                for s, weight in zip(kept, weights, strict=True):
                    mixed[b, t, h] += weight * v[b, s, h]
    return mixed.reshape(batch, tokens, heads * dim) @ w_out


def _rows(q, k, selector, b, h, t):
    return [(q[b, t, h].tolist(), k[b, s, h].tolist(), selector[h].tolist()) for s in range(t)]


@ANSWERS.accepted
class KeptPairsOnly(nn.Module):
    """A module: lists the pairs (query, kept key) and sums over them."""

    def forward(self, q, k, v, selector, w_out, budget):
        batch, tokens, heads, dim = q.shape
        choice = torch.einsum("bnhd,hd,bmhd->bhnm", q, selector, k)
        earlier = torch.ones(tokens, tokens).tril(-1) > 0
        order = choice.masked_fill(~earlier, -torch.inf).argsort(dim=-1, descending=True)
        rank = order.argsort(dim=-1)
        kept = (earlier & (rank < budget - 1)) | (torch.eye(tokens) > 0)
        b, h, n, m = kept.nonzero(as_tuple=True)
        scores = (q[b, n, h] * k[b, m, h]).sum(dim=-1) / dim**0.5
        largest = torch.full((batch, tokens, heads), -torch.inf)
        largest.view(-1).scatter_reduce_(0, (b * tokens + n) * heads + h, scores, "amax")
        powers = (scores - largest[b, n, h]).exp()
        totals = torch.zeros(batch, tokens, heads).index_put((b, n, h), powers, accumulate=True)
        mixed = torch.zeros_like(q).index_put((b, n, h), powers[:, None] * v[b, m, h], accumulate=True)
        return torch.matmul((mixed / totals[..., None]).flatten(2), w_out)


@ANSWERS.accepted
def torchs_attention_over_what_was_fetched(q, k, v, selector, w_out, budget):
    batch, tokens, heads, dim = q.shape
    rows = []
    for t in range(tokens):
        choice = torch.einsum("bhd,bshd->bhs", q[:, t] * selector, k[:, :t])
        best = choice.topk(min(budget - 1, t)).indices
        kept = torch.cat([best, torch.full((batch, heads, 1), t)], dim=-1)[..., None].expand(-1, -1, -1, dim)
        keys, values = (x.transpose(1, 2).gather(2, kept) for x in (k, v))
        rows.append(F.scaled_dot_product_attention(q[:, t, :, None], keys, values).flatten(1))
    return F.linear(torch.stack(rows, dim=1), w_out.T)


# The listing, and what is left of it after each repair.


@ANSWERS.refused("defect 1 of 9", "transpose(-2, -1)", first=True)
def nothing_repaired(q, k, v, selector, w_out, budget):
    tokens, heads = q.shape[1:3]
    scores = torch.einsum("bnhd,bnhd->bnh", q, k.transpose(-2, -1))
    budget = int(tokens * 0.3)
    threshold = scores.topk(budget, dim=-1).values[..., -1:]
    kept = torch.where(scores > threshold, scores, torch.zeros_like(scores))
    weights = kept / kept.sum(dim=-1, keepdim=True)
    mixed = torch.einsum("bnh,bnhd->bnd", weights, v)
    return mixed.repeat(1, 1, heads)


@ANSWERS.refused("defect 2 of 9", "both carry the letter", first=True)
def repaired_to_1(q, k, v, selector, w_out, budget):
    tokens, heads = q.shape[1:3]
    scores = torch.einsum("bnhd,bnhd->bnh", q, k)
    budget = int(tokens * 0.3)
    threshold = scores.topk(budget, dim=-1).values[..., -1:]
    kept = torch.where(scores > threshold, scores, torch.zeros_like(scores))
    weights = kept / kept.sum(dim=-1, keepdim=True)
    mixed = torch.einsum("bnh,bnhd->bnd", weights, v)
    return mixed.repeat(1, 1, heads)


@ANSWERS.refused("defect 3 of 9", "axis of heads", first=True)
def repaired_to_2(q, k, v, selector, w_out, budget):
    tokens, heads = q.shape[1:3]
    scores = torch.einsum("bnhd,bmhd->bnmh", q, k)
    budget = int(tokens * 0.3)
    threshold = scores.topk(budget, dim=-1).values[..., -1:]
    kept = torch.where(scores > threshold, scores, torch.zeros_like(scores))
    weights = kept / kept.sum(dim=-1, keepdim=True)
    mixed = torch.einsum("bnmh,bmhd->bnd", weights, v)
    return mixed.repeat(1, 1, heads)


@ANSWERS.refused("defect 4 of 9", "share of a short text", first=True)
def repaired_to_3(q, k, v, selector, w_out, budget):
    tokens, heads = q.shape[1:3]
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k)
    budget = int(tokens * 0.3)
    threshold = scores.topk(budget, dim=-1).values[..., -1:]
    kept = torch.where(scores > threshold, scores, torch.zeros_like(scores))
    weights = kept / kept.sum(dim=-1, keepdim=True)
    mixed = torch.einsum("bhnm,bmhd->bnd", weights, v)
    return mixed.repeat(1, 1, heads)


@ANSWERS.refused("defect 5 of 9", "throws that one away", first=True)
def repaired_to_4(q, k, v, selector, w_out, budget):
    tokens, heads = q.shape[1:3]
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k)
    threshold = scores.topk(min(budget, tokens), dim=-1).values[..., -1:]
    kept = torch.where(scores > threshold, scores, torch.zeros_like(scores))
    weights = kept / kept.sum(dim=-1, keepdim=True)
    mixed = torch.einsum("bhnm,bmhd->bnd", weights, v)
    return mixed.repeat(1, 1, heads)


@ANSWERS.refused("defect 6 of 9", "softmax", first=True)
def repaired_to_5(q, k, v, selector, w_out, budget):
    tokens, heads = q.shape[1:3]
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k)
    best = scores.topk(min(budget, tokens), dim=-1)
    kept = torch.zeros_like(scores).scatter(-1, best.indices, best.values)
    weights = kept / kept.sum(dim=-1, keepdim=True)
    mixed = torch.einsum("bhnm,bmhd->bnd", weights, v)
    return mixed.repeat(1, 1, heads)


@ANSWERS.refused("defect 7 of 9", "summed away", first=True)
def repaired_to_6(q, k, v, selector, w_out, budget):
    _, tokens, heads, dim = q.shape
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k)
    best = scores.topk(min(budget, tokens), dim=-1)
    kept = torch.full_like(scores, -torch.inf).scatter(-1, best.indices, best.values)
    weights = (kept / dim**0.5).softmax(dim=-1)
    mixed = torch.einsum("bhnm,bmhd->bnd", weights, v)
    return mixed.repeat(1, 1, heads)


@ANSWERS.refused("defect 8 of 9", "multiplied by the head's row of `selector`", first=True)
def repaired_to_7(q, k, v, selector, w_out, budget):
    _, tokens, _, dim = q.shape
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k)
    best = scores.topk(min(budget, tokens), dim=-1)
    kept = torch.full_like(scores, -torch.inf).scatter(-1, best.indices, best.values)
    weights = (kept / dim**0.5).softmax(dim=-1)
    return torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2)


@ANSWERS.refused("defect 9 of 9", "above the diagonal", first=True)
def repaired_to_8(q, k, v, selector, w_out, budget):
    _, tokens, _, dim = q.shape
    choice = torch.einsum("bnhd,bmhd->bhnm", q * selector, k)
    best = choice.topk(min(budget, tokens), dim=-1).indices
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / dim**0.5
    dropped = torch.ones_like(scores).scatter(-1, best, 0.0) > 0
    weights = scores.masked_fill(dropped, -torch.inf).softmax(dim=-1)
    return torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2)


# Other ways to be wrong.


def causal_choice(q, k, selector):
    """Choice scores, the token's own infinite, those of later tokens −∞."""
    tokens = q.shape[1]
    choice = torch.einsum("bnhd,hd,bmhd->bhnm", q, selector, k)
    return choice.masked_fill(~past(tokens), -torch.inf).masked_fill(torch.eye(tokens) > 0, torch.inf)


def past(tokens):
    return torch.ones(tokens, tokens).tril() > 0


def the_best_of(choice, budget):
    best = choice.topk(min(budget, choice.shape[-1])).indices
    return torch.zeros_like(choice).scatter(-1, best, 1.0) > 0


def masked(q, k, v, w_out, kept):
    """Multiplies all values, those that are not kept by 0."""
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~kept, -torch.inf).softmax(dim=-1)
    return torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2) @ w_out


@ANSWERS.refused("nothing saved", "0 · NaN is NaN", first=True)
def multiplies_all_values(q, k, v, selector, w_out, budget):
    """Right numbers, by multiplying every value and masking most."""
    kept = the_best_of(causal_choice(q, k, selector), budget) & past(q.shape[1])
    return masked(q, k, v, w_out, kept)


@ANSWERS.refused("hides NaN", "hide the damage", first=True)
def cleans_the_values(q, k, v, selector, w_out, budget):
    """Multiplies all values, most by 0, with numbers in place of NaN."""
    kept = the_best_of(causal_choice(q, k, selector), budget) & past(q.shape[1])
    return masked(q, k, v.nan_to_num(), w_out, kept)


@ANSWERS.refused("hides NaN", "hide the damage", first=True)
def cleans_what_it_fetches(q, k, v, selector, w_out, budget):
    return gathered(q, k, torch.where(v.isnan(), 0, v), selector, w_out, budget)


@ANSWERS.refused("hides NaN", "hide the damage", first=True)
def cleans_the_answer(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, w_out, budget).nan_to_num()


@ANSWERS.refused("fetches later tokens", "fill up with later tokens", first=True)
def early_tokens_fetch_the_future_with_weight_0(q, k, v, selector, w_out, budget):
    """Gives weight 0 to what `topk` returns where there is nothing left, and multiplies its values all the same."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    best = causal_choice(*(x.transpose(1, 2) for x in (q, k)), selector).topk(min(budget, q.shape[2]))
    scores = (q @ k.mT / q.shape[-1] ** 0.5).gather(-1, best.indices)
    weights = scores.masked_fill(best.values == -torch.inf, -torch.inf).softmax(dim=-1)
    values = torch.take_along_dim(v[:, :, None], best.indices[..., None], dim=3)
    return torch.einsum("bhnk,bhnkd->bnhd", weights, values).flatten(2) @ w_out


@ANSWERS.refused("two mistakes", "multiplied by `w_out`", first=True)
def multiplies_all_values_and_projects_nothing(q, k, v, selector, w_out, budget):
    return multiplies_all_values(q, k, v, selector, torch.eye(len(w_out)), budget)


@ANSWERS.refused("two mistakes", "`>=` keeps all", first=True)
def greater_or_equal_and_no_projection(q, k, v, selector, w_out, budget):
    return greater_or_equal(q, k, v, selector, torch.eye(len(w_out)), budget)


@ANSWERS.refused("ignores an argument", "never multiplied by `w_out`", first=True)
def no_projection(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, torch.eye(len(w_out)), budget)


@ANSWERS.refused("ignores an argument", "reads everything before it", first=True)
def dense(q, k, v, selector, w_out, budget):
    """Ignores the budget: dense attention."""
    return gathered(q, k, v, selector, w_out, q.shape[1])


@ANSWERS.refused("missing scale", "√dim", first=True)
def no_square_root(q, k, v, selector, w_out, budget):
    return gathered(q * q.shape[-1] ** 0.5, k, v, selector, w_out, budget)


@ANSWERS.refused("off by one", "one too many", first=True)
def itself_and_budget_others(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, w_out, budget + 1)


@ANSWERS.refused("future leak", "Later tokens take places", first=True)
def chooses_among_all_then_masks(q, k, v, selector, w_out, budget):
    """Later tokens cannot be read, but take places in the choice."""
    choice = torch.einsum("bnhd,hd,bmhd->bhnm", q, selector, k).masked_fill(torch.eye(q.shape[1]) > 0, torch.inf)
    return masked(q, k, v, w_out, the_best_of(choice, budget) & past(q.shape[1]))


@ANSWERS.refused("ties", "Right but for scores that tie", first=True)
def greater_or_equal(q, k, v, selector, w_out, budget):
    """Keeps everything that reaches the threshold, and so more than the budget where scores tie."""
    choice = causal_choice(q, k, selector)
    threshold = choice.topk(min(budget, q.shape[1])).values[..., -1:]
    return masked(q, k, v, w_out, (choice >= threshold) & past(q.shape[1]))


@ANSWERS.refused("wrong layout", "side by side", first=True)
def interleaved_heads(q, k, v, selector, w_out, budget):
    """Feature by feature, all heads of each: `d h` where `h d` is meant."""
    mixed = gathered(q, k, v, selector, torch.eye(len(w_out)), budget)
    return mixed.unflatten(-1, q.shape[-2:]).mT.flatten(2) @ w_out


@ANSWERS.refused("wrong layout", "side by side")
def tokens_and_heads_run_together(q, k, v, selector, w_out, budget):
    """Reshaped as (batch, heads, tokens, dim), without turning it round first."""
    mixed = gathered(q, k, v, selector, torch.eye(len(w_out)), budget).unflatten(-1, q.shape[-2:])
    return mixed.transpose(1, 2).reshape(*q.shape[:2], -1) @ w_out


@ANSWERS.refused("wrong axis", "No token sees another")
def attention_of_heads_to_each_other(q, k, v, selector, w_out, budget):
    """Forgets to bring the heads before the tokens, so `q @ k.mT` compares the heads of each token."""
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights @ v).flatten(2) @ w_out


@ANSWERS.refused("wrong axis", "softmax")
def softmax_over_the_queries(q, k, v, selector, w_out, budget):
    kept = the_best_of(causal_choice(q, k, selector), budget) & past(q.shape[1])
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~kept, -torch.inf).softmax(dim=-2)
    return torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2) @ w_out


@ANSWERS.refused("wrong axes, hidden", "swaps features with heads")
def transposed_and_reshaped(q, k, v, selector, w_out, budget):
    """The first defect with its error silenced by `reshape`."""
    return gathered(q, k.transpose(-2, -1).reshape(k.shape), v, selector, w_out, budget)


@ANSWERS.refused("zero for −∞", "still reads a dropped score of 0")
def dropped_scores_are_zero(q, k, v, selector, w_out, budget):
    tokens = q.shape[1]
    kept = the_best_of(causal_choice(q, k, selector), budget) & past(tokens)
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    weights = (scores * kept).masked_fill(~past(tokens), -torch.inf).softmax(dim=-1)
    return torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2) @ w_out


@ANSWERS.refused("renormalised late", "softmax")
def softmax_before_the_choice(q, k, v, selector, w_out, budget):
    """Weights over the whole past, most of them then set to 0: they no longer sum to 1."""
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~past(q.shape[1]), -torch.inf).softmax(dim=-1)
    weights = weights * the_best_of(causal_choice(q, k, selector), budget)
    return torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2) @ w_out


@ANSWERS.refused("one choice for all", "for all heads together")
def heads_choose_together(q, k, v, selector, w_out, budget):
    choice = causal_choice(q, k, selector).sum(dim=1, keepdim=True).expand(-1, q.shape[2], -1, -1)
    return masked(q, k, v, w_out, the_best_of(choice, budget) & past(q.shape[1]))


@ANSWERS.refused("wrong order", "*lowest* choice scores")
def keeps_the_lowest(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, -selector, w_out, budget)


@ANSWERS.refused("own token competes", "drops itself")
def no_place_of_its_own(q, k, v, selector, w_out, budget):
    choice = torch.einsum("bnhd,hd,bmhd->bhnm", q, selector, k).masked_fill(~past(q.shape[1]), -torch.inf)
    return masked(q, k, v, w_out, the_best_of(choice, budget) & past(q.shape[1]))


@ANSWERS.refused("future leak", "above the diagonal")
def early_tokens_fill_up_with_the_future(q, k, v, selector, w_out, budget):
    """Masks before `topk` and not after it."""
    return masked(q, k, v, w_out, the_best_of(causal_choice(q, k, selector), budget))


@ANSWERS.refused("selector in the wrong place", "selector is to choose only")
def selector_in_the_softmax(q, k, v, selector, w_out, budget):
    return gathered(q * selector, k, v, torch.ones_like(selector), w_out, budget)


@ANSWERS.refused("ignores an argument", "selector")
def no_selector(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, torch.ones_like(selector), w_out, budget)


@ANSWERS.refused("ignores part of an argument", "first row of `selector`")
def selector_of_the_first_head(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector[:1].expand_as(selector), w_out, budget)


@ANSWERS.refused("ignores an argument", "has `budget` of them")
def share_of_at_least_one(q, k, v, selector, w_out, budget):
    """Ignores the budget: a share, rounded up to one."""
    return gathered(q, k, v, selector, w_out, max(1, int(q.shape[1] * 0.3)))


@ANSWERS.refused("ignores an argument", "You mix keys")
def reads_keys_for_values(q, k, v, selector, w_out, budget):
    return gathered(q, k, k, selector, w_out, budget)


@ANSWERS.refused("ignores an argument", "softmax")
def queries_are_keys(q, k, v, selector, w_out, budget):
    return gathered(k, k, v, selector, w_out, budget)


@ANSWERS.refused("ignores an argument", "softmax")
def keys_are_queries(q, k, v, selector, w_out, budget):
    return gathered(q, q, v, selector, w_out, budget)


@ANSWERS.refused("window", "nearest tokens")
def the_nearest(q, k, v, selector, w_out, budget):
    place = torch.arange(q.shape[1])
    near = (place <= place[:, None]) & (place > place[:, None] - budget)
    return masked(q, k, v, w_out, near.expand(q.shape[0], q.shape[2], -1, -1))


@ANSWERS.refused("transposed weight", "transpose of `w_out`")
def projected_as_linear_does(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, w_out.T, budget)


@ANSWERS.refused("wrong scale", "divided by dim")
def divided_by_dim(q, k, v, selector, w_out, budget):
    return gathered(q / q.shape[-1] ** 0.5, k, v, selector, w_out, budget)


@ANSWERS.refused("wrong scale", "√(heads · dim)")
def divided_by_the_root_of_the_width(q, k, v, selector, w_out, budget):
    return gathered(q / q.shape[2] ** 0.5, k, v, selector, w_out, budget)


@ANSWERS.refused("off by one", "one too few")
def itself_is_counted_twice(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, w_out, max(1, budget - 1))


@ANSWERS.refused("right shape, zeros", "all zeros")
def zeros(q, k, v, selector, w_out, budget):
    return torch.zeros(q.flatten(2).shape)


@ANSWERS.refused("shown example only", "has the shape")
def the_shown_answer(q, k, v, selector, w_out, budget):
    return torch.tensor([[[1, 0, 0, 0], [0.458, 0.542, 0, 0], [0, 0.834, 0.166, 0], [0, 0.423, 0, 0.577]]])


@ANSWERS.refused("mutated input", "changes its first argument")
def scales_in_place(q, k, v, selector, w_out, budget):
    answer = gathered(q, k, v, selector, w_out, budget)
    q /= q.shape[-1] ** 0.5
    return answer


@ANSWERS.refused("half precision", "nearly right")
def computes_in_bfloat16(q, k, v, selector, w_out, budget):
    return gathered(*(x.bfloat16() for x in (q, k, v, selector, w_out)), budget).float()


@ANSWERS.refused("half precision", "nearly right")
def computes_in_float16(q, k, v, selector, w_out, budget):
    return gathered(*(x.half() for x in (q, k, v, selector, w_out)), budget).float()


@ANSWERS.refused("wrong dtype", "torch.float64")
def returns_double(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, w_out, budget).double()


@ANSWERS.refused("wrong type", "returns a list")
def returns_a_list(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, w_out, budget).tolist()


@ANSWERS.refused("nothing returned", "returns nothing")
def returns_nothing(q, k, v, selector, w_out, budget):
    gathered(q, k, v, selector, w_out, budget)


@ANSWERS.refused("NaN", "the first one too")
def first_token_has_nothing_to_read(q, k, v, selector, w_out, budget):
    """Strictly earlier tokens only: softmax over nothing."""
    earlier = past(q.shape[1]) & ~(torch.eye(q.shape[1]) > 0)
    return masked(q, k, v, w_out, the_best_of(causal_choice(q, k, selector), budget) & earlier)


@ANSWERS.refused("heads apart", "has the shape")
def heads_not_joined(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, torch.eye(len(w_out)), budget).unflatten(-1, q.shape[-2:])


@ANSWERS.refused("wrong order of steps", "is the result multiplied by `w_out`")
def projects_the_values_first(q, k, v, selector, w_out, budget):
    return gathered(q, k, (v.flatten(2) @ w_out).view_as(v), selector, torch.eye(len(w_out)), budget)


@ANSWERS.refused("wrong text of the batch", "each text of the batch")
def answers_for_the_first_text_only(q, k, v, selector, w_out, budget):
    answer = gathered(q, k, v, selector, w_out, budget)
    return answer[:1].expand_as(answer)


@ANSWERS.refused("chance", "Is there chance in it?")
def with_noise(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, w_out, budget) + torch.randn(1)


def chosen_by(change, q, k, v, selector, w_out, budget):
    """Right but for what is made of the choice scores."""
    choice = change(torch.einsum("bnhd,hd,bmhd->bhnm", q, selector, k))
    choice = choice.masked_fill(~past(q.shape[1]), -torch.inf).masked_fill(torch.eye(q.shape[1]) > 0, torch.inf)
    return fetched(q, k, v, w_out, choice, budget)


def fetched(q, k, v, w_out, choice, budget, *, none=None, weigh=None):
    """Reads the best of ``choice``; ``none``: the token fetched where there is none; ``weigh``: scores → weights."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    best = choice.topk(min(budget, q.shape[2]))
    is_none = best.values == -torch.inf
    index = torch.where(is_none, torch.arange(q.shape[2])[:, None] if none is None else none, best.indices)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).gather(-1, index).masked_fill(is_none, -torch.inf)
    weights = weigh(scores) if weigh else scores.softmax(dim=-1)
    values = torch.take_along_dim(v[:, :, None], index[..., None], dim=3)
    return torch.einsum("bhnk,bhnkd->bnhd", weights, values).flatten(2) @ w_out


@ANSWERS.refused("fetches what nobody kept", "fill up with later tokens", first=True)
def empty_places_fetch_the_last_token(q, k, v, selector, w_out, budget):
    return fetched(q, k, v, w_out, causal_choice(q, k, selector), budget, none=torch.tensor(q.shape[1] - 1))


@ANSWERS.refused("swallows NaN", "hide the damage", first=True)
def nothing_of_weight_zero(q, k, v, selector, w_out, budget):
    """Leaves out values whose weight is rounded to 0, though they are kept, and so loses their NaN."""
    kept = the_best_of(causal_choice(q, k, selector), budget) & past(q.shape[1])
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~kept, -torch.inf).softmax(dim=-1)[..., None]
    mixed = torch.where(weights > 0, weights * v.transpose(1, 2)[:, :, None], 0).sum(dim=3)
    return mixed.transpose(1, 2).flatten(2) @ w_out


@ANSWERS.refused("nothing saved", "0 · NaN is NaN", first=True)
def fetches_for_one_head_only(q, k, v, selector, w_out, budget):
    answer = gathered if q.shape[2] == 1 else multiplies_all_values
    return answer(q, k, v, selector, w_out, budget)


@ANSWERS.refused("hides NaN", "hide the damage", first=True)
def cleans_all_but_the_first_head(q, k, v, selector, w_out, budget):
    v = v.clone()
    v[:, :, 1:] = v[:, :, 1:].nan_to_num()
    return gathered(q, k, v, selector, w_out, budget)


@ANSWERS.refused("precision", "Right for ordinary scores alone", first=True)
def chooses_in_half_precision(q, k, v, selector, w_out, budget):
    return chosen_by(lambda choice: choice.half().float(), q, k, v, selector, w_out, budget)


@ANSWERS.refused("precision", "Right for ordinary scores alone", first=True)
def rounds_the_choice_scores(q, k, v, selector, w_out, budget):
    return chosen_by(lambda choice: (50 * choice).round() / 50, q, k, v, selector, w_out, budget)


@ANSWERS.refused("squashed", "Right for ordinary scores alone", first=True)
def squashes_the_choice_scores(q, k, v, selector, w_out, budget):
    return chosen_by(lambda choice: choice.clamp(-20, 20), q, k, v, selector, w_out, budget)


@ANSWERS.refused("squashed", "Right for ordinary scores alone", first=True)
def clamps_the_scores(q, k, v, selector, w_out, budget):
    def weigh(scores):
        return torch.where(scores == -torch.inf, scores, scores.clamp(-20, 20)).softmax(dim=-1)

    return fetched(q, k, v, w_out, causal_choice(q, k, selector), budget, weigh=weigh)


@ANSWERS.refused("unstable softmax", "too large for `exp`", first=True)
def exponentials_as_they_are(q, k, v, selector, w_out, budget):
    def weigh(scores):
        return scores.exp() / scores.exp().sum(dim=-1, keepdim=True)

    return fetched(q, k, v, w_out, causal_choice(q, k, selector), budget, weigh=weigh)


@ANSWERS.refused("not ∞", "what you give the diagonal", first=True)
def diagonal_of_a_hundred(q, k, v, selector, w_out, budget):
    choice = causal_choice(q, k, selector).masked_fill(torch.eye(q.shape[1]) > 0, 100)
    return fetched(q, k, v, w_out, choice, budget)


@ANSWERS.refused("not −∞", "lower than a mask", first=True)
def later_tokens_at_minus_a_billion(q, k, v, selector, w_out, budget):
    choice = torch.einsum("bnhd,hd,bmhd->bhnm", q, selector, k).masked_fill(~past(q.shape[1]), -1e9)
    choice = choice.masked_fill(torch.eye(q.shape[1]) > 0, torch.inf)
    best = choice.topk(min(budget, q.shape[1]))
    later = best.indices > torch.arange(q.shape[1])[:, None]
    kept = torch.full_like(choice, -torch.inf).scatter(-1, best.indices, best.values.masked_fill(later, -torch.inf))
    return fetched(q, k, v, w_out, kept, budget)


@ANSWERS.refused("ties", "in every head", first=True)
def greater_or_equal_in_several_heads(q, k, v, selector, w_out, budget):
    answer = gathered if q.shape[2] == 1 else greater_or_equal
    return answer(q, k, v, selector, w_out, budget)


@ANSWERS.refused("size cut off", "right numbers", first=True)
def at_most_eight_are_read(q, k, v, selector, w_out, budget):
    return gathered(q, k, v, selector, w_out, min(budget, 8))


@ANSWERS.refused("NaN", "Everything is NaN", first=True)
def infinite_diagonal_in_the_softmax(q, k, v, selector, w_out, budget):
    choice = causal_choice(q, k, selector)
    weights = choice.masked_fill(~the_best_of(choice, budget), -torch.inf).softmax(dim=-1)
    return torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2) @ w_out


@ANSWERS.refused("precision", "Right for ordinary scores alone", first=True)
def rounds_the_choice_scores_to_a_hundredth(q, k, v, selector, w_out, budget):
    return chosen_by(lambda choice: (100 * choice).round() / 100, q, k, v, selector, w_out, budget)


@ANSWERS.refused("hides NaN", "hide the damage", first=True)
def cleans_all_but_the_first_feature(q, k, v, selector, w_out, budget):
    v = v.clone()
    v[..., 1:] = v[..., 1:].nan_to_num()
    return gathered(q, k, v, selector, w_out, budget)


@ANSWERS.refused("nothing saved", "0 · NaN is NaN", first=True)
def fetches_in_short_texts_only(q, k, v, selector, w_out, budget):
    answer = gathered if q.shape[1] <= 6 else multiplies_all_values
    return answer(q, k, v, selector, w_out, budget)
