"""01.1: the multiply-adds of one head of causal attention, dense or on a budget."""

from __future__ import annotations

import math
from numbers import Integral, Number

from hypothesis import strategies as st

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def multiply_adds(tokens: int, dim: int, budget: int) -> int:
    """For each token, each key that it reads: ``dim`` for q·k and ``dim`` for weight·v."""
    total = 0
    for token in range(tokens):
        keys = min(token + 1, budget)
        total += keys * (dim + dim)
    return total


def build(tokens: int, dim: int, budget: int) -> tuple[int, int, int]:
    """The key is the arguments."""
    return tokens, dim, budget


def _number(call: Call) -> Number:
    """What came back; out of its tensor or array, if it is in one."""
    return call.got.item() if hasattr(call.got, "item") else call.got


def _roughly(call: Call) -> bool:
    got = int(call.got)  # whole numbers of any size, whatever their type
    return abs(got - call.expected) <= call.expected / 100


def _first_token(call: Call) -> bool:
    return call["tokens"] > 1 or _roughly(call)


def _dense(call: Call) -> bool:
    return call["budget"] < call["tokens"] or _roughly(call)


def _budget_of_one(call: Call) -> bool:
    return call["budget"] > 1 or _roughly(call)


def _in_floating_point(call: Call) -> bool:
    """A number of few digits, or one with a point, that is right but for its digits."""
    return math.isclose(float(call.got), call.expected, rel_tol=0.005) or math.isinf(float(call.got))


def _ran_over(call: Call) -> bool:
    return isinstance(_number(call), Integral) and (_number(call) - call.expected) % 2**32 == 0


def _only_long_texts(tokens: int, dim: int, budget: int) -> int:
    return 2 * dim * (budget * (budget + 1) // 2 + (tokens - budget) * budget)


_DIM_LEFT_OUT = "You leave `dim` out: these are keys read. Each of them costs dim for q·k and dim for weight·v."
_FULL_BUDGET = "You give every token a full budget. Early ones cannot use it: token t has only t + 1 keys to read."

EXERCISE = Exercise(
    id="01.1",
    title="What attention costs",
    minutes=10,
    difficulty=1,
    function="multiply_adds",
    right=multiply_adds,
    # Short enough for an answer that counts key by key. The large dim makes numbers that float32 and int32 cannot hold.
    draw=st.tuples(st.sampled_from(range(1, 9)), st.sampled_from(range(1, 10)), st.sampled_from(range(1, 11)))
    | st.tuples(st.sampled_from(range(100, 201)), st.sampled_from((64, 1_000_003)), st.sampled_from(range(1, 251))),
    edges=((300, 1, 300), (5793, 1, 5793), (2000, 1_000_003, 2000)),
    build=build,
    shown=(8, 4, 3),
    behaviours=(
        Behaviour(
            "takes 2·dim for a text of one token",
            _first_token,
            "A single token reads one key, its own: dim multiply-adds for q·k, and dim for weight·v.",
        ),
        Behaviour(
            "lets each token read itself and all before it, where the budget has room",
            _dense,
            "With a budget of at least `tokens`, attention is dense: token t, counted from 0, reads t + 1 keys. "
            "That makes tokens·(tokens + 1)/2 keys in all.",
        ),
        Behaviour(
            "lets each token read one key on a budget of 1",
            _budget_of_one,
            "The budget is for all keys that a token reads, its own among them. A budget of 1 leaves the token itself.",
        ),
        Behaviour(
            "reads fewer keys early in the text, then `budget` for each token",
            _roughly,
            "Write down for each token of the example how many keys it reads: t + 1 at first, and `budget` from then "
            "on. Is that what your sum adds up?",
        ),
        Behaviour(
            "counts in whole numbers: an int",
            lambda call: isinstance(_number(call), Integral),
            "A count is an int. `/` makes a number with a point even where nothing is left over; `//` does not.",
        ),
        Behaviour(
            "is exactly right",
            lambda call: _number(call) == call.expected,
            "Close, and not the same. A count has no rounding: look for a number with a point on the way.",
        ),
    ),
    slips=(
        Slip(
            gives(lambda tokens, dim, budget: multiply_adds(tokens, dim, budget) // 2),
            "You charge dim only once for each key. Reading it takes q·k, and weight·v after that.",
        ),
        Slip(
            gives(lambda tokens, dim, budget: 2 * multiply_adds(tokens, dim, budget)),
            "You count the multiplication and the addition as two. Here a multiply-add is one.",
        ),
        Slip(
            gives(lambda tokens, dim, budget: 2 * dim * sum(min(token, budget) for token in range(tokens))),
            "You leave the token itself out. It reads its own key too: token t has t + 1 keys, not t. Written as a "
            "formula: 1 + 2 + … + m is m·(m + 1)/2, and m·(m − 1)/2 is one short.",
        ),
        Slip(
            gives(lambda tokens, dim, budget: multiply_adds(tokens, dim, budget + 1)),
            "You allow `budget` keys besides the token itself. The budget is for all keys, its own among them.",
        ),
        Slip(gives(lambda tokens, dim, budget: 2 * dim * tokens * budget), _FULL_BUDGET),
        Slip(gives(lambda tokens, dim, budget: 2 * dim * tokens * min(budget, tokens)), _FULL_BUDGET),
        Slip(
            gives(lambda tokens, dim, budget: dim * tokens * (tokens + 1)),
            "You leave `budget` out: this is dense attention, whatever the budget.",
        ),
        Slip(
            gives(lambda tokens, dim, budget: 2 * dim * tokens**2),
            "You let every token read all tokens, the future as well. Token t reads t + 1 keys at most.",
        ),
        Slip(gives(lambda tokens, dim, budget: multiply_adds(tokens, 1, budget)), _DIM_LEFT_OUT),
        Slip(gives(lambda tokens, dim, budget: multiply_adds(tokens, 1, budget) // 2), _DIM_LEFT_OUT),
        Slip(
            gives(lambda tokens, dim, budget: 2 * dim * min(tokens, budget)),
            "You count one token, the last. Add up what all tokens of the text read.",
        ),
        Slip(
            gives(_only_long_texts),
            "Your formula is for texts longer than their budget. Where the budget has more room than the text has "
            "tokens, only `tokens` of them count: take the smaller of the two.",
        ),
        Slip(
            gives(lambda tokens, dim, budget: (2 * dim + 1) * multiply_adds(tokens, 1, budget) // 2),
            "You count one more for each key. Softmax and scaling are left out of this count.",
        ),
        Slip(
            _ran_over,
            "Your count runs over: an int32 ends near two billion. Count in int64, or in Python's own whole numbers.",
        ),
        Slip(
            _in_floating_point,
            "You count in floating point, which keeps a limited number of digits (float32 about seven). Stay with "
            "whole numbers: `//` in place of `/`, and tensors of int64.",
        ),
    ),
    done="Dense attention takes about dim·n² for n tokens. On a budget b it is 2·dim·b for each token after the first "
    "few: a straight line. Finding out which keys to read is not in it.",
)
