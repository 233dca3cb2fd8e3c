"""01.2: for each block of keys a bound that none of its scores exceeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives

Queries = Float[Tensor, "queries dim"]
Keys = Float[Tensor, "keys dim"]
Blocks = Float[Tensor, "blocks block_size dim"]
Bounds = Float[Tensor, "queries blocks"]


def block_bounds(q: Queries, k: Keys, block_size: int) -> Bounds:
    """Feature by feature the largest product that some key of the block gives, added up."""
    starts = range(0, len(k) - block_size + 1, block_size)
    bounds = torch.zeros(len(q), len(starts), dtype=torch.float64)
    for row, query in enumerate(q.tolist()):
        for column, start in enumerate(starts):
            features = zip(*k[start : start + block_size].tolist(), strict=True)
            bounds[row, column] = sum(max(x * y for y in ys) for x, ys in zip(query, features, strict=True))
    return bounds.to(q.dtype)


def build(
    queries: int, complete: int, rest: int, dim: int, block_size: int, kind: str, dtype: str, seed: int
) -> tuple[Tensor, Tensor, int]:
    """Whole numbers, any, small or large ones, or keys below zero throughout; often an incomplete last block."""
    keys = max(1, complete * block_size + min(rest, block_size - 1))
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(count, dim, generator=generator, dtype=torch.float64) for count in (queries, keys))
    if kind == "whole":
        q, k = (3 * q).round() + 0.0, (3 * k).round() + 0.0  # no −0
    if kind == "negative":
        k = -1 - k.abs()
    if kind == "large":
        k = 1e3 * (1 + k.abs()) * (1 - 2 * (seed % 2))
    if kind == "small":
        q = q / 1e5
    return q.to(getattr(torch, dtype)), k.to(getattr(torch, dtype)), block_size


def ask(answer: Callable[..., Any], q: Queries, k: Keys, block_size: int) -> Any:
    """The answer; an error where there is no complete block says so."""
    try:
        return answer(q, k, block_size)
    except (RuntimeError, IndexError, ValueError) as error:
        if len(k) < block_size and not isinstance(error, NotImplementedError):
            error.args = (f"{error} (here no block is complete: the answer has 0 columns)",)
        raise


def _blocks(k: Keys, block_size: int) -> Blocks:
    complete = len(k) // block_size
    return k[: complete * block_size].reshape(complete, block_size, k.shape[1])


def _bound(q: Queries, blocks: Blocks) -> Bounds:
    return q.clamp(min=0) @ blocks.amax(dim=1).mT + q.clamp(max=0) @ blocks.amin(dim=1).mT


def _rounding(call: Call) -> float:
    """What rounding alone may change in the dtype of the inputs."""
    q, k = call["q"], call["k"]
    return 100 * torch.finfo(q.dtype).eps * float((q.abs() @ k.abs().mT).max())


def _complete_blocks(call: Call) -> bool:
    return call.got.shape[1] == len(call["k"]) // call["block_size"]


def _keeps_the_promise(call: Call) -> bool:
    scores = torch.einsum("qd,bsd->qbs", call["q"], _blocks(call["k"], call["block_size"]))
    return bool((call.got[..., None] >= scores - _rounding(call)).all())


def _not_loose(call: Call) -> bool:
    return bool((call.got <= call.expected + _rounding(call)).all())


def _exact(call: Call) -> bool:
    return bool(((call.got - call.expected).abs() <= _rounding(call)).all())


def _single_keys(call: Call) -> bool:
    return call["block_size"] > 1 or _exact(call)


def _largest_only(q: Queries, k: Keys, block_size: int) -> Bounds:
    return q @ _blocks(k, block_size).amax(dim=1).mT


def _positive_part_only(q: Queries, k: Keys, block_size: int) -> Bounds:
    return _bound(q.clamp(min=0), _blocks(k, block_size))


def _lower(q: Queries, k: Keys, block_size: int) -> Bounds:
    return -_bound(-q, _blocks(k, block_size))


def _average(q: Queries, k: Keys, block_size: int) -> Bounds:
    return q @ _blocks(k, block_size).mean(dim=1).mT


def _best_key(q: Queries, k: Keys, block_size: int) -> Bounds:
    return torch.einsum("qd,bsd->qbs", q, _blocks(k, block_size)).amax(dim=-1)


def _sign_lost(q: Queries, k: Keys, block_size: int) -> Bounds:
    blocks = _blocks(k, block_size)
    return _positive_part_only(q, k, block_size) + (-q).clamp(min=0) @ blocks.amin(dim=1).mT


def _size_only(q: Queries, k: Keys, block_size: int) -> Bounds:
    return q.abs() @ _blocks(k, block_size).abs().amax(dim=1).mT


def _larger_sum(q: Queries, k: Keys, block_size: int) -> Bounds:
    blocks = _blocks(k, block_size)
    return torch.maximum(q @ blocks.amax(dim=1).mT, q @ blocks.amin(dim=1).mT)


def _from_zero(q: Queries, k: Keys, block_size: int) -> Bounds:
    blocks = _blocks(k, block_size)
    return _bound(q, torch.cat([blocks, torch.zeros_like(blocks[:, :1])], dim=1))


def _first_keys_dropped(q: Queries, k: Keys, block_size: int) -> Bounds:
    return _bound(q, _blocks(k[len(k) % block_size :], block_size))


def _rest_in_the_last(q: Queries, k: Keys, block_size: int) -> Bounds:
    bounds = _bound(q, _blocks(k, block_size))
    if bounds.shape[1]:
        bounds[:, -1:] = _bound(q, k[(bounds.shape[1] - 1) * block_size :][None])
    return bounds


def _scattered(q: Queries, k: Keys, block_size: int) -> Bounds:
    blocks = _blocks(k, block_size)
    return _bound(q, blocks.reshape(block_size, *blocks[:, 0].shape).transpose(0, 1))


EXERCISE = Exercise(
    id="01.2",
    title="A summary that cannot miss",
    minutes=15,
    difficulty=2,
    function="block_bounds",
    right=block_bounds,
    draw=st.tuples(
        st.sampled_from(range(1, 4)),
        st.sampled_from(range(5)),
        st.sampled_from(range(4)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(("whole", "any", "negative")),
        st.sampled_from(("float32", "float64")),
        st.sampled_from(range(100)),
    ),
    edges=(
        (5, 7, 3, 9, 7, "any", "float32", 0),
        (4, 3, 1, 5, 10, "large", "float32", 0),
        (4, 3, 1, 5, 10, "large", "float64", 1),
        (4, 3, 0, 5, 6, "small", "float32", 0),
    ),
    build=build,
    ask=ask,
    axes="(queries, complete blocks); a block that is not full makes no column",
    shown=(2, 2, 1, 2, 3, "whole", "float32", 0),
    behaviours=(
        Behaviour(
            "has one column for each complete block",
            _complete_blocks,
            "There are `len(k) // block_size` complete blocks. What is left over after them makes no column.",
        ),
        Behaviour(
            "is the score itself where a block is one key",
            _single_keys,
            "With one key in a block, the largest and the smallest value are that key's own, and the bound is q·k. "
            "Does each entry of q count once, with its sign?",
        ),
        Behaviour(
            "is never below the score of a key in the block",
            _keeps_the_promise,
            "This breaks the promise: the block would be passed by though a key in it matches better. Each positive "
            "entry of q must meet the largest value of its feature, each negative one the smallest.",
        ),
        Behaviour(
            "is no higher than the largest and smallest values make it",
            _not_loose,
            "The promise holds, but the bound is looser than it need be, and a loose bound tells blocks apart badly. "
            "Look at the block's own keys only, feature by feature; a largest value found step by step begins with the "
            "first key, or with −∞.",
        ),
        Behaviour(
            "is exactly q⁺·max + q⁻·min",
            _exact,
            "Add up two products: the positive entries of q with the largest values, the negative ones with the "
            "smallest.",
        ),
    ),
    slips=(
        Slip(
            gives(_best_key),
            "You give the best score itself. That reads every key again, and the summary was to spare us that: use "
            "only the largest and the smallest value of each feature.",
        ),
        Slip(
            gives(_largest_only),
            "You use the largest value only. A negative entry of q times the largest value is its *smallest* product: "
            "negative entries belong to the smallest values.",
        ),
        Slip(
            gives(_lower),
            "You give the *lower* bound: largest and smallest are swapped. Positive entries of q go with the largest.",
        ),
        Slip(gives(_average), "You use the average key, and an average forgets: one key that matches drowns in it."),
        Slip(
            gives(_positive_part_only),
            "You leave the negative entries of q out. They count too, times the smallest values.",
        ),
        Slip(
            gives(_sign_lost),
            "The negative entries of q have lost their minus: q⁻ keeps it, as in `q.clamp(max=0)`.",
        ),
        Slip(
            gives(_size_only),
            "You take the size of all numbers without their signs. It is a bound, but a loose one: a feature that is "
            "negative throughout can only lower the score of a positive entry.",
        ),
        Slip(
            gives(_larger_sum),
            "You add up first and take the larger sum. Each feature decides for itself: the maximum belongs *inside* "
            "the sum.",
        ),
        Slip(
            gives(_from_zero),
            "Zero takes part as if it were one of the keys. Where a feature is negative throughout, its largest value "
            "is negative too: begin with the block's first key, or with −∞ for the largest and ∞ for the smallest.",
        ),
        Slip(
            gives(_first_keys_dropped),
            "Blocks are counted from key 0, and the incomplete one is the last. You leave out the first keys instead.",
        ),
        Slip(
            gives(_rest_in_the_last),
            "The keys that are left over have gone into the last complete block. They belong to no block yet.",
        ),
        Slip(
            gives(_scattered),
            "Your blocks take every so many-th key. A block is `block_size` neighbours: the axis of blocks comes "
            "first, then the one of keys.",
        ),
        Slip(
            gives(lambda q, k, block_size: block_bounds(q, k, block_size) / q.shape[1] ** 0.5),
            "You divide by √d as attention does. The bound asked for is that of q·k alone.",
        ),
    ),
    done="A block with a low bound holds nothing of interest, and you know it without having read its keys.",
)
