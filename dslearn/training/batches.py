"""Batches for a trainer: what step s reads depends on s alone, so a resumed run reads what it would have read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class StepBatches:
    """The batches of the steps from `start` to before `stop`; iterating again begins again.

    Args:
        batch_at: a pure function from a step to its batch, such as `TokenStream.batch`.
    """

    batch_at: Callable[[int], Tensor]
    start: int
    stop: int

    def __iter__(self) -> Iterator[Tensor]:
        for step in range(self.start, self.stop):
            yield self.batch_at(step)


def mix_domains(
    major: Int[Tensor, " many"], minor: Int[Tensor, " few"], *, minor_share: float
) -> Int[Tensor, " tokens"]:
    """Both rows as one, the smaller repeated until it makes up about `minor_share` of all tokens (at least once).

    Raises:
        ValueError: a row is empty, or `minor_share` is not between 0 and 1.
    """
    if not 0 < minor_share < 1:
        raise ValueError(f"minor_share must be between 0 and 1, got {minor_share}")
    if not len(major) or not len(minor):
        raise ValueError(f"Both domains need tokens, got {len(major)} and {len(minor)}")
    wanted = minor_share / (1 - minor_share) * len(major)
    return torch.cat([major, minor.repeat(max(1, round(wanted / len(minor))))])
