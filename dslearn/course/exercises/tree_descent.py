"""01.5: the best blocks found by a descent through a tree of bounds, looking only at children of the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from numbers import Integral
from operator import mul
from typing import Any

from hypothesis import strategies as st
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip
from dslearn.course.exercises.tree_descent_trees import (
    EDGES,
    Score,
    ask,
    bound,
    build,
    descend,
    reached,
    scores_of,
)


def _numbers(blocks: Any) -> list[Any]:
    return [block.item() if isinstance(block, Tensor) else block for block in blocks]


def _own_first(call: Call) -> bool:
    return _numbers(call.got)[:1] == [call["own"]]


def _no_future(call: Call) -> bool:
    return all(0 <= block <= call["own"] for block in _numbers(call.got))


def _once(call: Call) -> bool:
    return len(set(_numbers(call.got))) == len(call.got)


def _few_enough(call: Call) -> bool:
    return len(call.got) <= call["top_k"]


def _follows(call: Call) -> bool:
    """With places for all: whether each level's node that is being filled led to something."""
    own, found = call["own"], {*_numbers(call.got)}
    edges = [own // call["branching"] ** number * call["branching"] ** number for number in range(len(call["levels"]))]
    below = [{*range(start, end)} for end, start in pairwise(edges)]
    return call["top_k"] <= own or all(blocks & found for blocks in below if blocks)


def _everything(call: Call) -> bool:
    return call["top_k"] <= call["own"] or {*range(call["own"] + 1)} == {*_numbers(call.got)}


def _only_children(call: Call) -> bool:
    return {*_numbers(call.got)[1:]} <= {*reached(*call.arguments.values())}


def _exact(call: Call) -> bool:
    return _same(call, call.expected) and all(isinstance(block, Integral) for block in _numbers(call.got))


def _same(call: Call, blocks: list[int]) -> bool:
    """Whether the answer has these blocks, or others of the same bounds in their places: they leave a choice."""
    return _bounds(call, _numbers(call.got)) == _bounds(call, blocks)


def _bounds(call: Call, blocks: list[Any]) -> list[Any]:
    """The bounds of blocks; the own block, and what is none, as it is."""
    bounds = {**dict(enumerate(scores_of(call["query"], call["levels"][0]))), call["own"]: "own"}
    return [bounds.get(block, block) for block in blocks]


def _spoilt(
    *, score: Score = bound, sign: int = 1, late: int = 0, follow: bool = True, beam: int = 0, last: int = -1
) -> Callable[[Call], bool]:
    """Whether all is explained by a descent with something changed.

    Args:
        score: by what it chooses.
        sign: −1 takes the lowest.
        late: 1 scores the node that is being filled, too.
        follow: whether it goes on to the children of that node.
        beam, last: how many it keeps on the upper levels and at the blocks, added to ``top_k``.
    """

    def explains(call: Call) -> bool:
        query, levels, own, top_k, branching = call.arguments.values()
        candidates = [*range(own // branching ** (len(levels) - 1) + late)]
        for number in reversed(range(len(levels))):
            scores = scores_of(query, levels[number], score)
            candidates = [node for node in candidates if node < len(scores)]
            candidates.sort(key=lambda node, scores=scores: -sign * scores[node])
            if number:
                parents = {*candidates[: top_k + beam], *([own // branching**number] if follow else [])}
                before = own // branching ** (number - 1) + late
                candidates = [node for node in range(before) if node // branching in parents]
        return _same(call, [own, *[block for block in candidates[: max(0, top_k + last)] if block != own]])

    return explains


def _by(part: Callable[[float, float, float], float]) -> Callable[[Call], bool]:
    """Whether all is explained by another sum over the features."""
    return _spoilt(score=lambda query, top, low: sum(map(part, query, top, low)))


def _larger_product(query: list[float], top: list[float], low: list[float]) -> float:
    return max(sum(map(mul, query, side)) for side in (top, low))


def _flat(call: Call) -> bool:
    return _same(call, descend(call["query"], call["levels"][:1], call["own"], call["top_k"], call["branching"]))


def _without(call: Call, kept: list[Any]) -> bool:
    """Whether all is right in an answer of which only some is kept."""
    return _same(replace(call, got=kept), call.expected) and len(call.got) <= max(len(kept), call["top_k"])


def _filled_up(call: Call) -> bool:
    return _without(call, [block for block in _numbers(call.got) if block != -1])


def _repeated(call: Call) -> bool:
    return _without(call, [*dict.fromkeys(_numbers(call.got))])


def _nearly(call: Call) -> bool:
    """Right up to bounds that are nearly the same, or huge."""
    pairs = list(zip(_bounds(call, _numbers(call.got))[1:], _bounds(call, call.expected)[1:], strict=False))
    nearly = all(isinstance(a, float) and math.isclose(a, b, rel_tol=0.004, abs_tol=0.004) for a, b in pairs)
    is_huge = bool(call["levels"][0][0].abs().amax() > 1e6)
    return is_huge or (len(call.got) == len(call.expected) and _own_first(call) and nearly)


def _lacks_some(call: Call) -> bool:
    left = iter(_bounds(call, call.expected))
    return all(any(bound == wanted for wanted in left) for bound in _bounds(call, _numbers(call.got)))


def _own_left_out(call: Call) -> bool:
    return _same(call, call.expected[1:])


def _with_a_point(call: Call) -> bool:
    return _same(call, call.expected) and all(isinstance(block, float) for block in _numbers(call.got))


EXERCISE = Exercise(
    id="01.5",
    title="Descend the tree",
    minutes=30,
    difficulty=3,
    function="descend",
    right=descend,
    draw=st.tuples(st.sampled_from(range(32)), st.sampled_from(range(1000))),
    build=build,
    shown=(11, 102),
    edges=EDGES,
    ask=ask,
    behaviours=(
        Behaviour(
            "puts the own block first",
            _own_first,
            "The block in which the query stands, `own`, is always read and comes first, whatever the others score.",
        ),
        Behaviour(
            "returns nothing that comes after the own block",
            _no_future,
            "On level l, only nodes with a number below `own // branching**l` are complete before the query's own "
            "block. The others hold tokens that come later, and must be neither scored nor returned.",
        ),
        Behaviour(
            "returns no block twice",
            _once,
            "A block that stands twice would be read twice. Do two nodes lead to the same children, or is the own "
            "block scored again?",
        ),
        Behaviour(
            "returns at most top_k blocks",
            _few_enough,
            "The own block takes one of the `top_k` places: at the blocks, keep the best `top_k - 1`.",
        ),
        Behaviour(
            "follows the node that is still being filled",
            _follows,
            "`top_k` is so large here that nothing need be left out, yet blocks are missing that have no complete node "
            "above them. They are reached only through the node in which the query itself stands, "
            "`own // branching**l`: go on to its children on every level, without scoring it.",
        ),
        Behaviour(
            "finds every block when top_k is large enough",
            _everything,
            "`top_k` is so large here that nothing need be left out, yet blocks are missing. Begin with *all* complete "
            "nodes before the own one on the coarsest level, and go on to all children of what you keep.",
        ),
        Behaviour(
            "looks only at children of the best",
            _only_children,
            "A block was returned whose parent is neither among the best `top_k` of its level, nor the node in which "
            "the query stands. On each level choose by the whole bound, keep exactly the best `top_k` of every level, "
            "and look at nothing but their children.",
        ),
        Behaviour(
            "takes the best of them, best first",
            _exact,
            "Behind the own block come the best of the blocks that the descent looks at, by falling bound: "
            "query⁺·top + query⁻·low, summed over the features. If one is missing: do the best `top_k` of every level "
            "lead on, and on the coarsest one all that may be scored?",
        ),
    ),
    slips=(
        Slip(
            _flat,
            "This is the flat choice: every block before the own one is scored. It is right as a choice, but it is no "
            "descent: it costs n scores for n blocks. Go down level by level, to the children of the best alone.",
        ),
        Slip(
            _with_a_point,
            "All is right but for the kind of number: block numbers are whole (`int`), or nothing can be indexed by "
            "them.",
        ),
        Slip(
            _filled_up,
            "All is right, but you fill it up with −1: where there are fewer blocks, the list is just shorter.",
        ),
        Slip(
            _repeated,
            "All is right, but you fill it up with a block that stands there already: where there are fewer blocks, "
            "the list is just shorter.",
        ),
        Slip(_own_left_out, "All is right but for the own block, which is missing: put `own` in front."),
        Slip(
            _spoilt(follow=False),
            "You go on to the children of the best alone. The blocks since the last complete node have no complete "
            "node above them: follow `own // branching**l` on every level as well, without scoring it.",
        ),
        Slip(
            _spoilt(late=1),
            "You score the node in which the query itself stands. It holds tokens that come later, and it takes a "
            "place from others: follow it without scoring it.",
        ),
        Slip(
            _spoilt(beam=-1),
            "Your beam is narrower than it should be: the own block takes a place among the blocks alone. On the upper "
            "levels keep the best `top_k`.",
        ),
        Slip(
            _spoilt(last=0),
            "You return one more than `top_k`: the own block takes a place. At the blocks, keep the best `top_k - 1`.",
        ),
        Slip(
            _lacks_some,
            "What you return is right and in order, but something is missing: behind the own block, as many as there "
            "are places, of *all* the blocks that the descent looks at.",
        ),
        Slip(_spoilt(sign=-1), "You keep the *lowest* bounds: `sorted`, `sort` and `argsort` begin at the smallest."),
        Slip(
            _by(lambda q, high, deep: q * high),
            "You multiply with `top` alone. For the negative entries of the query, it is `low` that gives the most.",
        ),
        Slip(
            _by(lambda q, high, deep: q * deep),
            "You multiply with `low` alone. For the positive entries of the query, it is `top` that gives the most.",
        ),
        Slip(
            _by(lambda q, high, deep: q * (high + deep)),
            "You score by the middle of `top` and `low`. Like an average, it forgets the one key that matters: take "
            "what gives the most for each feature, query⁺·top + query⁻·low.",
        ),
        Slip(
            _by(lambda q, high, deep: min(q * high, q * deep)),
            "You have exchanged `top` and `low`: what you compute is the least that a key can score, not the most.",
        ),
        Slip(
            _spoilt(score=_larger_product),
            "You take the larger of query·top and query·low. Take the larger for each feature, and sum after that.",
        ),
        Slip(
            _by(lambda q, high, deep: abs(q) * (high if q > 0 else deep)),
            "Your query⁻ holds magnitudes. It holds the negative entries as they are, `query.clamp(max=0)`: a negative "
            "entry times a low value is what gives the most.",
        ),
        Slip(
            _nearly,
            "Right for ordinary bounds alone. A bound may be any finite number, huge or next to another: is something "
            "squashed, rounded or computed in half precision, or is there a number that stands for −∞?",
        ),
    ),
    done="A few scores on every level instead of one for every block: that is what makes the choice cheap.",
)
