"""Two tasks that attention must solve and averages cannot: associative recall, and a needle in noise.

Both use three kinds of symbols: keys are ids 0…num_keys−1, then come the values, then noise. A sequence gives
its keys fresh values, so nothing can be learned by heart; only looking back helps. Written k, v and n for the
kinds, `RecallTask` with two pairs draws (asked positions carry the answer as target, all others −100):

    training     tokens   k3 v7 n1 n4 k5 v2 k3 v7 k5 v2      every repeated key is asked
                 targets   .  .  .  .  .  . v7  . v2  .
    evaluation   tokens   k3 v7 k5 v2 n4 n1 n9 k5 v2 k3 v7   pairs once, noise, every key asked once
                 targets   .  .  .  .  .  .  . v2  . v7  .

The logits at position t predict `targets[t]`, with no further shift. Source: associative recall after Graves
et al. (2014) and Arora et al. (2023, "Zoology"), in the multi-query form that has a question at every
repeated key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dslearn.data.batches import step_generator

IGNORED = -100  # the target that torch's cross_entropy leaves out
_NOISE_SHARE = 0.5  # share of the training slots that hold noise instead of a pair


class RecallBatch(NamedTuple):
    """Tokens and the answers expected at them, −100 where nothing is asked; int64 on the CPU."""

    tokens: Int[Tensor, "batch tokens"]
    targets: Int[Tensor, "batch tokens"]


@dataclass(frozen=True, kw_only=True)
class _Symbols:
    num_keys: int = 32
    num_values: int = 32
    num_noise: int = 32

    def __post_init__(self) -> None:
        for name in ("num_keys", "num_values", "num_noise"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def vocab_size(self) -> int:
        """Keys, values and noise together."""
        return self.num_keys + self.num_values + self.num_noise

    def _values(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return self.num_keys + generator.integers(0, self.num_values, shape)

    def _noise(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return self.num_keys + self.num_values + generator.integers(0, self.num_noise, shape)


@dataclass(frozen=True, kw_only=True)
class RecallTask(_Symbols):
    """`num_pairs` keys with a value each, in a sequence of `num_tokens`; see the module for an example.

    Values are drawn independently, so answers already given tell nothing about those to come.

    Raises:
        ValueError: more pairs than keys, fewer than one pair, or `num_tokens` < 4 · `num_pairs`, which the
            pairs and the questions of an evaluation fill.
    """

    num_tokens: int
    num_pairs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.num_pairs <= self.num_keys:
            raise ValueError(f"num_pairs must be in 1…num_keys = {self.num_keys}, got {self.num_pairs}")
        if self.num_tokens < 4 * self.num_pairs:
            raise ValueError(f"num_tokens must be at least 4 · num_pairs = {4 * self.num_pairs}, got {self.num_tokens}")

    def batch(self, seed: int, step: int, batch_size: int) -> RecallBatch:
        """Training sequences: pairs in random order, again and again, half of the slots noise."""
        generator = _generator(seed, step, batch_size)
        keys, values = self._mapping(generator, batch_size)
        slots = self.num_tokens // 2
        chosen = generator.integers(0, self.num_pairs, (batch_size, slots))
        is_pair = generator.random((batch_size, slots)) >= _NOISE_SHARE
        pairs = np.stack([_take(keys, chosen), _take(values, chosen)], axis=-1)
        tokens = self._noise(generator, (batch_size, self.num_tokens))
        written = tokens[:, : 2 * slots].reshape(batch_size, slots, 2)
        tokens[:, : 2 * slots] = np.where(is_pair[..., None], pairs, written).reshape(batch_size, -1)
        asked = is_pair & _seen_before(chosen, is_pair, self.num_pairs)
        targets = np.full_like(tokens, IGNORED)
        targets[:, 0 : 2 * slots : 2] = np.where(asked, pairs[..., 1], IGNORED)
        return _as_batch(tokens, targets)

    def evaluation_batch(self, seed: int, step: int, batch_size: int) -> RecallBatch:
        """Test sequences: every pair once, then noise, then every key asked once, in another order."""
        generator = _generator(seed, step, batch_size)
        keys, values = self._mapping(generator, batch_size)
        tokens = self._noise(generator, (batch_size, self.num_tokens))
        targets = np.full_like(tokens, IGNORED)
        order = _permutations(generator, batch_size, self.num_pairs)
        shown, asked = 2 * self.num_pairs, self.num_tokens - 2 * self.num_pairs
        tokens[:, 0:shown:2], tokens[:, 1:shown:2] = keys, values
        tokens[:, asked::2], tokens[:, asked + 1 :: 2] = _take(keys, order), _take(values, order)
        targets[:, asked::2] = _take(values, order)
        return _as_batch(tokens, targets)

    def _mapping(self, generator: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        keys = _permutations(generator, batch_size, self.num_keys)[:, : self.num_pairs]
        return keys, self._values(generator, (batch_size, self.num_pairs))


@dataclass(frozen=True, kw_only=True)
class NeedleTask(_Symbols):
    """One pair hidden in noise, and its key asked at the last token, `distance` tokens after it stood first.

    With `distance` 5, in 8 tokens (−100 shown as a dot):

        tokens   n2 n8 k3 v7 n5 n1 n4 k3
        targets   .  .  .  .  .  .  . v7

    Raises:
        ValueError: `distance` is not in 2…`num_tokens` − 1.
    """

    num_tokens: int
    distance: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.distance <= self.num_tokens - 1:
            raise ValueError(f"distance must be in 2…num_tokens - 1 = {self.num_tokens - 1}, got {self.distance}")

    def batch(self, seed: int, step: int, batch_size: int) -> RecallBatch:
        """Sequences with one question each, at the last token."""
        generator = _generator(seed, step, batch_size)
        keys = generator.integers(0, self.num_keys, batch_size)
        values = self._values(generator, (batch_size,))
        tokens = self._noise(generator, (batch_size, self.num_tokens))
        targets = np.full_like(tokens, IGNORED)
        needle = self.num_tokens - 1 - self.distance
        tokens[:, needle], tokens[:, needle + 1], tokens[:, -1] = keys, values, keys
        targets[:, -1] = values
        return _as_batch(tokens, targets)


def recall_curriculum() -> list[tuple[RecallTask, int]]:
    """Tasks that grow, each with its number of training steps.

    Trained on the last alone, a small model stays at chance for long. The steps are for 2 layers of width 64
    with 2 heads, AdamW at 3e-3 and batches of 64.
    """
    sizes = ((32, 4, 500), (64, 8, 200), (128, 12, 100), (256, 16, 60))
    return [(RecallTask(num_tokens=tokens, num_pairs=pairs), steps) for tokens, pairs, steps in sizes]


def _generator(seed: int, step: int, batch_size: int) -> np.random.Generator:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    return step_generator(seed, step)


def _permutations(generator: np.random.Generator, batch_size: int, length: int) -> np.ndarray:
    return generator.permuted(np.tile(np.arange(length), (batch_size, 1)), axis=1)


def _take(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(table, index, axis=1)


def _seen_before(chosen: np.ndarray, is_pair: np.ndarray, num_pairs: int) -> np.ndarray:
    """Whether the pair of each slot already stood in an earlier one."""
    shown = (chosen[..., None] == np.arange(num_pairs)) & is_pair[..., None]
    times = np.cumsum(shown, axis=1) - shown
    return _take(times.reshape(*chosen.shape, num_pairs).swapaxes(1, 2), chosen[:, None]).squeeze(1) > 0


def _as_batch(tokens: np.ndarray, targets: np.ndarray) -> RecallBatch:
    return RecallBatch(torch.from_numpy(tokens), torch.from_numpy(targets))
