"""Dense attention: every query reads every key before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def dense_attention(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys value_dim"],
    causal: bool = True,
) -> Float[Tensor, "batch heads queries value_dim"]:
    """softmax(q kᵀ / √dim) v.

    With fewer queries than keys the queries are the *last* tokens, as in decoding against a cache.

    Raises:
        ValueError: if the tensors are empty, or there are more queries than keys and ``causal`` is set.

    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1; computed by PyTorch's fused kernel.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    if queries == 0 or keys == 0:
        raise ValueError(f"attention needs at least one query and one key; got {queries} queries and {keys} keys")
    if causal and queries > keys:
        raise ValueError(f"causal attention needs at least as many keys as queries; got {queries} queries, {keys} keys")
    if not causal or queries == 1:
        return F.scaled_dot_product_attention(q, k, v)
    if queries == keys:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    visible = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(diagonal=keys - queries)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
