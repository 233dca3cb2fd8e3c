"""Batches as a pure function of (seed, step): a resumed run draws the batches it would have had."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def step_generator(seed: int, step: int) -> np.random.Generator:
    """A generator of its own for every (seed, step): Philox, keyed by both (Salmon et al. 2011).

    Raises:
        ValueError: `seed` or `step` is not in 0…2⁶⁴ − 1.
    """
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value < 2**64:
            raise ValueError(f"{name} must be in 0…2**64 - 1, got {value}")
    return np.random.Generator(np.random.Philox(key=np.array([seed, step], dtype=np.uint64)))


class TokenStream:
    """Random windows of one long row of tokens, which is never copied.

    Every start is equally likely, so windows overlap and may run over the end of a document. A window holds
    `seq_len + 1` tokens: inputs are `[:, :-1]`, targets `[:, 1:]`.

    Raises:
        ValueError: `tokens` is not one row of integers or is too short for a window, or `batch_size` or
            `seq_len` < 1.
    """

    def __init__(self, tokens: Tensor, *, batch_size: int, seq_len: int, seed: int) -> None:
        for name, value in (("batch_size", batch_size), ("seq_len", seq_len)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if tokens.ndim != 1 or tokens.is_floating_point() or tokens.is_complex():
            raise ValueError(f"tokens must be 1-D integers, got shape {tuple(tokens.shape)} of {tokens.dtype}")
        if len(tokens) < seq_len + 1:
            raise ValueError(f"seq_len {seq_len} needs at least {seq_len + 1} tokens, got {len(tokens)}")
        step_generator(seed, 0)  # a bad seed is reported here rather than at the first batch
        self.tokens, self.batch_size, self.seq_len, self.seed = tokens, batch_size, seq_len, seed

    def batch(self, step: int) -> Int[Tensor, "batch window"]:
        """The int64 windows of one step, shape (batch_size, seq_len + 1), on the device of the tokens."""
        last_start = len(self.tokens) - self.seq_len - 1
        starts = step_generator(self.seed, step).integers(0, last_start, self.batch_size, endpoint=True)
        positions = torch.from_numpy(starts[:, None] + np.arange(self.seq_len + 1))
        return self.tokens[positions.to(self.tokens.device)].long()
