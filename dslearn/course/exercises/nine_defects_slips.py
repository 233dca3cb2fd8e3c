"""Mistakes that are known of 01.6, and how each one tells."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from dslearn.course.answers import NEARLY, close
from dslearn.course.exercise import Call, Slip, gives
from dslearn.course.exercises.nine_defects_calls import (
    ask,
    attend,
    repaired_attention,
    the_best,
    the_nearest,
    those_left_after_a_choice_among_all,
    ties,
)
from dslearn.course.exercises.nine_defects_reads import (
    as_many_as_the_budget,
    is_damaged,
    is_ordinary,
    is_right,
    kept_pairs,
    leaves_the_rest_alone,
)


def _hides_nan(call: Call) -> bool:
    """Right but where NaN is due."""
    due = call.expected.isnan()
    return ties(call) or close(call.expected[~due], call.got[~due])


def _all_nan(call: Call) -> bool:
    """Whether every row that has something before it is NaN."""
    return bool(call.got[:, 1:].isnan().all())


def _right_if_ordinary(call: Call) -> bool:
    return not is_ordinary(call) or (is_right(call) and leaves_the_rest_alone(call))


def _nan_in_early_rows(call: Call) -> bool:
    """Right but for NaN in rows that have fewer tokens to keep than the budget."""
    full = torch.arange(len(call.got[0])) >= call["budget"] - 1
    more = call.got[:, ~full].isnan() >= call.expected[:, ~full].isnan()
    return ties(call) or (close(call.expected[:, full], call.got[:, full]) and bool(more.all()))


def _as_if(wrong: Callable[..., Any]) -> Callable[[Call], bool]:
    """Whether a call got what ``wrong`` gives, where it is not free to give something else."""
    explains = gives(partial(ask, wrong))
    return lambda call: ties(call) or is_damaged(call) or explains(call)


def _all_that_tie(call: Call) -> bool:
    if not ties(call):
        return is_damaged(call) or close(call.expected, call.got)
    earlier = torch.arange(len(call.got[0])) if call["budget"] > 1 else 0
    return bool((kept_pairs(call, call.got).sum(dim=-1) == earlier + 1).all())


def _nearly(call: Call) -> bool:
    near = 0.05 * float(call.expected.nan_to_num().abs().max())
    return (
        ties(call)
        or not is_ordinary(call)
        or torch.allclose(call.expected, call.got, rtol=0.05, atol=near, equal_nan=True)
    )


def _given(change: Callable[..., tuple[Any, ...]]) -> Callable[[Call], bool]:
    """Whether the answer is the right one to changed arguments."""
    return _as_if(lambda *arguments: repaired_attention(*change(*arguments)))


_left_after_the_choice = _as_if(partial(attend, those_left_after_a_choice_among_all))
_no_projection = _given(lambda q, k, v, selector, w_out, budget: (q, k, v, selector, torch.eye(len(w_out)), budget))

SLIPS = (
    Slip(
        lambda call: _no_projection(call) and as_many_as_the_budget(call) and leaves_the_rest_alone(call),
        "All is right but the end: the heads lie side by side and are never multiplied by `w_out`.",
    ),
    Slip(
        _hides_nan,
        "You replace NaN by a number, and hide the damage from those who did keep it. Leave the values as they are, "
        "and do not fetch what was not kept.",
    ),
    Slip(
        _nan_in_early_rows,
        "Right but for early tokens, which have fewer to keep than the budget: `topk` makes them fill up with later "
        "tokens, whose values you fetch and multiply by 0. Let those places fetch the token itself (`torch.where`).",
    ),
    Slip(
        _given(lambda q, k, v, *rest: (q, k, k, *rest)),
        "You mix keys: what is mixed by the weights are the values, `v`.",
    ),
    Slip(
        _given(lambda q, k, v, selector, w_out, budget: (q, k, v, selector, w_out.T, budget)),
        "You multiply by the transpose of `w_out`, as `nn.Linear` does with its weight. Here it is `x @ w_out`.",
    ),
    Slip(
        _given(lambda q, *rest: (q * math.sqrt(q.shape[-1]), *rest)),
        "The scores are not divided by √dim before the softmax, so your weights are too far apart.",
    ),
    Slip(
        _given(lambda q, *rest: (q / math.sqrt(q.shape[-1]), *rest)),
        "The scores are divided by dim, or twice by √dim: divide once, by the square root.",
    ),
    Slip(
        _given(lambda q, *rest: (q / math.sqrt(q.shape[2]), *rest)),
        "The scores are divided by √(heads · dim). Each head compares dim features: divide by √dim.",
    ),
    Slip(
        _given(lambda q, *rest: (q, *rest[:-1], q.shape[1])),
        "Each token reads everything before it: this is dense attention. The budget says how many tokens to keep.",
    ),
    Slip(
        _given(lambda *most_and_budget: (*most_and_budget[:-1], most_and_budget[-1] + 1)),
        "Each token reads one too many: the budget counts the token itself and leaves `budget - 1` for the others.",
    ),
    Slip(
        _given(lambda *most_and_budget: (*most_and_budget[:-1], max(1, most_and_budget[-1] - 1))),
        "Each token reads one too few: itself and `budget - 1` others make `budget` tokens.",
    ),
    Slip(
        _given(lambda q, k, v, selector, *rest: (q, k, v, -selector, *rest)),
        "You keep the *lowest* choice scores: `topk` takes the largest, `sort` and `argsort` begin at the smallest.",
    ),
    Slip(
        _given(lambda q, k, v, selector, *rest: (q * selector, k, v, torch.ones_like(selector), *rest)),
        "The selector is to choose only. Your softmax takes the choice scores; it is to take q·k/√dim, without it.",
    ),
    Slip(
        _given(lambda q, k, v, selector, *rest: (q, k, v, selector[:1].expand_as(selector), *rest)),
        "All heads choose by the first row of `selector`: each head has a row of its own.",
    ),
    Slip(
        _as_if(partial(attend, the_best)),
        "A token drops itself where others score higher. It is always kept; the choice is for the `budget - 1` others.",
    ),
    Slip(
        _as_if(partial(attend, the_nearest)),
        "You keep the nearest tokens, a window. Keep those with the highest choice scores, wherever they stand.",
    ),
    Slip(
        lambda call: not is_ordinary(call) or _left_after_the_choice(call),
        "Later tokens take places in the choice and are masked after it, so that fewer are read than the budget says. "
        "Mask them before you choose.",
    ),
    Slip(
        _all_that_tie,
        "Right but for scores that tie: `>=` keeps all that reach the threshold, and so more than the budget. Keep the "
        "places that `topk` returns.",
    ),
    Slip(
        _all_nan,
        "Everything is NaN. Has the +∞ of the diagonal got into the softmax? The choice scores decide who is kept; the "
        "softmax takes q·k/√dim. Or is something divided by a sum of 0?",
    ),
    Slip(
        _right_if_ordinary,
        "Right for ordinary scores alone. They may be any finite numbers: lower than a mask of −1e9, higher than what "
        "you give the diagonal, too large for `exp` (`softmax` subtracts the largest first), or next to each other. "
        "Choose by the scores as they are, neither squashed nor rounded.",
    ),
    Slip(
        _nearly,
        f"{NEARLY} Keep the dtype of the inputs.",
    ),
)
