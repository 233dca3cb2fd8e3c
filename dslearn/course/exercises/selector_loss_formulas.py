"""What wrong formulas of 01.7 give as the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dslearn.course.exercise import Call


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
