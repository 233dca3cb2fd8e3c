"""01.6: the article's listing, repaired; its nine defects show one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Bool
from torch import Tensor

from dslearn.course.answers import close
from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives
from dslearn.course.exercises.nine_defects_calls import (
    SHORT,
    ask,
    attend,
    build,
    keys,
    lets_through,
    one_head_has_values,
    repaired_attention,
    the_best,
    the_nearest,
    those_left_after_a_choice_among_all,
    ties,
)

Kept = Callable[[Sequence[float], int, int], list[int]]


def _read(answer: Tensor) -> Bool[Tensor, "..."]:
    """Where the answer holds something, and no NaN."""
    return answer.isfinite() & (answer.abs() > 1e-9)


def _kept(answer: Tensor) -> Bool[Tensor, "tokens tokens"]:
    return _read(answer[0])


def _same_features(call: Call) -> bool:
    q, k = call["q"], call["k"]
    turned = len(q) == 2 and torch.equal(q[0].flip(-1), q[1]) and torch.equal(k[0].flip(-1), k[1])
    return not turned or close(call.got[0], call.got[1])


def _reads_others(call: Call) -> bool:
    only_first_has_values = len(call["q"][0]) > 2 * SHORT and not call["v"][:, 1:].any()
    return not only_first_has_values or bool(_read(call.got[:, 1:]).any())


def _heads_apart(call: Call) -> bool:
    return not one_head_has_values(call) or close(call.got[0], call.got[1])


def _short_texts(call: Call) -> bool:
    short = 1 < call["q"].shape[1] <= SHORT and call["budget"] > 1
    return not short or ties(call) or bool(call["v"].isnan().any()) or bool(_read(call.got).any(dim=-1).all())


def _as_many_as_the_budget(call: Call) -> bool:
    if not lets_through(call):
        return True
    read, due = (_kept(answer).sum(dim=1) for answer in (call.got, call.expected))
    full = due == call["budget"]
    full[-1] = True  # no row but the last is without a future
    return torch.equal(read[full], due[full])


def _softmax_of_the_kept(call: Call) -> bool:
    if not lets_through(call):
        return True
    scores = call["q"][0, :, 0] @ call["k"][0, :, 0].T / math.sqrt(call["q"].shape[-1])
    kept = _kept(call.got)
    due = scores.masked_fill(~kept, -torch.inf).softmax(dim=-1)
    return close(due[kept.any(dim=-1)], call.got[0, kept.any(dim=-1)])


def _side_by_side(call: Call) -> bool:
    if not one_head_has_values(call):
        return True
    with_values, without = call.got.chunk(2, dim=-1)
    return bool(_read(with_values).any(dim=-1).all()) and not without.any()


def _selector_decides(call: Call) -> bool:
    if not lets_through(call) or ties(call):
        return True
    return torch.equal(_kept(call.got)[-1], _kept(call.expected)[-1])


def _nothing_later(call: Call) -> bool:
    place = torch.arange(len(call.got[0]))
    return not lets_through(call) or not _kept(call.got)[place > place[:, None]].any()


def _itself(call: Call) -> bool:
    return not lets_through(call) or bool(_kept(call.got).diagonal().all())


def _leaves_the_rest_alone(call: Call) -> bool:
    return not call["v"].isnan().any() or bool(call.got.isfinite().all())


def _right(call: Call) -> bool:
    return ties(call) or close(call.expected, call.got)


def _as_if(wrong: Callable[..., Any]) -> Callable[[Call], bool]:
    """Whether a call got what ``wrong`` gives, where it is not free to give something else."""
    explains = gives(partial(ask, wrong))
    return lambda call: ties(call) or bool(call["v"].isnan().any()) or explains(call)


def _all_that_tie(call: Call) -> bool:
    if not ties(call):
        return bool(call["v"].isnan().any()) or close(call.expected, call.got)
    earlier = torch.arange(len(call.got[0])) if call["budget"] > 1 else 0
    return bool((_kept(call.got).sum(dim=1) == earlier + 1).all())


def _nearly(call: Call) -> bool:
    near = 0.05 * float(call.expected.abs().max())
    return ties(call) or torch.allclose(call.expected, call.got, rtol=0.05, atol=near)


def _given(change: Callable[..., tuple[Any, ...]]) -> Callable[[Call], bool]:
    """Whether the answer is the right one to changed arguments."""
    return _as_if(lambda *arguments: repaired_attention(*change(*arguments)))


_SLIPS = (
    Slip(
        _given(lambda q, k, v, selector, w_out, budget: (q, k, v, selector, torch.eye(len(w_out)), budget)),
        "All is right but the end: the heads lie side by side and are never multiplied by `w_out`.",
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
        _as_if(partial(attend, those_left_after_a_choice_among_all)),
        "Later tokens take places in the choice and are masked after it, so that fewer are read than the budget says. "
        "Mask them before you choose.",
    ),
    Slip(
        _all_that_tie,
        "Right but for scores that tie: `>=` keeps all that reach the threshold, and so more than the budget. Keep the "
        "places that `topk` returns.",
    ),
    Slip(
        _nearly,
        "Your answers are nearly right, which smells of precision: is something computed in half precision, or "
        "rounded, on the way? Keep the dtype of the inputs.",
    ),
)

EXERCISE = Exercise(
    id="01.6",
    title="Nine defects",
    minutes=40,
    difficulty=3,
    function="repaired_attention",
    right=repaired_attention,
    draw=st.sampled_from(keys()),
    build=build,
    shown=("weights", 1, 4, 1, 4, 2, 8),
    ask=ask,
    behaviours=(
        Behaviour(
            "1 · multiplies the features of a query with the same features of a key",
            _same_features,
            "The second text has the features of q and k in reverse order, which leaves q·k as it is. "
            "`transpose(-2, -1)` swaps features with heads, so that other things meet.",
        ),
        Behaviour(
            "2 · lets tokens read other tokens",
            _reads_others,
            "No token sees another. A score is due for every pair of tokens; in `bnhd,bnhd->bnh` query and key both "
            "carry the letter `n`, so a token meets its own key alone.",
        ),
        Behaviour(
            "3 · chooses among tokens, in each head for itself",
            _heads_apart,
            "The second head has no values, yet its scores change what the first one reads: the best are taken along "
            "the axis of heads, or for all heads together. Choose along the axis of the tokens that are read.",
        ),
        Behaviour(
            "4 · reads something in short texts, too",
            _short_texts,
            "A share of a short text is a budget of nothing, `int(3 * 0.3)` is 0: how many tokens may be read is given "
            "as `budget`. And each token, the first one too, may at least read itself.",
        ),
        Behaviour(
            "5 · keeps exactly the budget: no fewer, no more, ties or not",
            _as_many_as_the_budget,
            "The values are 0 and 1, so you see the weights: a row with enough tokens up to it has `budget` of them. "
            "The threshold is the last score to keep: `>` throws that one away, `>=` keeps all that tie with it, and "
            "softmax still reads a dropped score of 0.",
        ),
        Behaviour(
            "6 · weighs what it keeps by the softmax of q·k/√dim",
            _softmax_of_the_kept,
            "The values are 0 and 1, so you see the weights. Divide q·k, without the selector, by √dim, give −∞ to the "
            "dropped, and take the softmax over the tokens that are read.",
        ),
        Behaviour(
            "7 · lays the heads side by side",
            _side_by_side,
            "Only the first head has values, so the right half of each row is 0. If heads are summed away (`->bnd`) "
            "or lie in another order, it is not: keep the axis `h` as (batch, tokens, heads, dim), flatten at the end.",
        ),
        Behaviour(
            "8 · lets the selector decide what is kept",
            _selector_decides,
            "The last token keeps others than it should. For the choice, and only for it, the query is multiplied by "
            "the head's row of `selector` before it meets the keys.",
        ),
        Behaviour(
            "9a · reads nothing that comes later",
            _nothing_later,
            "The values are 0 and 1, so you see the weights, and those above the diagonal are of later "
            "tokens. Give these the choice score −∞, and mask again after `topk`: early tokens have fewer to choose.",
        ),
        Behaviour(
            "9b · always reads itself",
            _itself,
            "A weight on the diagonal is 0: that token dropped itself. It is always kept, whatever its own score.",
        ),
        Behaviour(
            "9c · leaves the values of dropped tokens alone",
            _leaves_the_rest_alone,
            "One value is NaN, which no row shown here keeps; yours reads it (inf), since 0 · NaN is NaN. Whoever "
            "multiplies everything and masks has saved nothing: fetch the kept values, for example with `gather`.",
        ),
        Behaviour(
            "9d · ends with the output projection, and gives the right numbers",
            _right,
            "What single texts can show is right, the whole is not. Does each head use its own row of `selector`, does "
            "each text of the batch stay by itself, is the result multiplied by `w_out`, all in the inputs' dtype?",
        ),
    ),
    slips=_SLIPS,
    done="All nine are gone. What is left of the ninth is the choice: it still scores every pair of tokens, which "
    "blocks and the tree are there for.",
)
