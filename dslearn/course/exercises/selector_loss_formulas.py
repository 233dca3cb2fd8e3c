"""What 01.7 asks of a loss, and what wrong formulas give for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dslearn.course.exercise import Call

_NOTHING = 5e-6  # what counts as rounding, of a loss that should be 0


def targets(attention: Tensor, block_size: int) -> Float[Tensor, "tokens blocks"]:
    """The attention on each block."""
    parts = attention.detach().double().split(block_size, dim=1)
    return torch.stack([part.sum(dim=1) for part in parts], dim=1)


def up_to_own(scores: Tensor, block_size: int) -> Bool[Tensor, "tokens blocks"]:
    """Which blocks take part."""
    return torch.arange(scores.shape[1]) <= torch.arange(len(scores))[:, None] // block_size


def is_one_number(call: Call) -> bool:
    return len(call.got[0]) == 1


@dataclass(frozen=True)
class Facts:
    """What a formula may need: blocks that take no part have the log-probability 0."""

    scores: Tensor
    target: Tensor
    log_p: Tensor
    seen: Tensor
    block_size: int

    @classmethod
    def of(cls, call: Call) -> Facts:
        scores, block_size = call["scores"].double(), call["block_size"]
        seen = up_to_own(scores, block_size)
        log_p = scores.masked_fill(~seen, -torch.inf).log_softmax(dim=1).masked_fill(~seen, 0)
        return cls(scores, targets(call["attention"], block_size), log_p, seen, block_size)

    @property
    def p(self) -> Tensor:
        return self.log_p.exp() * self.seen


def loss_is(*formulas: Callable[[Facts], Tensor]) -> Callable[[Call], bool]:
    """Whether the loss is what one of the formulas gives; the gradient follows."""

    def explains(call: Call) -> bool:
        given = [float(formula(Facts.of(call))) for formula in formulas]
        return any(math.isclose(call.got[0][0], loss, rel_tol=1e-4, abs_tol=1e-5) for loss in given)

    return lambda call: is_one_number(call) and explains(call)


def divergence(p: Tensor, log_q: Tensor) -> Tensor:
    """Σ p log(p / q) of each token."""
    return (torch.xlogy(p, p) - p * log_q).sum(dim=1)


def past_only(facts: Facts) -> Tensor:
    past = facts.seen & (torch.arange(facts.seen.shape[1]) < facts.seen.sum(dim=1, keepdim=True) - 1)
    log_p = facts.scores.masked_fill(~past, -torch.inf).log_softmax(dim=1).masked_fill(~past, 0)
    return divergence(facts.target * past, log_p).mean()


def over_the_tokens(facts: Facts) -> Tensor:
    log_p = facts.scores.masked_fill(~facts.seen, -torch.inf).log_softmax(dim=0).masked_fill(~facts.seen, 0)
    return divergence(facts.target, log_p).mean()


def from_the_selector(facts: Facts) -> Tensor:
    """KL(selector ‖ target), which is infinite where a target is 0."""
    return divergence(facts.p, facts.target.clamp(min=1e-300).log()).mean()


def wrong_way_round(call: Call) -> bool:
    """Whether it is that; any number will do where it should be infinite."""
    facts = Facts.of(call)
    return bool((facts.target[facts.seen] == 0).any()) or loss_is(from_the_selector)(call)


class Teaching(NamedTuple):
    """What comes of a loss, in numbers."""

    loss: list[float]
    gradient_in_the_scores_token_by_token: list[float]
    largest_gradient_in_the_attention: list[float]


def ask(answer: Callable[..., Any], scores: Tensor, attention: Tensor, block_size: int) -> Any:
    """The loss, its gradient in the scores, and the largest one in the attention; there may be NaN in them.

    The arguments are the check's own copies: with gradients switched on in place, it still sees who writes into them.
    """
    loss = answer(scores.requires_grad_(), attention.requires_grad_(), block_size)
    if loss is None or loss is ... or loss is NotImplemented:
        return loss
    gradients = [torch.zeros_like(scores), torch.zeros_like(attention)]
    if isinstance(loss, Tensor) and loss.requires_grad:
        gradients = _gradients(loss.sum(), scores, attention)
    of_scores, of_attention = gradients
    return Teaching(_plain(loss), _plain(of_scores), [float(of_attention.abs().max())])


def _gradients(loss: Tensor, scores: Tensor, attention: Tensor) -> tuple[Tensor, ...]:
    """What flows into scores and attention, with what the answer has left there itself.

    Raises:
        ValueError: the answer has made that impossible.
    """
    if not (scores.requires_grad and attention.requires_grad):
        raise ValueError(
            "an argument has no gradient any more: `detach_()` changes the caller's tensor, `detach()` not"
        )
    try:
        found = torch.autograd.grad(loss, (scores, attention), materialize_grads=True)
    except RuntimeError as error:
        raise ValueError(f"no gradient can be taken of the loss; is there a `backward()` in it? ({error})") from error
    return tuple(
        x if given.grad is None else x + given.grad for x, given in zip(found, (scores, attention), strict=True)
    )


def _plain(value: Any) -> list[float]:
    """Numbers, without rounding errors around 0; none if there are none."""
    if isinstance(value, int | float):
        value = torch.tensor(float(value))
    if not isinstance(value, Tensor):
        return []
    return [0.0 if abs(number) < _NOTHING else number for number in value.detach().double().flatten().tolist()]
