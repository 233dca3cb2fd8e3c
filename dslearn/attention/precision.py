"""Arithmetic that the kernels share: powers of two, and a precision that autocast leaves alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

LOG2E = math.log2(math.e)  # powers of two are two to three times as quick as powers of e


def in_range(total: Float[Tensor, "*queries"]) -> bool:
    """Whether sums of powers of scores as they are can be trusted: none near to overflow, or to nothing.

    Otherwise each query's highest score is taken off before.
    """
    smallest, largest = total.aminmax()
    return bool(2.0**-64 < smallest <= largest < 2.0**64)


def without_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """For ``forward`` and ``backward`` of an autograd function, which choose their precision themselves."""

    @wraps(function)
    def run(ctx: Any, first: Tensor, *rest: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return function(ctx, first, *rest)

    return run
