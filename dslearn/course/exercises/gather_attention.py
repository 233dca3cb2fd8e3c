"""01.4: attention that reads the chosen blocks and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Bool
from torch import Tensor

from dslearn.course.answers import close
from dslearn.course.exercise import Behaviour, Call, Exercise, Slip
from dslearn.course.exercises.gather_attention_texts import attend, build, gather_attention


def _readable(call: Call) -> Bool[Tensor, "tokens tokens"]:
    """Which keys each token may read."""
    position = torch.arange(len(call["k"]))
    chosen = (call["blocks"][..., None] == position // call["block_size"]).any(dim=1)
    return chosen & (position <= position[:, None])


def _on_weights(holds: Callable[[Call], bool]) -> Callable[[Call], bool]:
    """A behaviour of texts whose values let the weights through."""

    def holds_there(call: Call) -> bool:
        v = call["v"]
        return v.shape[0] != v.shape[1] or not torch.equal(v, torch.eye(len(v))) or holds(call)

    return holds_there


def _first_is_alone(call: Call) -> bool:
    """NaN is another behaviour's business."""
    return bool(call.got[0].isnan().any()) or torch.allclose(call.got[0], call["v"][0], rtol=1e-4, atol=1e-4)


def _no_later_token(call: Call) -> bool:
    return not call.got.triu(1).abs().gt(1e-6).any()


def _nothing_else(call: Call) -> bool:
    return not call.got[~_readable(call)].abs().gt(1e-6).any()


def _all_of_it(call: Call) -> bool:
    return bool(call.got[_readable(call)].ne(0).all())


def _one_in_all(call: Call) -> bool:
    return torch.allclose(call.got.sum(dim=1), torch.ones(len(call.got)), atol=1e-4)


def _untouched(call: Call) -> bool:
    """Whether NaN comes out only where NaN was chosen."""
    return not (call.got.isnan() & ~call.expected.isnan()).any()


def _exact(call: Call) -> bool:
    return close(call.expected, call.got)


def _right_for(change: Callable[[Call], dict[str, Any]]) -> Callable[[Call], bool]:
    """Whether an undamaged text gets what is right for other arguments.

    In a damaged one, NaN would hide the mistake of an author who masks too late as well.
    """
    return lambda call: _is_damaged(call) or close(gather_attention(**(call.arguments | change(call))), call.got)


