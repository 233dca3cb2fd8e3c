"""00.1: the surprise of all tokens, in bits for each byte of the text."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def bits_per_byte(nats: Float[Tensor, " tokens"], num_bytes: int) -> float:
    """Each token's surprise in bits, added up and shared among the bytes."""
    return math.fsum(surprise / math.log(2) for surprise in nats.tolist()) / num_bytes


def build(bits: tuple[int, ...], spare: int, kind: str, seed: int) -> tuple[Tensor, int]:
    """Tokens of so many bits, or a fraction more, or with a first one of (next to) no chance; a byte each, and more."""
    fractions = torch.rand(len(bits), generator=torch.Generator().manual_seed(seed))
    nats = math.log(2) * (torch.tensor(bits, dtype=torch.float32) + (fractions if kind != "whole" else 0))
    if kind == "shock":
        nats[0] += 150
    if kind == "extreme":
        nats[0] += 5000
    return nats, len(bits) + spare


def _value(call: Call) -> float:
    return float(call.got)


def _within(share: float) -> Callable[[Call], bool]:
    return lambda call: math.isclose(_value(call), call.expected, rel_tol=share, abs_tol=1e-6)


_roughly, _exactly = _within(0.01), _within(1e-5)


def _one_token(call: Call) -> bool:
    return len(call["nats"]) > 1 or _roughly(call)


def _one_token_of_one_byte(call: Call) -> bool:
    return call["num_bytes"] > 1 or _roughly(call)


def _rounded_constant(call: Call) -> bool:
    """Whether 0.693 or 1.443, to some digits, gives this answer."""
    rounded = [1 / round(math.log(2), digits) for digits in range(1, 5)]
    rounded += [round(1 / math.log(2), digits) for digits in range(1, 5)]
    values = [call.expected * math.log(2) * constant for constant in rounded]
    return any(math.isclose(_value(call), value, rel_tol=2e-6, abs_tol=1e-9) for value in values)


def _rounded_answer(call: Call) -> bool:
    """Whether it has few decimals and is, up or down, the nearest such number to what is right."""
    return any(
        math.isclose(round(_value(call), digits), _value(call), rel_tol=1e-6, abs_tol=1e-9)
        and abs(_value(call) - call.expected) < 10**-digits
        for digits in range(5)
    )


_BITS = st.sampled_from((1, 2, 3, 4, 5, 6, 7, 8, 0))  # 0 last: it shows the fewest mistakes

EXERCISE = Exercise(
    id="00.1",
    title="Bits a byte",
    minutes=10,
    difficulty=1,
    function="bits_per_byte",
    right=bits_per_byte,
    draw=st.tuples(
        st.tuples(_BITS) | st.lists(_BITS, min_size=2, max_size=8).map(tuple),
        st.just(0) | st.sampled_from(range(1, 13)),
        st.sampled_from(("whole", "fraction", "shock")),
        st.sampled_from(range(100)),
    ),
    edges=(((3, 1), 0, "extreme", 0), ((5, 2, 7) * 1000, 7000, "fraction", 1)),
    build=build,
    shown=((1, 3, 2, 6), 2, "whole", 0),
    behaviours=(
        Behaviour(
            "is never below zero",
            lambda call: _value(call) >= -1e-6,
            "No surprise is below zero, so no sum of them is. The minus of −ln p is in `nats` already.",
        ),
        Behaviour(
            "turns nats into bits, for one token of one byte",
            _one_token_of_one_byte,
            "With one token and one byte only the unit is left to change. One bit is ln 2 nats, which is about 0.69: "
            "divide by that, and by the bytes that you are given.",
        ),
        Behaviour(
            "shares one token's bits among all bytes",
            _one_token,
            "A token often stands for several bytes. Divide by `num_bytes`, once, and by nothing else that is counted.",
        ),
        Behaviour(
            "counts the surprise of every token",
            _roughly,
            "One token goes well and several do not. Each is paid for: add up the surprise of all of them.",
        ),
        Behaviour(
            "is exactly right",
            _exactly,
            "Close, and not the same: a digit is lost on the way. Take ln 2 from `math.log(2)`, and round nothing.",
        ),
    ),
    slips=(
        Slip(
            gives(lambda nats, num_bytes: nats.sum() / num_bytes),
            "You give *nats* for each byte. A bit is less than a nat, so there are more bits: divide by ln 2.",
        ),
        Slip(
            gives(lambda nats, num_bytes: nats.sum() * math.log(2) / num_bytes),
            "You multiply by ln 2. A bit is only 0.69 nats, so there are more bits than nats: divide.",
        ),
        Slip(
            gives(lambda nats, num_bytes: nats.mean() / math.log(2)),
            "You give the bits for each *token*. Tokens can be short or long; what is asked for is bits for each byte.",
        ),
        Slip(
            gives(lambda nats, num_bytes: nats.sum() / math.log(2)),
            "You give the bits of the whole text. They still have to be divided by `num_bytes`.",
        ),
        Slip(
            gives(lambda nats, num_bytes: nats.mean() / math.log(2) / num_bytes),
            "You divide twice: the mean has divided by the tokens already. Take the sum, then divide by the bytes.",
        ),
        Slip(
            gives(lambda nats, num_bytes: nats.sum() / math.log(2) / num_bytes / 8),
            "You divide by 8 as well, as if a byte's eight bits were wanted one by one. Bits for each *byte* it is.",
        ),
        Slip(
            gives(lambda nats, num_bytes: nats.sum() / math.log(10) / num_bytes),
            "You give decimal digits for each byte: `log10` and ln 10 belong to those. For bits it is ln 2.",
        ),
        Slip(
            gives(lambda nats, num_bytes: nats[1:].sum() / math.log(2) / num_bytes),
            "You leave the first token out. Its surprise counts like any other.",
        ),
        Slip(
            gives(lambda nats, num_bytes: nats[:-1].sum() / math.log(2) / num_bytes),
            "You leave the last token out. Its surprise counts like any other.",
        ),
        Slip(
            lambda call: call["nats"].sum() > 80 or _exactly(call),
            "Right for small surprises alone. Do you go back from surprise to chances? The chance of a very surprising "
            "token, or of a long text, is so small that it becomes 0, whose logarithm is −∞. Surprise is a logarithm "
            "already: dividing by ln 2 is enough.",
        ),
        Slip(
            _rounded_constant,
            "You have typed a rounded constant. `math.log(2)` has all the digits.",
        ),
        Slip(
            _rounded_answer,
            "You round your answer, with `round`, `int` or `//`. Return it as it is; rounding is for printing.",
        ),
    ),
    done="This is the number that chapter 00 gave for `xz` and for the model. It counts by the byte, not by the token, "
    "so it compares even two that cut the text differently.",
)
