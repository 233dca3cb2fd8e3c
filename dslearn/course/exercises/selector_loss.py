"""01.7: what the selector learns from dense attention, as the choice itself has no gradient."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip
from dslearn.course.exercises.selector_loss_formulas import (
    ask,
    divergence,
    is_one_number,
    loss_is,
    over_the_tokens,
    past_only,
    targets,
    up_to_own,
    wrong_way_round,
)

_LOW = 20_000.0
_FAR = 80.0  # from here on, exp of a difference is 0 in single precision


def selector_loss(
    scores: Float[Tensor, "tokens blocks"], attention: Float[Tensor, "tokens tokens"], block_size: int
) -> Float[Tensor, ""]:
    """Cross-entropy less entropy, token by token, over the blocks up to the own one."""
    target, losses = targets(attention, block_size), []
    for token, row in enumerate(scores.double()):
        p, row = (x[: token // block_size + 1] for x in (target[token], row))
        losses.append(p @ (row.logsumexp(dim=0) - row) - torch.special.entr(p).sum())
    return torch.stack(losses).mean().to(scores.dtype)


def build(count: int, block_size: int, short_by: int, kind: str, seed: int) -> tuple[Tensor, Tensor, int]:
    """Scores and dense attention.

    ``"plain"``; ``"agreeing"``; ``"sparse"`` attention; scores far ``"apart"``; ``"low"`` ones, far from 0 and not from
    each other; or ``"faint"`` attention on a block whose score is far below.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = count * block_size - min(short_by, block_size - 1)
    position = torch.arange(tokens)
    logits = torch.randn(tokens, tokens, generator=generator).masked_fill(position > position[:, None], -torch.inf)
    if kind == "sparse":
        logits = logits.masked_fill(logits < logits.amax(dim=1, keepdim=True) - 0.7, -torch.inf)
    attention = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    scores = torch.randn(tokens, count, generator=generator)
    if kind == "agreeing":
        target = targets(attention, block_size).float()
        scores = torch.where(target > 0, target.log() + 2 * scores[:, :1], scores)
    if kind == "low":
        scores = (3 * scores).round() - _LOW
    if kind == "faint":
        attention[-1] = torch.tensor([1e-4, *[0.0] * (tokens - 2), 1 - 1e-4])
        scores[-1, 0] -= 5000
    return (3000 * scores if kind == "apart" else scores), attention, block_size


def _same(a: list[float], b: list[float], tolerance: float = 1e-4) -> bool:
    """Equal up to rounding, NaN aside."""
    scale = max(map(abs, a), default=0.0)
    return len(a) == len(b) and all(abs(x - y) <= tolerance * scale + 1e-6 for x, y in zip(a, b, strict=True))


def _rounding(call: Call) -> float:
    """What log-probabilities of low scores may lose in single precision, if they are not shifted first."""
    return 0.02 if call["scores"].amax() < -_LOW / 2 else 1e-4


def _is_finite(call: Call) -> bool:
    return all(map(math.isfinite, call.got[0] + call.got[1]))


def _no_later_block(call: Call) -> bool:
    pulls = torch.tensor(call.got[1]).view_as(call["scores"])
    return not pulls[~up_to_own(call["scores"], call["block_size"])].any()


def _zero_where_they_agree(call: Call) -> bool:
    return min(call.got[0]) >= 0 and (any(call.expected[0]) or not any(call.got[0]))


def _teacher_is_left_alone(call: Call) -> bool:
    return call.got[2] == [0.0]


def _gradient(call: Call) -> bool:
    return _same(call.expected[1], call.got[1], _rounding(call))


def _exact(call: Call) -> bool:
    close = all(_same(a, b, _rounding(call)) for a, b in zip(call.expected, call.got, strict=True))
    return close and _teacher_is_left_alone(call)


def _is_apart(call: Call) -> bool:
    visible = call["scores"][up_to_own(call["scores"], call["block_size"])]
    return bool(visible.amax() - visible.amin() > _FAR or visible.abs().amax() > 1000)


def _right_if_near(call: Call) -> bool:
    return _is_apart(call) or _exact(call)


def _right_if_finite(call: Call) -> bool:
    return not _is_finite(call) or _exact(call)