def _to_the_end(call: Call) -> bool:
    """Whether the own block is read to its end."""
    of_key = (torch.arange(len(call["k"])) // call["block_size"]).tolist()
    read = [[key for key, block in enumerate(of_key) if block in row] for row in call["blocks"].tolist()]
    return _is_damaged(call) or close(attend(call["q"], call["k"], call["v"], read), call.got)


def _one_row_a_block(call: Call) -> dict[str, Any]:
    first = torch.arange(len(call["k"])) // call["block_size"] * call["block_size"]
    return {"blocks": call["blocks"][first]}


def _root(call: Call) -> float:
    return call["q"].shape[1] ** 0.5


def _last(call: Call) -> int:
    return (len(call["k"]) - 1) // call["block_size"]


def _is_damaged(call: Call) -> bool:
    return bool(call["v"].isnan().any() or call["k"].isnan().any())


def _around_the_end(call: Call) -> bool:
    """Whether −1 reads as many tokens from the end as a block has."""
    tokens, size = len(call["k"]), call["block_size"]
    places = (call["blocks"][..., None] * size + torch.arange(size)).flatten(1).tolist()
    read = [[place % tokens for place in row if place <= token] for token, row in enumerate(places)]
    return _is_damaged(call) or close(attend(call["q"], call["k"], call["v"], read), call.got)


def _is_large(call: Call) -> bool:
    return bool(call["q"].abs().amax() > 5)


def _right_if_not_large(call: Call) -> bool:
    return _is_large(call) or _exact(call)


def _cleaned(call: Call) -> bool:
    """Right but where NaN was chosen."""
    was_chosen = call.expected.isnan()
    return close(call.expected[~was_chosen], call.got[~was_chosen])


def _roughly(call: Call) -> bool:
    """Nearly right, or large: there, a rounding turns the whole choice."""
    return _is_large(call) or torch.allclose(call.got, call.expected, rtol=0.05, atol=0.03, equal_nan=True)


EXERCISE = Exercise(
    id="01.4",
    title="Read only what was chosen",
    minutes=25,
    difficulty=2,
    function="gather_attention",
    right=gather_attention,
    draw=st.tuples(
        st.sampled_from(range(1, 7)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(4)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(1, 5)),
        st.sampled_from(("weights", "plain", "damaged", "large")),
        st.sampled_from(range(100)),
    ),
    edges=(
        *((4, 3, 1, 3, 4, 2, "low", seed) for seed in range(4)),
        *((5, 2, 1, 3, 3, 2, "damaged", seed) for seed in range(21)),
        (14, 5, 2, 7, 9, 6, "plain", 0),
        (4, 4, 1, 2, 3, 2, "weights", 0),
    ),
    build=build,
    axes="(tokens, value_dim)",
    shown=(3, 2, 0, 2, 4, 4, "weights", 4),
    behaviours=(
        Behaviour(
            "gives the first token its own value",
            _first_is_alone,
            "The first token has nothing to read but itself, so its weight is 1 and its value comes out unchanged. The "
            "softmax of each token runs over its own keys; what is hidden from it gets the score −∞, not 0.",
        ),
        Behaviour(
            "reads no later token",
            _on_weights(_no_later_token),
            "The own block holds tokens that come later, too. Compare the position of every key with the token's.",
        ),
        Behaviour(
            "reads nothing in blocks that were not chosen",
            _on_weights(_nothing_else),
            "Block `b` begins at token `b * block_size` and ends before the next one begins. A −1 stands for no block "
            "at all: whatever you fetch in its place needs the score −∞.",
        ),
        Behaviour(
            "reads every key in the chosen blocks up to the token itself",
            _on_weights(_all_of_it),
            "Something is left out. The token reads itself as well, each of its blocks has `block_size` keys, and only "
            "the text's last block may have fewer.",
        ),
        Behaviour(
            "shares out a weight of one in all",
            _on_weights(_one_in_all),
            "The weights of a token sum to one over all its blocks together: one softmax for all of its keys.",
        ),
        Behaviour(
            "lets nothing else take part, not even with the weight 0",
            _untouched,
            "In this text a block is damaged, and NaN comes out for a token that did not choose it: its values were "
            "multiplied by 0 and added, and 0 · NaN is NaN. Masking after computing everything saves nothing, since it "
            "has read everything. Fetch the chosen keys and values first, and compute with those.",
        ),
        Behaviour(
            "weighs what it reads by softmax(q·k / √dim)",
            _exact,
            "The right keys are read, and the weights or the sum are off. Each score is `q[token] · k[key]`, divided "
            "by the square root of `q.shape[1]`; one softmax over all keys of a token gives the weights of their "
            "values.",
        ),
    ),
    slips=(
        Slip(
            _right_for(lambda call: {"q": call["q"] * _root(call)}),
            "The scores are not scaled: `q·k` must be divided by √dim before the softmax.",
        ),
        Slip(
            _right_for(lambda call: {"q": call["q"] / _root(call)}),
            "The scores are divided by dim itself. The formula takes its square root.",
        ),
        Slip(
            _to_the_end,
            "Each token reads its own block to its end, and so tokens that come later. Keys after the token itself "
            "need the score −∞.",
        ),
        Slip(
            _right_for(lambda call: {"blocks": call["blocks"].where(call["blocks"] >= 0, _last(call))}),
            "Where there is no block, you read the last one: Python takes index −1 for the last entry. Give those "
            "places the score −∞.",
        ),
        Slip(
            _around_the_end,
            "A −1 is read as the last tokens of the text, since Python counts negative places from the end. A −1 is no "
            "block: give those places the score −∞.",
        ),
        Slip(
            _right_for(lambda call: {"blocks": call["blocks"].where(call["blocks"] >= 0, call["blocks"][:, :1])}),
            "Where there is no block, you read the own one once more, so it counts twice. You may fetch it, but its "
            "scores must become −∞.",
        ),
        Slip(
            _right_for(_one_row_a_block),
            "All tokens of a block read by one row of `blocks`. Each token has a row of its own.",
        ),
        Slip(
            _right_for(lambda call: {"blocks": call["blocks"].clamp(min=0)}),
            "Where there is no block, you read block 0: `clamp(min=0)` makes −1 a block that exists. You may fetch it, "
            "but its scores must become −∞.",
        ),
        Slip(
            _right_for(lambda call: {"q": 0 * call["q"]}),
            "You weigh all keys that a token reads alike, which gives their average. The softmax of the scores says "
            "how much each one counts.",
        ),
        Slip(
            _right_for(lambda call: {"q": call["k"], "k": call["q"]}),
            "Queries and keys are exchanged: `q[token]` asks, and `k` of the others answers.",
        ),
        Slip(
            _right_for(lambda call: {"blocks": call["blocks"][:, :1]}),
            "Only the own block is read. The other entries of `blocks` count, too.",
        ),
        Slip(
            _right_for(lambda call: {"blocks": torch.arange(_last(call) + 1).expand(len(call["k"]), -1)}),
            "Every token reads everything before it, whatever it chose: the choice in `blocks` is not used.",
        ),
        Slip(
            _cleaned,
            "You replace NaN by a number, and hide the damage from those who did read it. Leave the values as they are "
            "and do not fetch what was not chosen.",
        ),
        Slip(
            _right_if_not_large,
            "Right for ordinary scores, wrong for scores far from 0. Do hidden keys get a fixed number such as −1000? "
            "Scores can be lower than that, and are never lower than −∞. Or is something clamped?",
        ),
        Slip(
            _roughly,
            "Nearly right, which smells of precision: is something computed in half precision, or rounded, on the way? "
            "Keep the dtype of the inputs.",
        ),
        Slip(
            lambda call: not call.got.any(),
            "Whatever it is given, your answer is all zeros: the shape is there and nothing has been computed.",
        ),
    ),
    done="Nothing but the chosen blocks takes part in the output. If you *fetched* them, rather than blanking out the "
    "rest of everything, that is where the time is saved.",
)
