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
        ValueError: from :meth:`append`, if no room is left or the tokens' shape, dtype or device is not the cache's;
            it then stays as it was.
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
        self._check(k)
        end = self.length + k.shape[-2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _check(self, k: Float[Tensor, "batch heads new dim"]) -> None:
        batch, heads, room, dim = self.keys.shape
        if (*k.shape[:2], k.shape[-1]) != (batch, heads, dim):
            raise ValueError(
                f"the cache holds batch {batch}, {heads} heads of {dim}; got batch {k.shape[0]}, {k.shape[1]} heads of "
                f"{k.shape[-1]}"
            )
        if k.dtype != self.keys.dtype or k.device != self.keys.device:
            raise ValueError(f"the cache is {self.keys.dtype} on {self.keys.device}; got {k.dtype} on {k.device}")
        if self.length + k.shape[-2] > room:
            raise ValueError(f"the cache has room for {room} tokens; got {k.shape[-2]} more after {self.length}")
