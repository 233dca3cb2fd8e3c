from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from dslearn.moe import MoE
from tests.course.rejections import Answers

ANSWERS = Answers("02.8")


def chosen_by(preference, top_k, factor, *, room=None):
    """(token, expert) of what fits, and the load asked for."""
    tokens, experts = preference.shape
    flat = preference.topk(top_k, dim=1).indices.flatten()
    came = F.one_hot(flat, experts).cumsum(0).gather(1, flat[:, None])[:, 0]
    fits = came <= (math.ceil(factor * tokens * top_k / experts) if room is None else room)
    pairs = torch.arange(tokens).repeat_interleave(top_k)
    return pairs[fits], flat[fits], torch.bincount(flat, minlength=experts)


@ANSWERS.accepted
def by_cumulative_sum(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = F.linear(x, gate_weight).softmax(dim=-1)
    token, expert, load = chosen_by(probabilities + bias, top_k, capacity_factor)
    return token, expert, probabilities[token, expert], load


@ANSWERS.accepted
def by_the_library(x, gate_weight, bias, top_k, capacity_factor):
    layer = MoE(
        x.shape[1], 1, len(gate_weight), top_k, score="softmax", renormalize=False, capacity_factor=capacity_factor
    )
    layer.router.weight = torch.nn.Parameter(gate_weight.detach())
    layer.router.bias = bias
    routing = layer.route(x)
    weight = (x @ gate_weight.T).softmax(-1)[routing.token, routing.expert]
    return routing.token, routing.expert, weight, routing.wanted


@ANSWERS.accepted
def token_by_token_sorted_by_expert(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = (x @ gate_weight.T).softmax(dim=1)
    load = torch.zeros(len(gate_weight), dtype=torch.int32)
    sent = []
    for token, row in enumerate(probabilities):
        for expert in (row + bias).argsort(descending=True)[:top_k].tolist():
            load[expert] += 1
            if load[expert] <= math.ceil(capacity_factor * len(x) * top_k / len(gate_weight)):
                sent.append((expert, token))
    expert, token = (torch.tensor([pair[side] for pair in sorted(sent)], dtype=torch.int32) for side in (0, 1))
    return token, expert, probabilities[token.long(), expert.long()], load


@ANSWERS.refused("the listing", "5 · You return a table", first=True)
def as_listed(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = (x @ gate_weight.T).softmax(dim=-1)
    best = probabilities.topk(min(2, len(gate_weight)), dim=-1).indices
    mask = torch.zeros_like(probabilities)
    for token in range(len(x)):
        for expert in best[token]:
            mask[token, expert] = 1
    weights = probabilities * mask
    return weights / weights.sum(dim=-1, keepdim=True)


@ANSWERS.refused("1: room for choices", "1 · takes no more than `top_k`", first=True)
def room_taken_for_choices(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = (x @ gate_weight.T).softmax(dim=-1)
    room = math.ceil(capacity_factor * len(x) * top_k / len(gate_weight))
    token, expert, load = chosen_by(probabilities + bias, min(room, len(gate_weight)), 1, room=room)
    return token, expert, probabilities[token, expert], load


@ANSWERS.refused("2, 3: no limit", "2, 3 · gives no expert more", first=True)
def unlimited(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = (x @ gate_weight.T).softmax(dim=-1)
    token, expert, load = chosen_by(probabilities + bias, top_k, 1, room=len(x))
    return token, expert, probabilities[token, expert], load


@ANSWERS.refused("2: factor ignored", "2, 3 · uses the room there is", first=True)
def factor_ignored(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = (x @ gate_weight.T).softmax(dim=-1)
    token, expert, load = chosen_by(probabilities + bias, top_k, min(1.0, capacity_factor))
    return token, expert, probabilities[token, expert], load


@ANSWERS.refused("top_k forgotten", "uses the room there is")
def room_for_tokens_by_experts(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = (x @ gate_weight.T).softmax(dim=-1)
    room = math.ceil(capacity_factor * len(x) / len(gate_weight))
    token, expert, load = chosen_by(probabilities + bias, top_k, 1, room=room)
    return token, expert, probabilities[token, expert], load


@ANSWERS.refused("rounded down", "round the room *up*", first=True)
def room_rounded_down(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = (x @ gate_weight.T).softmax(dim=-1)
    room = int(capacity_factor * len(x) * top_k / len(gate_weight))
    token, expert, load = chosen_by(probabilities + bias, top_k, 1, room=room)
    return token, expert, probabilities[token, expert], load


@ANSWERS.refused("off by one", "2, 3 · gives no expert more")
def one_too_many(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = (x @ gate_weight.T).softmax(dim=-1)
    room = math.ceil(capacity_factor * len(x) * top_k / len(gate_weight)) + 1
    token, expert, load = chosen_by(probabilities + bias, top_k, 1, room=room)
    return token, expert, probabilities[token, expert], load


@ANSWERS.refused("wrong order", "serves who comes first", first=True)
def best_served_first(x, gate_weight, bias, top_k, capacity_factor):
    """Serves by probability, and so lets later tokens decide about earlier ones."""
    probabilities = (x @ gate_weight.T).softmax(dim=-1)
    order = probabilities.amax(dim=1).argsort(descending=True)
    token, expert, load = chosen_by((probabilities + bias)[order], top_k, capacity_factor)
    return order[token], expert, probabilities[order[token], expert], load


@ANSWERS.refused("wrong order", "serves who comes first")
def first_choices_first(x, gate_weight, bias, top_k, capacity_factor):
    probabilities = (x @ gate_weight.T).softmax(dim=-1)
    flat = (probabilities + bias).topk(top_k, dim=1).indices.T.flatten()
    came = F.one_hot(flat, len(gate_weight)).cumsum(0).gather(1, flat[:, None])[:, 0]
    fits = came <= math.ceil(capacity_factor * len(x) * top_k / len(gate_weight))
    token, expert = torch.arange(len(x)).repeat(top_k)[fits], flat[fits]
    return token, expert, probabilities[token, expert], torch.bincount(flat, minlength=len(gate_weight))


@ANSWERS.refused("dropped with weight 0", "is still sent, and computed", first=True)
def dropped_with_weight_zero(x, gate_weight, bias, top_k, capacity_factor):
    token, expert, weight, load = by_cumulative_sum(x, gate_weight, bias, top_k, capacity_factor)
    kept = torch.zeros(len(x), len(gate_weight)).index_put((token, expert), weight)
    token, expert, load = chosen_by((x @ gate_weight.T).softmax(-1) + bias, top_k, 1, room=len(x))
    return token, expert, kept[token, expert], load


@ANSWERS.refused("4: renormalised", "4 · weighs by the probability", first=True)
def renormalised(x, gate_weight, bias, top_k, capacity_factor):
    token, expert, weight, load = by_cumulative_sum(x, gate_weight, bias, top_k, capacity_factor)
    whole = torch.zeros(len(x)).index_add(0, token, weight)
    return token, expert, weight / whole[token], load


@ANSWERS.refused("softmax over the chosen", "4 · weighs by the probability")
def softmax_over_the_chosen(x, gate_weight, bias, top_k, capacity_factor):
    logits = x @ gate_weight.T
    token, expert, load = chosen_by(logits.softmax(-1) + bias, top_k, capacity_factor)
    best = (logits.softmax(-1) + bias).topk(top_k, dim=1).indices
    weights = torch.zeros_like(logits).scatter(1, best, logits.gather(1, best).softmax(dim=1))
    return token, expert, weights[token, expert], load


@ANSWERS.refused("4: no gradient", "no right gradient", first=True)
def detached(x, gate_weight, bias, top_k, capacity_factor):
    return by_cumulative_sum(x, gate_weight.detach(), bias, top_k, capacity_factor)


@ANSWERS.refused("6: no balance", "choose without the bias", first=True)
def bias_ignored(x, gate_weight, bias, top_k, capacity_factor):
    return by_cumulative_sum(x, gate_weight, torch.zeros_like(bias), top_k, capacity_factor)


@ANSWERS.refused("6: bias in the weights", "4 · weighs by the probability")
def bias_in_the_weights(x, gate_weight, bias, top_k, capacity_factor):
    preference = (x @ gate_weight.T).softmax(-1) + bias
    token, expert, load = chosen_by(preference, top_k, capacity_factor)
    return token, expert, preference[token, expert], load


@ANSWERS.refused("6: bias on the logits", "6 · lets the bias decide")
def bias_on_the_logits(x, gate_weight, bias, top_k, capacity_factor):
    logits = x @ gate_weight.T
    token, expert, load = chosen_by(logits + bias, top_k, capacity_factor)
    return token, expert, logits.softmax(-1)[token, expert], load


@ANSWERS.refused("6: load after the drop", "before any is dropped", first=True)
def load_after_the_drop(x, gate_weight, bias, top_k, capacity_factor):
    token, expert, weight, _ = by_cumulative_sum(x, gate_weight, bias, top_k, capacity_factor)
    return token, expert, weight, torch.bincount(expert, minlength=len(gate_weight))


@ANSWERS.refused("6: idle experts", "an entry for each of the")
def idle_experts_not_counted(x, gate_weight, bias, top_k, capacity_factor):
    token, expert, weight, load = by_cumulative_sum(x, gate_weight, bias, top_k, capacity_factor)
    return token, expert, weight, load[load > 0]


@ANSWERS.refused("three things", "Return four tensors")
def no_load(x, gate_weight, bias, top_k, capacity_factor):
    return by_cumulative_sum(x, gate_weight, bias, top_k, capacity_factor)[:3]


@ANSWERS.refused("tables in a tuple", "all three (pairs,)")
def choices_as_a_table(x, gate_weight, bias, top_k, capacity_factor):
    best = ((x @ gate_weight.T).softmax(-1) + bias).topk(top_k, dim=1)
    load = torch.bincount(best.indices.flatten(), minlength=len(gate_weight))
    return torch.arange(len(x)), best.indices, best.values, load


@ANSWERS.refused("exchanged", "from 0")
def expert_and_token_exchanged(x, gate_weight, bias, top_k, capacity_factor):
    token, expert, weight, load = by_cumulative_sum(x, gate_weight, bias, top_k, capacity_factor)
    return expert, token, weight, load


@ANSWERS.refused("nothing is sent", "uses the room there is")
def nothing_at_all(x, gate_weight, bias, top_k, capacity_factor):
    none = torch.zeros(0, dtype=torch.long)
    return none, none, torch.zeros(0), torch.zeros(len(gate_weight), dtype=torch.long)


@ANSWERS.refused("exp runs over", "NaN", first=True)
def softmax_by_hand(x, gate_weight, bias, top_k, capacity_factor):
    powers = (x @ gate_weight.T).exp()
    probabilities = powers / powers.sum(1, keepdim=True)
    token, expert, load = chosen_by(probabilities + bias, top_k, capacity_factor)
    return token, expert, probabilities[token, expert], load


@ANSWERS.refused("precision", "4 · weighs", first=True)
def weights_in_half_precision(x, gate_weight, bias, top_k, capacity_factor):
    token, expert, weight, load = by_cumulative_sum(x, gate_weight, bias, top_k, capacity_factor)
    return token, expert, weight.half().float(), load


@ANSWERS.refused("a small number", "4 · weighs", first=True)
def weights_with_a_small_number_added(x, gate_weight, bias, top_k, capacity_factor):
    token, expert, weight, load = by_cumulative_sum(x, gate_weight, bias, top_k, capacity_factor)
    return token, expert, weight + 1e-5, load
