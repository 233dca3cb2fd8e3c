"""Keys and values of the tokens already read."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from dslearn.attention.tree import BlockTree


class AttentionCache:
    """One layer's keys and values, with room for ``max_tokens``, and the block tree of a sparse layer's index keys.

    Args:
        shape: (batch, heads, dim).
        max_tokens: room.
        tree: the layer's empty tree, for sparse layers.

    Raises:
        ValueError: if there is no room left.
    """

    def __init__(
        self, shape: tuple[int, int, int], max_tokens: int, *, tree: BlockTree | None = None, dtype=None, device=None
    ) -> None:
        batch, heads, dim = shape
        self.keys = torch.empty(batch, heads, max_tokens, dim, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)
        self.tree = tree
        self.length = 0

    def append(
        self, k: Float[Tensor, "batch heads new dim"], v: Float[Tensor, "batch heads new dim"]
    ) -> tuple[Float[Tensor, "batch heads tokens dim"], Float[Tensor, "batch heads tokens dim"]]:
        """Store the next tokens and give all of them back."""
        end = self.length + k.shape[-2]
        if end > self.keys.shape[-2]:
            raise ValueError(
                f"the cache has room for {self.keys.shape[-2]} tokens; got {k.shape[-2]} more after {self.length}"
            )
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]
