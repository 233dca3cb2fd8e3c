"""Rotary position embedding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotate(
    x: Float[Tensor, "batch heads tokens dim"], *, start: int = 0, base: float = 10_000.0
) -> Float[Tensor, "batch heads tokens dim"]:
    """Turn each pair of features by an angle that grows with the token's position.

    Feature ``i`` and feature ``i + dim/2`` form a pair, turned by ``position * base**(-2i/dim)`` radians, so that the
    product of a rotated query with a rotated key depends on their distance alone.

    Args:
        x: queries or keys; ``dim`` is even.
        start: position of the first token, for decoding against a cache.
        base: the slowest pair turns once in about ``2 * pi * base`` tokens.

    Raises:
        ValueError: if ``dim`` is odd.

    Source: Su et al. 2021, arXiv 2104.09864, equation 34, with the pairs laid out as halves.
    """
    tokens, dim = x.shape[-2:]
    if dim % 2:
        raise ValueError(f"rotary embedding turns pairs of features, so dim must be even; got dim={dim}")
    frequency = base ** -(torch.arange(0, dim, 2, device=x.device, dtype=torch.float32) / dim)
    position = torch.arange(start, start + tokens, device=x.device, dtype=torch.float32)
    angle = position[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