def _nan_in_the_gradient_alone(call: Call) -> bool:
    return _same(call.expected[0], call.got[0]) and (not _is_finite(call) or _exact(call))


def _does_not_learn(call: Call) -> bool:
    return _same(call.expected[0], call.got[0]) and not any(call.got[1])


def _roughly(call: Call) -> bool:
    if call["scores"].amax() < -_LOW / 2:
        return True
    return _teacher_is_left_alone(call) and all(
        len(a) == len(b) and all(math.isclose(x, y, rel_tol=0.05, abs_tol=0.03) for x, y in zip(a, b, strict=True))
        for a, b in zip(call.expected[: 1 if _is_apart(call) else 3], call.got, strict=False)
    )


_OWN_BLOCK = (
    "The own block counts, too: the tokens of the first block have no other, and a softmax over nothing is NaN. Take "
    "the blocks from 0 up to `t // block_size`, that one included."
)

EXERCISE = Exercise(
    id="01.7",
    title="A choice that learns",
    minutes=20,
    difficulty=3,
    function="selector_loss",
    right=selector_loss,
    draw=st.tuples(
        st.sampled_from(range(1, 5)),
        st.sampled_from(range(1, 4)),
        st.sampled_from(range(3)),
        st.sampled_from(("plain", "agreeing", "sparse", "apart", "apart")),
        st.sampled_from(range(100)),
    ),
    edges=(
        (3, 2, 1, "low", 0),
        (4, 1, 0, "low", 1),
        (3, 2, 0, "faint", 0),
        (3, 16, 8, "plain", 0),
        (3, 16, 8, "sparse", 1),
    ),
    build=build,
    shown=(3, 2, 1, "plain", 0),
    ask=ask,
    judges_nan=True,
    behaviours=(
        Behaviour(
            "returns one number",
            is_one_number,
            "The loss is one number for the whole text: return that tensor, and nothing beside it.",
        ),
        Behaviour(
            "stays finite, and so does its gradient",
            _is_finite,
            "NaN or ∞ came out, in the loss or in its gradient. Look for the logarithm of 0, for 0 · (−∞), and for a "
            "softmax over no block at all.",
        ),
        Behaviour(
            "gives later blocks no part",
            _no_later_block,
            "The scores of later blocks get a gradient here, so they have taken part in the softmax. Token `t` may "
            "choose among the blocks up to `t // block_size`: all others need the score −∞ before the softmax.",
        ),
        Behaviour(
            "is never negative, and 0 where the scores say what attention does",
            _zero_where_they_agree,
            "KL says how many nats are lost by believing the selector. Where it agrees with the attention nothing is "
            "lost, and nobody can win. Is it Σ p · log(p / p̂), with p the *sum* of the attention over each block?",
        ),
        Behaviour(
            "lets no gradient flow into the attention",
            _teacher_is_left_alone,
            "The attention is the teacher. If a gradient flows into the attention, the network "
            "bends what it reads to please its selector. Detach the target.",
        ),
        Behaviour(
            "pulls each score towards its target",
            _gradient,
            "The gradient in the scores should be (p̂ − p) / tokens: scores rise where attention "
            "gives more than the selector expects. Yours is another. What is detached, or weighted, on the way?",
        ),
        Behaviour(
            "is the mean over the tokens of KL(target ‖ selector)",
            _exact,
            "The gradient is right and the value is not, so something that does not depend on the scores is missing, "
            "or is there once too often. The loss of one token is Σ p · log(p / p̂).",
        ),
    ),
    slips=(
        Slip(
            lambda call: len(call.got[0]) in (len(call["scores"]), call["scores"].numel()),
            "Each token has its own divergence, a sum over the blocks. The loss is their mean over the tokens: one "
            "number for the whole text.",
        ),
        Slip(
            lambda call: is_one_number(call) and not any(call.got[0] + call.got[1]),
            "Whatever it is given, your loss is 0: nothing has been computed.",
        ),
        Slip(
            _does_not_learn,
            "The value is right, and it cannot teach. No gradient reaches the scores: `detach()`, `.item()` or "
            "`torch.no_grad()` cuts them off. Only the attention is to be detached.",
        ),
        Slip(
            loss_is(lambda facts: -(facts.target * facts.log_p).sum(dim=1).mean()),
            "That is the cross-entropy, −Σ p · log p̂. Its gradient is the same; its value is not 0 where the selector "
            "agrees with the attention. KL is Σ p · log(p / p̂): the term Σ p · log p is missing.",
        ),
        Slip(
            loss_is(lambda facts: divergence(facts.target, facts.log_p).sum()),
            "You take the sum over the tokens. Take the mean over the tokens, or a longer text teaches harder.",
        ),
        Slip(
            loss_is(
                lambda facts: divergence(facts.target, facts.log_p).mean() / facts.seen.shape[1],
                lambda facts: divergence(facts.target, facts.log_p).sum() / facts.seen.sum(),
                lambda facts: divergence(facts.target, facts.log_p).sum() / facts.seen.shape[1],
            ),
            'Divide by the number of tokens alone: the blocks of a token are summed. `F.kl_div` with `reduction="mean"`'
            ' divides by the blocks as well, and `"batchmean"` by the length of the first axis, whatever that is.',
        ),
        Slip(
            wrong_way_round,
            "KL the wrong way round: you weigh by the selector, Σ p̂ · log(p̂ / p). The teacher goes first: what "
            "attention reads, the selector must not miss.",
        ),
        Slip(
            loss_is(
                lambda facts: divergence(facts.target, facts.p).mean(),
                lambda facts: divergence(facts.p, facts.target).mean(),
            ),
            "`F.kl_div` wants the selector's log-probabilities first and the target, as probabilities, second.",
        ),
        Slip(
            loss_is(lambda facts: divergence(facts.target / facts.block_size, facts.log_p).mean()),
            "The target is the attention *summed* over each block. With the average over its tokens, the targets of a "
            "token no longer sum to one.",
        ),
        Slip(
            loss_is(
                lambda facts: (facts.target - facts.p).square().mean(),
                lambda facts: (facts.target - facts.p).square().sum(dim=1).mean(),
                lambda facts: (facts.target - facts.p)[facts.seen].square().mean(),
            ),
            "That is the squared difference. Between two distributions, take the KL divergence, Σ p · log(p / p̂).",
        ),
        Slip(
            loss_is(over_the_tokens),
            "The softmax runs over the tokens. Each token distributes its probability over the blocks: `dim=1`.",
        ),
        Slip(
            loss_is(lambda facts: divergence(facts.target, (facts.scores * facts.seen).log_softmax(dim=1)).mean()),
            "Later blocks have the score 0, and softmax gives them a share for it. Out of the choice means −∞.",
        ),
        Slip(loss_is(past_only), _OWN_BLOCK),
        Slip(lambda call: not _is_finite(call), _OWN_BLOCK),
        Slip(
            _right_if_near,
            "Right for ordinary scores, wrong for scores that lie far apart. A softmax rounds what is small to 0, and "
            "its logarithm is −∞; a small number added before the logarithm bends the loss; −1000 is not −∞; and a "
            "small target counts, if its score is low enough. Take "
            "`log_softmax`, of scores that are −∞ for later blocks.",
        ),
        Slip(
            _nan_in_the_gradient_alone,
            "The loss is right, and its gradient holds NaN. Hiding NaN afterwards (`nan_to_num`, `nansum`, `where`) "
            "mends the loss alone: the gradient goes back through what was hidden. Keep NaN from arising: no "
            "logarithm of 0, and no −∞ times 0.",
        ),
        Slip(
            _right_if_finite,
            "Right wherever it is finite. A target of 0 must contribute 0, and the computer finds 0 · log 0 = 0 · (−∞),"
            " which is NaN; later blocks have a target of 0 *and* the log-probability −∞. `torch.xlogy(p, p)` knows "
            "the limit; log-probabilities can be set to 0 (`masked_fill`) where their target is 0.",
        ),
        Slip(
            _roughly,
            "Nearly right, which smells of precision: is something computed in half precision, rounded, or a small "
            "number added, on the way? Keep the dtype of the inputs.",
        ),
    ),
    done="The choice itself has no gradient, and needs none: its scores learn from what attention reads.",
)
