"""What an answer to 01.6 must show, defect by defect, in the text that is made to show it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from dslearn.course.answers import close
from dslearn.course.exercise import Call
from dslearn.course.exercises.nine_defects_calls import SHORT, is_short, lets_through, one_head_has_values, ties


def holds(answer: Tensor) -> Bool[Tensor, "..."]:
    """Where the answer holds something, and no NaN."""
    return answer.abs() > 1e-9


def kept_pairs(call: Call, answer: Tensor) -> Bool[Tensor, "heads tokens tokens"]:
    """Who reads whom, in texts whose values let the weights through."""
    return holds(_weights(call, answer))


def _weights(call: Call, answer: Tensor) -> Tensor:
    return answer[0].unflatten(-1, (call["v"].shape[2], -1)).transpose(0, 1)


def same_features(call: Call) -> bool:
    q, k = call["q"], call["k"]
    turned = len(q) == 2 and torch.equal(q[0].flip(-1), q[1]) and torch.equal(k[0].flip(-1), k[1])
    return not turned or close(call.got[0], call.got[1])


def reads_others(call: Call) -> bool:
    only_first_has_values = len(call["q"][0]) > 2 * SHORT and not call["v"][:, 1:].any()
    later = call.got[:, 1:]
    return not only_first_has_values or bool((holds(later) | later.isnan()).any())


def heads_apart(call: Call) -> bool:
    return not one_head_has_values(call) or close(call.got[0], call.got[1])


def short_texts(call: Call) -> bool:
    short = is_short(call["q"], call["budget"]) and call["q"].shape[1] > 1 and call["budget"] > 1
    return not short or ties(call) or is_damaged(call) or bool(holds(call.got).any(dim=-1).all())


def as_many_as_the_budget(call: Call) -> bool:
    return not lets_through(call) or _several_heads(call) or _as_many(call)


def _several_heads(call: Call) -> bool:
    """Whether there is more than one head: they may not lie side by side yet."""
    return call["v"].shape[2] > 1


def _as_many(call: Call) -> bool:
    read, due = (kept_pairs(call, answer).sum(dim=-1) for answer in (call.got, call.expected))
    full = due == call["budget"]
    full[:, -1] = True  # no row but the last is without a future
    return torch.equal(read[full], due[full])


def softmax_of_the_kept(call: Call) -> bool:
    if not lets_through(call) or _several_heads(call):
        return True
    q, k = (call[name][0].transpose(0, 1) for name in ("q", "k"))
    kept = kept_pairs(call, call.got)
    due = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~kept, -torch.inf).softmax(dim=-1)
    reads = kept.any(dim=-1)
    return close(due[reads], _weights(call, call.got)[reads])


def side_by_side(call: Call) -> bool:
    if not one_head_has_values(call):
        return True
    with_values, without = call.got.chunk(2, dim=-1)
    return bool(holds(with_values).any(dim=-1).all()) and not without.any()


def selector_decides(call: Call) -> bool:
    if not lets_through(call) or ties(call) or call["budget"] == 1:
        return True
    got, expected = (kept_pairs(call, answer)[:, -1] for answer in (call.got, call.expected))
    return torch.equal(got, expected)


def nothing_later(call: Call) -> bool:
    place = torch.arange(len(call.got[0]))
    return not lets_through(call) or not kept_pairs(call, call.got)[:, place > place[:, None]].any()


def reads_itself(call: Call) -> bool:
    return not lets_through(call) or bool(kept_pairs(call, call.got).diagonal(dim1=1, dim2=2).all())


def is_damaged(call: Call) -> bool:
    return bool(call["v"].isnan().any())


def leaves_the_rest_alone(call: Call) -> bool:
    return not is_damaged(call) or close(call.expected, call.got)


def is_ordinary(call: Call) -> bool:
    """Whether scores are neither large nor hardly different."""
    q = call["q"]
    return bool(q.abs().max() < 10) and not torch.equal(q, q.round())


def is_right(call: Call) -> bool:
    return is_damaged(call) or (_as_many(call) if ties(call) else close(call.expected, call.got))
