from __future__ import annotations

import torch
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("02.1")


def chosen(logits, bias, top_k):
    scores = logits.sigmoid()
    return scores, (scores + bias).topk(top_k, dim=1).indices


@ANSWERS.accepted
def sorted_and_cut(logits, bias, top_k):
    scores = 1 / (1 + torch.exp(-logits))
    experts = torch.argsort(scores + bias, dim=1, descending=True)[:, :top_k]
    weights = torch.take_along_dim(scores, experts, dim=1)
    return experts, weights / weights.sum(1, keepdim=True)


@ANSWERS.accepted
def token_by_token(logits, bias, top_k):
    experts, weights = [], []
    for row in logits.sigmoid():
        best = (row + bias).topk(top_k).indices
        experts.append(best)
        weights.append(row[best] / sum(row[expert] for expert in best))
    return torch.stack(experts), torch.stack(weights)


@ANSWERS.accepted
class AsAModule(nn.Module):
    def forward(self, logits, bias, top_k):
        scores, experts = chosen(logits, bias, top_k)
        return experts.int(), nn.functional.normalize(scores.gather(1, experts), p=1, dim=1)


@ANSWERS.accepted
def softmax_of_log_scores(logits, bias, top_k):
    _, experts = chosen(logits, bias, top_k)
    return [experts, nn.functional.logsigmoid(logits).gather(1, experts).softmax(dim=1)]


@ANSWERS.refused("bias in the weights", "The bias has got into the weights", first=True)
def weighs_by_what_it_chose_by(logits, bias, top_k):
    best = (logits.sigmoid() + bias).topk(top_k)
    return best.indices, best.values / best.values.sum(dim=1, keepdim=True)


@ANSWERS.refused("ignores bias", "You choose without the bias", first=True)
def no_bias(logits, bias, top_k):
    best = logits.sigmoid().topk(top_k)
    return best.indices, best.values / best.values.sum(dim=1, keepdim=True)


@ANSWERS.refused("wrong place", "You add the bias to the logits", first=True)
def bias_on_the_logits(logits, bias, top_k):
    experts = (logits + bias).topk(top_k).indices
    weights = logits.sigmoid().gather(1, experts)
    return experts, weights / weights.sum(dim=1, keepdim=True)


@ANSWERS.refused("missing scale", "scores as they are", first=True)
def not_divided(logits, bias, top_k):
    scores, experts = chosen(logits, bias, top_k)
    return experts, scores.gather(1, experts)


@ANSWERS.refused("wrong function", "weigh by a softmax", first=True)
def softmax_of_the_chosen_logits(logits, bias, top_k):
    _, experts = chosen(logits, bias, top_k)
    return experts, logits.gather(1, experts).softmax(dim=1)


@ANSWERS.refused("wrong sum", "over the *chosen* ones", first=True)
def divided_by_the_sum_over_all(logits, bias, top_k):
    scores, experts = chosen(logits, bias, top_k)
    return experts, (scores / scores.sum(dim=1, keepdim=True)).gather(1, experts)


@ANSWERS.refused("no gradient", "something on the way was detached", first=True)
def detached(logits, bias, top_k):
    return torch.no_grad()(sorted_and_cut)(logits, bias, top_k)


@ANSWERS.refused("half a gradient", "the sum that they are divided by included", first=True)
def sum_detached(logits, bias, top_k):
    scores, experts = chosen(logits, bias, top_k)
    weights = scores.gather(1, experts)
    return experts, weights / weights.sum(dim=1, keepdim=True).detach()


@ANSWERS.refused("wrong order", "*lowest*")
def ascending(logits, bias, top_k):
    scores = logits.sigmoid()
    experts = (scores + bias).argsort(dim=1)[:, :top_k]
    weights = scores.gather(1, experts)
    return experts, weights / weights.sum(dim=1, keepdim=True)


@ANSWERS.refused("wrong order", "falling order")
def by_number_of_the_expert(logits, bias, top_k):
    scores, experts = chosen(logits, bias, top_k)
    experts = experts.sort(dim=1).values
    weights = scores.gather(1, experts)
    return experts, weights / weights.sum(dim=1, keepdim=True)


@ANSWERS.refused("experts and weights apart", "in the place of its expert")
def weights_in_another_order(logits, bias, top_k):
    scores, experts = chosen(logits, bias, top_k)
    weights = scores.gather(1, experts).sort(dim=1, descending=True).values
    return experts, weights / weights.sum(dim=1, keepdim=True)


@ANSWERS.refused("wrong axis", "sum one")
def divided_over_the_tokens(logits, bias, top_k):
    scores, experts = chosen(logits, bias, top_k)
    weights = scores.gather(1, experts)
    return experts, weights / weights.sum(dim=0, keepdim=True)


@ANSWERS.refused("wrong axis", "Number 1 of the 2 things")
def best_tokens_of_each_expert(logits, bias, top_k):
    scores = logits.sigmoid()
    best = (scores + bias).topk(min(top_k, len(scores)), dim=0)
    return best.indices, best.values


