"""The time of one attention layer against the length of the text, dense and sparse in turns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from dslearn.demos.attention.pair import Pair

LENGTHS = (512, 1024, 2048, 4096, 8192, 16_384)
REPEATS = 3


@torch.inference_mode()
def time_lengths(
    pair: Pair, lengths: Sequence[int], *, repeats: int = REPEATS, seed: int = 0
) -> Iterator[tuple[int, dict[str, list[float]]]]:
    """For each length, the milliseconds of the first attention layer of both views, its choice included.

    The input is noise: what is timed does not depend on what the text says. Each view runs once before, unmeasured.
    """
    layers = {name: view.attention_layers[0] for name, view in pair.views.items()}
    generator = torch.Generator().manual_seed(seed)
    for length in lengths:
        x = torch.randn(1, length, pair.dense.config.dim, generator=generator).to(pair.dense.device)
        for layer in layers.values():
            layer(x)
        ms: dict[str, list[float]] = {name: [] for name in layers}
        for _ in range(repeats):
            for name, layer in layers.items():
                ms[name].append(_milliseconds(layer, x))
        yield length, ms


def _milliseconds(layer: nn.Module, x: Tensor) -> float:
    _wait()
    started = time.perf_counter()
    layer(x)
    _wait()
    return 1e3 * (time.perf_counter() - started)


def _wait() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
