from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("02.3")


@ANSWERS.accepted
def index_added(results, token, weight, num_tokens):
    return results.new_zeros(num_tokens, results.shape[1]).index_add_(0, token, results * weight[:, None])


@ANSWERS.accepted
def by_a_matrix(results, token, weight, num_tokens):
    return (F.one_hot(token, num_tokens) * weight[:, None]).T @ results


@ANSWERS.accepted
def token_by_token(results, token, weight, num_tokens):
    return torch.stack([(weight[token == to, None] * results[token == to]).sum(0) for to in range(num_tokens)])


@ANSWERS.accepted
class AsAModule(nn.Module):
    def forward(self, results, token, weight, num_tokens):
        out = torch.zeros(num_tokens, results.shape[1], dtype=results.dtype)
        return out.index_put((token,), results * weight.unsqueeze(1), accumulate=True)


@ANSWERS.refused("written once", "Only one result of each token", first=True)
def added_in_place(results, token, weight, num_tokens):
    out = results.new_zeros(num_tokens, results.shape[1])
    out[token] += weight[:, None] * results
    return out


@ANSWERS.refused("written once", "Only one result of each token", first=True)
def assigned(results, token, weight, num_tokens):
    out = results.new_zeros(num_tokens, results.shape[1])
    out[token] = weight[:, None] * results
    return out


@ANSWERS.refused("ignores the weights", "leave the weights out", first=True)
def unweighted(results, token, weight, num_tokens):
    return index_added(results, token, torch.ones_like(weight), num_tokens)


@ANSWERS.refused("renormalised", "divide by the sum of the weights", first=True)
def divided_by_the_weights(results, token, weight, num_tokens):
    whole = weight.new_zeros(num_tokens).index_add(0, token, weight)
    return index_added(results, token, weight, num_tokens) / torch.where(whole > 0, whole, 1)[:, None]


@ANSWERS.refused("dropped tokens", "NaN", first=True)
def divided_by_nothing(results, token, weight, num_tokens):
    whole = weight.new_zeros(num_tokens).index_add(0, token, weight)
    return index_added(results, token, weight, num_tokens) / whole[:, None]


@ANSWERS.refused("mean for sum", "the mean over a token's results")
def averaged(results, token, weight, num_tokens):
    many = torch.bincount(token, minlength=num_tokens).clamp(min=1)
    return index_added(results, token, weight, num_tokens) / many[:, None]


@ANSWERS.refused("order taken for granted", "in the order of the tokens", first=True)
def as_if_sorted_by_token(results, token, weight, num_tokens):
    return index_added(results, token.sort().values, weight, num_tokens)


@ANSWERS.refused("weights of others", "its own pair")
def weights_the_other_way_round(results, token, weight, num_tokens):
    return index_added(results, token, weight.flip(0), num_tokens)


@ANSWERS.refused("weighs one feature", "all features of it")
def weighs_the_first_feature_only(results, token, weight, num_tokens):
    weighted = results.clone()
    weighted[:, 0] *= weight
    return index_added(weighted, token, torch.ones_like(weight), num_tokens)


@ANSWERS.refused("too few rows", "(tokens, dim)")
def rows_for_served_tokens_only(results, token, weight, num_tokens):
    return index_added(results, token, weight, int(token.max()) + 1 if len(token) else 0)


@ANSWERS.refused("changed input", "changes its")
def weighs_in_place(results, token, weight, num_tokens):
    results *= weight[:, None]
    return index_added(results, token, torch.ones_like(weight), num_tokens)


@ANSWERS.refused("dropped tokens", "without a result at zero", first=True)
def the_dropped_get_ones(results, token, weight, num_tokens):
    out = index_added(results, token, weight, num_tokens)
    return out + (torch.bincount(token, minlength=num_tokens) == 0)[:, None]


@ANSWERS.refused("right shape, zeros", "all zeros")
def zeros(results, token, weight, num_tokens):
    return results.new_zeros(num_tokens, results.shape[1])


@ANSWERS.refused("wrong dtype", "dtype")
def in_double_precision(results, token, weight, num_tokens):
    return index_added(results.double(), token, weight.double(), num_tokens)


@ANSWERS.refused("precision", "precision")
def in_half_precision(results, token, weight, num_tokens):
    return index_added(results.bfloat16(), token, weight.bfloat16(), num_tokens).to(results.dtype)


@ANSWERS.refused("two at most", "adds up all results", first=True)
def two_results_a_token(results, token, weight, num_tokens):
    """Right as long as no token has more than two results."""
    out, seen = results.new_zeros(num_tokens, results.shape[1]), [0] * num_tokens
    for row, to in enumerate(token.tolist()):
        if seen[to] < 2:
            out[to] += weight[row] * results[row]
        seen[to] += 1
    return out


@ANSWERS.accepted
def as_a_parameter(results, token, weight, num_tokens):
    return nn.Parameter(index_added(results, token, weight, num_tokens))


@ANSWERS.refused("only positive weights", "not cut at 0", first=True)
def negative_weights_left_out(results, token, weight, num_tokens):
    return index_added(results, token, weight.clamp(min=0), num_tokens)


@ANSWERS.refused("size of the weights", "not cut at 0", first=True)
def absolute_weights(results, token, weight, num_tokens):
    return index_added(results, token, weight.abs(), num_tokens)


@ANSWERS.refused("weights cut at one", "not cut at 0", first=True)
def weights_cut_at_two(results, token, weight, num_tokens):
    return index_added(results, token, weight.clamp(-2, 2), num_tokens)


@ANSWERS.refused("precision", "keep the dtype of the inputs", first=True)
def always_single_precision(results, token, weight, num_tokens):
    return index_added(results, token, weight, num_tokens).float()


@ANSWERS.refused("dtype not kept", "raised RuntimeError", first=True)
def added_to_single_precision(results, token, weight, num_tokens):
    return torch.zeros(num_tokens, results.shape[1]).index_add(0, token, weight[:, None] * results)


@ANSWERS.refused("mean of nothing", "from the mean of nothing", first=True)
def mean_where_nothing_came(results, token, weight, num_tokens):
    rows = weight[:, None] * results
    return torch.stack([rows[token == to].mean(0) for to in range(num_tokens)])