@ANSWERS.refused("softened sum", "No small number", first=True)
def a_small_number_added_to_the_sum(logits, bias, top_k):
    scores, experts = chosen(logits, bias, top_k)
    weights = scores.gather(1, experts)
    return experts, weights / (weights.sum(dim=1, keepdim=True) + 1e-9)


@ANSWERS.refused("a table", "The answer is 2 things")
def weights_of_all_experts(logits, bias, top_k):
    experts, weights = sorted_and_cut(logits, bias, top_k)
    return torch.zeros_like(logits).scatter(1, experts, weights)


@ANSWERS.refused("exchanged", "Number 1 of the 2 things")
def weights_first(logits, bias, top_k):
    return sorted_and_cut(logits, bias, top_k)[::-1]


@ANSWERS.refused("ignores top_k", "Number 1 of the 2 things")
def always_two(logits, bias, top_k):
    return sorted_and_cut(logits, bias, min(2, logits.shape[1]))


@ANSWERS.refused("right shape, zeros", "none of them twice")
def zeros(logits, bias, top_k):
    shape = len(logits), top_k
    return torch.zeros(shape, dtype=torch.long), torch.zeros(shape)


@ANSWERS.refused("equal weights", "by the scores alone")
def all_equal(logits, bias, top_k):
    _, experts = chosen(logits, bias, top_k)
    return experts, torch.full(experts.shape, 1 / top_k)


@ANSWERS.refused("precision", "score plus bias")
def chooses_in_half_precision(logits, bias, top_k):
    scores = logits.sigmoid()
    experts = (scores + bias).to(torch.float8_e4m3fn).float().topk(top_k, dim=1).indices
    weights = scores.gather(1, experts)
    return experts, weights / weights.sum(dim=1, keepdim=True)


@ANSWERS.accepted
def struck_out_with_infinity(logits, bias, top_k):
    scores = logits.sigmoid()
    liked, experts = (scores + bias).detach(), []
    for _ in range(top_k):
        experts.append(liked.argmax(1, keepdim=True))
        liked = liked.scatter(1, experts[-1], -torch.inf)
    experts = torch.cat(experts, 1)
    weights = scores.gather(1, experts)
    return experts.to(torch.uint8), weights / weights.sum(1, keepdim=True)


@ANSWERS.refused("struck out with a number", "strike out who is chosen with a number", first=True)
def struck_out_with_minus_ten(logits, bias, top_k):
    scores = logits.sigmoid()
    liked, experts = (scores + bias).detach(), []
    for _ in range(top_k):
        experts.append(liked.argmax(1, keepdim=True))
        liked = liked.scatter(1, experts[-1], -10.0)
    experts = torch.cat(experts, 1)
    weights = scores.gather(1, experts)
    return experts, weights / weights.sum(1, keepdim=True)


@ANSWERS.refused("counted from one", "numbers of experts, from 0", first=True)
def experts_from_one(logits, bias, top_k):
    experts, weights = sorted_and_cut(logits, bias, top_k)
    return experts + 1, weights


@ANSWERS.refused("counted through all tokens", "numbers of experts, from 0", first=True)
def places_in_the_whole_table(logits, bias, top_k):
    experts, weights = sorted_and_cut(logits, bias, top_k)
    return experts + logits.shape[1] * torch.arange(len(logits))[:, None], weights


@ANSWERS.refused("precision", "nearly right", first=True)
def weights_in_half_precision(logits, bias, top_k):
    experts, weights = sorted_and_cut(logits, bias, top_k)
    return experts, weights.half().float()


@ANSWERS.refused("softened sum", "a small number added", first=True)
def a_tiny_number_added_to_the_sum(logits, bias, top_k):
    scores, experts = chosen(logits, bias, top_k)
    weights = scores.gather(1, experts)
    return experts, weights / (weights.sum(dim=1, keepdim=True) + 1e-12)


@ANSWERS.refused("no gradient", "something on the way was detached", first=True)
def in_inference_mode(logits, bias, top_k):
    return torch.inference_mode()(sorted_and_cut)(logits, bias, top_k)


@ANSWERS.refused("no weights", "Number 2 of the 2 things that you return is None", first=True)
def without_weights(logits, bias, top_k):
    return chosen(logits, bias, top_k)[1], None


@ANSWERS.refused("complex numbers", "torch.complex64", first=True)
def complex_experts(logits, bias, top_k):
    experts, weights = sorted_and_cut(logits, bias, top_k)
    return experts.to(torch.complex64), weights


@ANSWERS.refused("bias taken off again", "0/0", first=True)
def bias_taken_off_the_best(logits, bias, top_k):
    """Takes the bias off the highest sums, of which the score is rounded away."""
    best = (logits.sigmoid() + bias).topk(top_k)
    weights = best.values - bias[best.indices]
    return best.indices, weights / weights.sum(dim=1, keepdim=True)
