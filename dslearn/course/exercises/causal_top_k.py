"""01.3: each token's own block and the best complete blocks before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def top_blocks(scores: Float[Tensor, "tokens blocks"], top_k: int, block_size: int) -> Int[Tensor, "tokens top_k"]:
    """Own block first, then the best ``top_k - 1`` before it, best first; −1 where there are fewer."""
    chosen = torch.full((len(scores), top_k), -1)
    for token, row in enumerate(scores.tolist()):
        own = token // block_size
        best = sorted(range(own), key=lambda block: -row[block])[: top_k - 1]
        chosen[token, : 1 + len(best)] = torch.tensor([own, *best])
    return chosen


def build(blocks: int, block_size: int, short_by: int, top_k: int, scale: str, seed: int) -> tuple[Tensor, int, int]:
    """Scores of a text whose last block lacks ``short_by`` tokens; any finite number may be one."""
    tokens = blocks * block_size - min(short_by, block_size - 1)
    scores = torch.randn(tokens, blocks, generator=torch.Generator().manual_seed(seed))
    scaled = {
        "plain": scores,
        "close": 5 + scores / 1000,
        "equal": scores.round(),
        "thousands": 5000 * scores,
        "huge": 1e30 * scores,
        "vast": 3e38 * scores.tanh(),
        "tiny": 1e-30 * scores,
        "neighbours": 1e6 * (1 + torch.finfo(scores.dtype).eps * (9 * scores.abs()).round()),
        "lowest": scores.where(scores > -0.5, torch.finfo(scores.dtype).min),
        "highest": scores.where(scores < 0.5, torch.finfo(scores.dtype).max),
    }
    return scaled[scale], top_k, block_size


def _is_unusual(call: Call) -> bool:
    """Whether scores are far from 1."""
    largest = call["scores"].abs().max()
    return bool(largest > 100 or largest < 1e-3)


def _nearly(call: Call) -> bool:
    """Right up to scores that are nearly the same, or unusual."""
    return _is_unusual(call) or (_own_first(call) and _fills_up(call) and _same_scores(call, call.expected, 0.02))


def ask(answer: Callable[..., Any], scores: Tensor, top_k: int, block_size: int) -> Any:
    """The answer; block numbers of any whole kind are taken."""
    out = answer(scores, top_k, block_size)
    is_whole = isinstance(out, Tensor) and not out.is_floating_point() and out.dtype != torch.bool
    return out.long() if is_whole else out


def _past(call: Call) -> list[list[int]]:
    """The chosen blocks of each token after the first, without −1."""
    return [[block for block in row if block >= 0] for row in call.got[:, 1:].tolist()]


def _own_first(call: Call) -> bool:
    own = torch.arange(len(call.got)) // call["block_size"]
    return torch.equal(call.got[:, 0], own)


def _no_future(call: Call) -> bool:
    own = torch.arange(len(call.got))[:, None] // call["block_size"]
    return bool((call.got <= own).all())


def _once(call: Call) -> bool:
    rows = [[own, *past] for own, past in zip(call.got[:, 0].tolist(), _past(call), strict=True)]
    return all(len(set(row)) == len(row) for row in rows)


def _fills_up(call: Call) -> bool:
    return torch.equal(call.got == -1, call.expected == -1)


def _right(call: Call) -> bool:
    return _own_first(call) and _fills_up(call) and _best_first(call)


def _best_first(call: Call) -> bool:
    return _same_scores(call, call.expected)


def _same_scores(call: Call, chosen: Tensor, tolerance: float = 0.0) -> bool:
    """Whether the answer took blocks of the same scores, since equal scores leave a choice."""
    scores, got, expected = call["scores"], call.got[:, 1:], chosen[:, 1:]
    kept = expected >= 0
    taken, best = (scores.gather(1, blocks.clamp(0, scores.shape[1] - 1)) for blocks in (got, expected))
    return torch.allclose(taken[kept], best[kept], rtol=tolerance, atol=tolerance)


def _future_where_none_is_left(call: Call) -> bool:
    """The best past blocks where they are due, and in the other places −1 or what is not past."""
    left_over, own = call.expected == -1, torch.arange(len(call.got))[:, None] // call["block_size"]
    allowed = (call.got >= own) | (call.got == -1)
    return _own_first(call) and _best_first(call) and bool(allowed[left_over].all())


def _one_block_late(scores: Tensor, top_k: int, block_size: int) -> Tensor:
    return top_blocks(scores, top_k, block_size + 1)


def _worst(call: Call) -> bool:
    return _same_scores(call, top_blocks(-call["scores"], call["top_k"], call["block_size"]))


EXERCISE = Exercise(
    id="01.3",
    title="A causal choice",
    minutes=15,
    difficulty=2,
    function="top_blocks",
    right=top_blocks,
    draw=st.tuples(
        st.sampled_from(range(1, 7)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(4)),
        st.sampled_from(range(1, 6)),
        st.sampled_from(("plain", "close", "equal", "thousands", "huge")),
        st.sampled_from(range(100)),
    ),
    edges=(
        *((6, 3, 1, 4, scale, 1) for scale in ("vast", "tiny", "neighbours", "lowest", "highest")),
        (13, 4, 2, 9, "plain", 0),
    ),
    build=build,
    ask=ask,
    axes="(tokens, top_k); where there are fewer past blocks, fill up with −1",
    shown=(3, 2, 0, 2, "plain", 0),
    behaviours=(
        Behaviour(
            "puts each token's own block first",
            _own_first,
            "Token `t` stands in block `t // block_size`. That block comes first for every token, whatever its score.",
        ),
        Behaviour(
            "never chooses a block of the future",
            _no_future,
            "A token may choose among the blocks *before* its own only. Mask the others with −∞ before you choose.",
        ),
        Behaviour(
            "chooses no block twice",
            _once,
            "A block that stands twice would be read twice. The own block is in already: it must not compete again.",
        ),
        Behaviour(
            "has −1 exactly where there are fewer past blocks than places",
            _fills_up,
            "Count the past blocks of the example's first tokens: the places that no past block can fill hold −1, and "
            "only those.",
        ),
        Behaviour(
            "takes the best past blocks, best first",
            _best_first,
            "The places after the first go to the past blocks with the highest scores, in falling order.",
        ),
    ),
    slips=(
        Slip(
            _future_where_none_is_left,
            "Early tokens have fewer past blocks than places, and `topk` fills up with blocks whose score is −∞: those "
            "of the future. Mask again after it.",
        ),
        Slip(
            lambda call: _is_unusual(call) or _right(call),
            "Right for ordinary scores alone. A score may be any finite number: lower than a mask of −10 or −1e9, "
            "higher than what you give the own block, next to another one. Compare scores as they are: squashed or "
            "scaled, different ones become equal, and large ones infinite.",
        ),
        Slip(
            _nearly,
            "Nearly right: scores close to each other are confused, so something rounds them. Compare them as they "
            "are, not in half precision.",
        ),
        Slip(
            gives(_one_block_late),
            "Your blocks are one token too long: token `t` stands in block `t // block_size`, counted from 0.",
        ),
        Slip(
            _worst,
            "You take the *lowest* scores: `topk` takes the largest, `sort` and `argsort` begin at the smallest.",
        ),
    ),
    done="Own block first, the best of the past after it, nothing of the future: causal as a choice.",
)
