"""Arithmetic that autocast leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def without_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """For ``forward`` and ``backward`` of an autograd function, which choose their precision themselves."""

    @wraps(function)
    def run(ctx: Any, first: Tensor, *rest: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return function(ctx, first, *rest)

    return run
