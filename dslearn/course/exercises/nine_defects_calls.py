"""What 01.6 asks of an answer, and what is right: each kind of text lets one defect of the listing show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, product
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dslearn.course.exercise import Call
from dslearn.course.guard import where

SHORT = 3  # tokens: a share of 30 % of them is none

Kept = Callable[[Sequence[float], int, int], list[int]]

# Between choice scores: rounding must not decide what is kept. Fine ones are sums without any rounding.
_GAP = {"close": 2**-11, "wide": 2**-10}
_WIDE_GAP = 0.04


def repaired_attention(
    q: Float[Tensor, "batch tokens heads dim"],
    k: Float[Tensor, "batch tokens heads dim"],
    v: Float[Tensor, "batch tokens heads dim"],
    selector: Float[Tensor, "heads dim"],
    w_out: Float[Tensor, "width width"],
    budget: int,
) -> Float[Tensor, "batch tokens width"]:
    """Each token reads itself and the ``budget - 1`` earlier ones that the selector scores highest."""
    return attend(itself_and_the_best, q, k, v, selector, w_out, budget)


def attend(
    kept: Kept, q: Tensor, k: Tensor, v: Tensor, selector: Tensor, w_out: Tensor, budget: int
) -> Float[Tensor, "batch tokens width"]:
    batch, tokens, heads, dim = q.shape
    mixed = torch.zeros_like(q)
    for b, t, h in product(range(batch), range(tokens), range(heads)):
        choice = k[b, :, h] @ (q[b, t, h] * selector[h])
        read = kept(choice.tolist(), t, budget)
        scores = k[b, read, h] @ q[b, t, h] / math.sqrt(dim)
        mixed[b, t, h] = scores.softmax(dim=0) @ v[b, read, h]
    return mixed.flatten(2) @ w_out


def itself_and_the_best(choice: Sequence[float], token: int, budget: int) -> list[int]:
    return [token, *sorted(range(token), key=choice.__getitem__, reverse=True)[: budget - 1]]


def the_best(choice: Sequence[float], token: int, budget: int) -> list[int]:
    return sorted(range(token + 1), key=choice.__getitem__, reverse=True)[:budget]


def the_nearest(choice: Sequence[float], token: int, budget: int) -> list[int]:
    return list(range(max(0, token - budget + 1), token + 1))


def those_left_after_a_choice_among_all(choice: Sequence[float], token: int, budget: int) -> list[int]:
    others = [other for other in range(len(choice)) if other != token]
    best = sorted(others, key=choice.__getitem__, reverse=True)[: budget - 1]
    return [token, *(other for other in best if other < token)]


def ask(
    answer: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor, selector: Tensor, w_out: Tensor, budget: int
) -> Any:
    """The answer; NaN where it raises for a short text, since only that far do the defects before it get."""
    try:
        return answer(q, k, v, selector, w_out, budget)
    except (RuntimeError, IndexError) as error:
        if not is_short(q, budget) or isinstance(error, NotImplementedError):
            raise _hinted(error) from None
        print(f"your function raised {type(error).__name__}: {error}{where(error)}")
        return torch.full(q.flatten(2).shape, torch.nan)


def is_short(q: Tensor, budget: int) -> bool:
    """Whether a share of the text is nothing, or the text shorter than the budget."""
    return q.shape[1] <= SHORT or budget > q.shape[1]


def _hinted(error: Exception) -> Exception:
    if "does not broadcast" in str(error):
        error.args = (f"{error} (does `transpose(-2, -1)` swap heads with features?)",)
    return error


class Inputs(NamedTuple):
    """All arguments but the budget."""

    q: Tensor
    k: Tensor
    v: Tensor
    selector: Tensor
    w_out: Tensor


def _random(generator: torch.Generator, batch: int, tokens: int, heads: int, dim: int) -> Inputs:
    """Numbers of two decimals, none of them 0: what is printed of them is all there is."""

    def draw(*shape: int) -> Tensor:
        x = torch.randn(*shape, generator=generator)
        return (x.sign() * (100 * x.abs()).ceil()) / 100

    q, k, v = draw(3, batch, tokens, heads, dim)
    selector = draw(heads, dim)
    return Inputs(q, k, v, selector + 0.5 * selector.sign(), draw(heads * dim, heads * dim))


def _turned(inputs: Inputs) -> Inputs:
    """Two texts, one with the features of its queries and keys in reverse: the same answer is due."""
    q, k = (torch.cat([x[:1], x[:1].flip(-1)]) for x in inputs[:2])
    return Inputs(q, k, inputs.v[:1].repeat(2, 1, 1, 1), torch.ones_like(inputs.selector), inputs.w_out)


def _first_token_only(inputs: Inputs) -> Inputs:
    """Every token wants the first, and only the first has values."""
    first = torch.zeros_like(inputs.k)
    first[:, 0] = 1
    q, k = inputs.q.abs() + 0.5, -inputs.k.abs() * (1 - first) + 3 * first
    return Inputs(q, k, (inputs.v.abs() + 0.5) * first, inputs.selector.abs(), _eye(inputs.w_out))


def _one_head_only(inputs: Inputs) -> Inputs:
    """Two texts; the second head has no values, and in the second text large scores."""
    q, k, v = (x[:1].repeat(2, 1, 1, 1) for x in inputs[:3])
    v[:, :, 1] = 0
    q[1, :, 1], k[1, :, 1] = 3 + q[1, :, 1].abs(), 3 + k[1, :, 1].abs()
    return Inputs(q, k, v, inputs.selector, _eye(inputs.w_out))


def _weights_shown(inputs: Inputs) -> Inputs:
    """Values of 0 and 1 let the weights through; to the last token, its own choice score is the highest."""
    q, k, _, selector, w_out = inputs
    wish = q[0, -1, 0] * selector[0]
    k = k.clone()
    k[0, -1, 0] = wish * (1 + (k[0, :-1, 0] @ wish).max().clamp(min=0)) / (wish @ wish)
    return Inputs(q, k, one_hot_values(q), selector, _eye(w_out))


def _tied(inputs: Inputs) -> Inputs:
    """All keys equal, and numbers with which no rounding tells the scores apart."""
    q, k = (0.5 * (1 + (2 * x.abs()).floor().clamp(max=3)) for x in inputs[:2])
    k = k[:, :1].expand_as(k).clone()
    return Inputs(q, k, one_hot_values(q), torch.ones_like(inputs.selector), _eye(inputs.w_out))


def _value_gone(inputs: Inputs) -> Inputs:
    """NaN for a value that the last token would keep last, of one that comes later for some."""
    q, k, v, selector, w_out = inputs
    v = v.clone()
    v[0, 1 + (k[0, 1:-1, 0] @ (q[0, -1, 0] * selector[0])).argmin()] = torch.nan
    return Inputs(q, k, v, selector, _eye(w_out))


def _one_lost(inputs: Inputs, *, seed: int) -> Inputs:
    """NaN for one feature of the value of one token in one head of one text."""
    v = inputs.v.clone()
    v[tuple(seed % size for size in v.shape)] = torch.nan
    return inputs._replace(v=v, w_out=_eye(inputs.w_out))


def _times(factor: int | float, inputs: Inputs) -> Inputs:
    return inputs._replace(q=factor * inputs.q, k=factor * inputs.k)


def _close(inputs: Inputs) -> Inputs:
    """Choice scores that hardly differ, of numbers whose products and sums are exact."""
    q, k, v, selector, w_out = inputs
    q, whole = (x.sign() * x.abs().ceil() for x in (q, k[:, :1]))
    return Inputs(q, whole + (20 * k).round() / 1024, v, selector.sign(), w_out)


def one_hot_values(q: Tensor) -> Tensor:
    """(batch, tokens, heads, tokens): what comes out are the weights of each head."""
    return torch.eye(q.shape[1], dtype=q.dtype)[None, :, None].expand(*q.shape[:3], -1).clone()


def _eye(square: Tensor) -> Tensor:
    return torch.eye(len(square), dtype=square.dtype)


_MAKE: dict[str, Callable[[Inputs], Inputs]] = {
    "plain": lambda inputs: inputs,
    "turned": _turned,
    "first": _first_token_only,
    "heads": _one_head_only,
    "weights": _weights_shown,
    "ties": _tied,
    "gone": _value_gone,
    "wide": lambda inputs: inputs,
    "large": partial(_times, 20),
    "huge": partial(_times, 2.0**20),
    "close": _close,
}


def keys() -> list[tuple[Any, ...]]:
    """Few enough for all to be tried, each kind from small to large.

    In "first" and "heads" a share of the seven to nine tokens is two, which two heads can fill: so the listing runs,
    and shows a defect before it stumbles over the next.
    """
    sizes = {
        "plain": [
            (1 + number // 2 % 2, tokens, 1 + (number + 1) % 3, 1 + (number + number // 4) % 4, budget)
            for number, (tokens, budget) in enumerate(product((1, 2, 3, 4, 6), (1, 2, 3, 5)))
        ],
        "turned": [(1, tokens, heads, dim, 2) for tokens, heads, dim in ((2, 2, 2), (4, 2, 3), (5, 3, 2), (6, 3, 3))],
        "first": [(1, tokens, 2, dim, budget) for tokens, dim, budget in ((7, 1, 2), (7, 1, 3), (8, 2, 2), (9, 3, 4))],
        "heads": [(1, tokens, 2, dim, budget) for tokens, dim, budget in ((7, 1, 2), (7, 2, 3), (8, 2, 2), (9, 3, 4))],
        "weights": [(1, tokens, 1, tokens, budget) for tokens in (2, 3, 4, 5, 6) for budget in (1, 2, 3)],
        "ties": [(1, tokens, 1, tokens, budget) for tokens, budget in ((2, 1), (3, 2), (4, 2), (4, 3), (6, 3))],
        "gone": [(1, tokens, 1, dim, budget) for tokens, dim in ((4, 1), (5, 2), (6, 3)) for budget in (2, 3, 7)],
    }
    return [(kind, *size, seed) for kind in sizes for seed, size in enumerate(sizes[kind], start=1)]


def edges() -> list[tuple[Any, ...]]:
    """Values lost anywhere, extreme and hardly different scores, many heads and tokens."""
    lost = [(1 + seed % 2, 5, 1 + seed % 3, 2, (1, 2, 3, 6)[seed % 4]) for seed in range(12)]
    lost += [(1, 9, 2, 3, 4), (1, 10, 3, 2, 3)]
    sizes = {
        "lost": lost,
        "lost, large": lost,
        "large": [(1, 6, 2, 3, 3), (2, 5, 1, 2, 4)],
        "huge": [(1, 6, 2, 3, 3), (1, 5, 1, 2, 2)],
        "close": [(1, 6, 1, 3, 3), *[(1, 8, 2, 3, 4)] * 5],
        "wide": [(3, 16, 4, 10, 12), (1, 13, 5, 9, 9)],
        "ties": [(1, 4, 2, 4, 2), (1, 5, 2, 5, 3)],
    }
    return [(kind, *size, seed) for kind in sizes for seed, size in enumerate(sizes[kind])]


def build(kind: str, batch: int, tokens: int, heads: int, dim: int, budget: int, seed: int) -> tuple[Any, ...]:
    """Arguments in which one of the defects shows, whatever is left of those after it."""
    shape = batch, tokens, heads, dim
    make = partial(_one_lost, seed=seed) if kind.startswith("lost") else _MAKE[kind]
    drawn = (make(_random(torch.Generator().manual_seed(100 * seed + again), *shape)) for again in count())
    found = next(inputs for inputs in drawn if kind == "ties" or _told_apart(inputs, _GAP.get(kind, _WIDE_GAP)))
    return *(_times(20, found) if kind == "lost, large" else found), budget


def _told_apart(inputs: Inputs, gap: float) -> bool:
    """Whether no two tokens have nearly the same choice score for a later one."""
    choice = torch.einsum("bnhd,hd,bmhd->bhnm", inputs.q, inputs.selector, inputs.k)
    apart = (choice[..., :, None] - choice[..., None, :]).abs()
    first, second = (torch.arange(choice.shape[-1]).view(shape) for shape in ((-1, 1), (1, -1)))
    pair = (first < second) & (second < torch.arange(choice.shape[-1])[:, None, None])
    return bool((apart[..., pair] > gap).all())


def lets_through(call: Call) -> bool:
    """Whether the answer consists of weights: (1, tokens, heads · tokens)."""
    v, w_out = call["v"], call["w_out"]
    is_square = len(v) == 1 and v.shape[1] == v.shape[3]
    return is_square and torch.equal(v, one_hot_values(v)) and torch.equal(w_out, _eye(w_out))


def ties(call: Call) -> bool:
    return lets_through(call) and bool((call["k"] == call["k"][:, :1]).all())


def one_head_has_values(call: Call) -> bool:
    return call["v"].shape[2] == 2 and not call["v"][:, :, 1].any()
