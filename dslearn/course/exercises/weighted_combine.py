"""02.3: what the experts say comes back to its tokens, weighted and summed."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives


def combine(
    results: Float[Tensor, "pairs dim"], token: Int[Tensor, " pairs"], weight: Float[Tensor, " pairs"], num_tokens: int
) -> Float[Tensor, "tokens dim"]:
    """For each token, the weighted sum of the results that are its own."""
    out = torch.zeros(num_tokens, results.shape[1], dtype=torch.float64)
    for row, (to, factor) in enumerate(zip(token.tolist(), weight.tolist(), strict=True)):
        out[to] += factor * results[row].double()
    return out.to(results.dtype)


def build(tokens: int, dim: int, pairs: int, kind: str, seed: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Results in any order; "ones" are weights of 1, "signed" ones of any sign, 0 among them, "double" is their
    precision; "one each" has a result for every token, "none" has none.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = {"one each": tokens, "none": 0}.get(kind, pairs)
    token = torch.randint(tokens, (pairs,), generator=generator)
    if kind == "one each":
        token = torch.randperm(tokens, generator=generator)
    weight = torch.rand(pairs, generator=generator) + 0.1
    results = 4 * torch.randn(pairs, dim, generator=generator)
    if kind == "ones":
        weight = torch.ones(pairs)
    if kind == "signed":
        weight = 3 * torch.randn(pairs, generator=generator)
        weight[::4] = 0
    dtype = torch.float64 if kind == "double" else torch.float32
    return results.to(dtype), token, weight.to(dtype), tokens


def _nothing_for_the_dropped(call: Call) -> bool:
    served = torch.bincount(call["token"], minlength=call["num_tokens"]) > 0
    return not call.got[~served].any()


def _near(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def _adds_up(call: Call) -> bool:
    return not bool((call["weight"] == 1).all()) or _near(call.got, call.expected)


def _right(call: Call) -> bool:
    return _near(call.got, call.expected)


def _one_of_them(results: Tensor, token: Tensor, weight: Tensor, num_tokens: int) -> Tensor:
    out = results.new_zeros(num_tokens, results.shape[1])
    out[token] = weight[:, None] * results
    return out


def _sum(results: Tensor, token: Tensor, _: Tensor, num_tokens: int) -> Tensor:
    return combine(results, token, torch.ones(len(token)), num_tokens)


def _divided(call: Call) -> bool:
    """Whether each sum is divided by that of its weights, unless this is 0, or below, or nearly."""
    whole = call["weight"].new_zeros(call["num_tokens"]).index_add(0, call["token"], call["weight"])
    divisors = torch.where(whole != 0, whole, 1), torch.where(whole > 0, whole, 1), whole.clamp(min=1e-9)
    return any(_near(call.got, call.expected / divisor[:, None]) for divisor in divisors)


def _mean(results: Tensor, token: Tensor, weight: Tensor, num_tokens: int) -> Tensor:
    many = torch.bincount(token, minlength=num_tokens).clamp(min=1)
    return combine(results, token, weight, num_tokens) / many[:, None]


def _in_order(results: Tensor, token: Tensor, weight: Tensor, num_tokens: int) -> Tensor:
    return combine(results, token.sort().values, weight, num_tokens)


EXERCISE = Exercise(
    id="02.3",
    title="Bring it back",
    minutes=10,
    difficulty=1,
    function="combine",
    right=combine,
    draw=st.tuples(
        st.sampled_from(range(1, 6)),
        st.sampled_from(range(1, 4)),
        st.sampled_from(range(8)),
        st.sampled_from(("ones", "plain", "one each", "none")),
        st.sampled_from(range(100)),
    ),
    edges=(
        (50, 8, 200, "plain", 0),
        (200, 3, 40, "plain", 1),
        (2, 4, 300, "ones", 2),
        (4, 3, 9, "signed", 3),
        (3, 2, 5, "double", 4),
    ),
    build=build,
    axes="(tokens, dim)",
    shown=(3, 2, 4, "plain", 1),
    behaviours=(
        Behaviour(
            "leaves tokens without a result at zero",
            _nothing_for_the_dropped,
            "A token that no expert served gets 0: what it carries passes the layer by. Begin with zeros.",
        ),
        Behaviour(
            "adds up all results of a token",
            _adds_up,
            "The weights are 1 here, so a token's row is the plain sum of the results that `token` gives to it, in "
            "whatever order they come.",
        ),
        Behaviour(
            "multiplies each result with its weight",
            _right,
            "Every result is multiplied with the weight of its own pair, all features of it, before it is added. The "
            "weight is taken as it is: not cut at 0, not divided by a sum.",
        ),
    ),
    slips=(
        Slip(
            gives(_one_of_them),
            "Only one result of each token has arrived. `out[token] = …`, and `out[token] += …` too, write once where "
            "a number stands twice in `token`. `index_add` adds them all.",
        ),
        Slip(gives(_sum), "You leave the weights out."),
        Slip(
            _divided,
            "You divide by the sum of the weights. They are taken as they are: if a choice was dropped, the rest of a "
            "token's weights does not grow.",
        ),
        Slip(gives(_mean), "You take the mean over a token's results. Add them up: the weights share out already."),
        Slip(
            gives(_in_order),
            "You take the results to be in the order of the tokens. They come in any order: `token` says whose one is.",
        ),
    ),
    done="Dropped choices add nothing, doubled ones add twice: `index_add` is the whole way back.",
)
