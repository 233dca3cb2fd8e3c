"""What an answer to 01.6 must show, defect by defect, in the text that is made to show it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from dslearn.course.answers import close
from dslearn.course.exercise import Call
from dslearn.course.exercises.nine_defects_calls import SHORT, lets_through, one_head_has_values, ties


def holds(answer: Tensor) -> Bool[Tensor, "..."]:
    """Where the answer holds something, and no NaN."""
    return answer.abs() > 1e-9


def kept_pairs(answer: Tensor) -> Bool[Tensor, "tokens tokens"]:
    return holds(answer[0])


def same_features(call: Call) -> bool:
    q, k = call["q"], call["k"]
    turned = len(q) == 2 and torch.equal(q[0].flip(-1), q[1]) and torch.equal(k[0].flip(-1), k[1])
    return not turned or close(call.got[0], call.got[1])


def reads_others(call: Call) -> bool:
    only_first_has_values = len(call["q"][0]) > 2 * SHORT and not call["v"][:, 1:].any()
    return not only_first_has_values or bool(holds(call.got[:, 1:]).any())


def heads_apart(call: Call) -> bool:
    return not one_head_has_values(call) or close(call.got[0], call.got[1])


def short_texts(call: Call) -> bool:
    short = 1 < call["q"].shape[1] <= SHORT and call["budget"] > 1
    return not short or ties(call) or bool(call["v"].isnan().any()) or bool(holds(call.got).any(dim=-1).all())


def as_many_as_the_budget(call: Call) -> bool:
    if not lets_through(call):
        return True
    read, due = (kept_pairs(answer).sum(dim=1) for answer in (call.got, call.expected))
    full = due == call["budget"]
    full[-1] = True  # no row but the last is without a future
    return torch.equal(read[full], due[full])


def softmax_of_the_kept(call: Call) -> bool:
    if not lets_through(call):
        return True
    scores = call["q"][0, :, 0] @ call["k"][0, :, 0].T / math.sqrt(call["q"].shape[-1])
    kept = kept_pairs(call.got)
    due = scores.masked_fill(~kept, -torch.inf).softmax(dim=-1)
    return close(due[kept.any(dim=-1)], call.got[0, kept.any(dim=-1)])


def side_by_side(call: Call) -> bool:
    if not one_head_has_values(call):
        return True
    with_values, without = call.got.chunk(2, dim=-1)
    return bool(holds(with_values).any(dim=-1).all()) and not without.any()


def selector_decides(call: Call) -> bool:
    if not lets_through(call) or ties(call):
        return True
    return torch.equal(kept_pairs(call.got)[-1], kept_pairs(call.expected)[-1])


def nothing_later(call: Call) -> bool:
    place = torch.arange(len(call.got[0]))
    return not lets_through(call) or not kept_pairs(call.got)[place > place[:, None]].any()


def reads_itself(call: Call) -> bool:
    return not lets_through(call) or bool(kept_pairs(call.got).diagonal().all())


def is_damaged(call: Call) -> bool:
    return bool(call["v"].isnan().any())


def leaves_the_rest_alone(call: Call) -> bool:
    return torch.equal(call.got.isnan(), call.expected.isnan())


def is_right(call: Call) -> bool:
    return ties(call) or close(call.expected, call.got)
