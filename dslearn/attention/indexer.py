"""DeepSeek's published way to choose: every token before the query gets a score from a few small heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from dslearn.attention.rotary import rotate


class TokenIndexer(nn.Module):
    """DeepSeek Sparse Attention's "lightning indexer": I[t, s] = Σ_j w[t, j] · ReLU(q[t, j]·k[s]).

    Each query keeps the ``top_k`` tokens of highest score. The keys are shared by all heads, so a score is cheap, but
    there is one for every pair of tokens: O(n²) with a small constant, where a tree over blocks needs O(n log n).

    Args:
        dim: features of the layer's input.
        query_dim: features the queries are made from (in DeepSeek's models the compressed query).
        num_heads: index heads.
        head_dim: features a head, the first ``rope_dim`` of which carry positions.
        top_k: tokens a query keeps.
        rope_base: base of the rotary embedding.

    Raises:
        ValueError: if ``rope_dim`` exceeds ``head_dim`` or ``top_k`` is below 1.

    Source: DeepSeek-V3.2-Exp (2025), equation 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        query_dim: int,
        num_heads: int,
        head_dim: int,
        rope_dim: int,
        top_k: int,
        rope_base: float = 10_000.0,
    ) -> None:
        super().__init__()
        if not 0 <= rope_dim <= head_dim or top_k < 1:
            raise ValueError(
                f"rope_dim must be within head_dim={head_dim} and top_k at least 1; got {rope_dim} and {top_k}"
            )
        self.num_heads, self.head_dim, self.rope_dim = num_heads, head_dim, rope_dim
        self.top_k, self.rope_base = top_k, rope_base
        self.query = nn.Linear(query_dim, num_heads * head_dim, bias=False)
        self.key = nn.Linear(dim, head_dim, bias=False)
        self.key_norm = nn.LayerNorm(head_dim, eps=1e-6)
        self.head_weight = nn.Linear(dim, num_heads, bias=False)

    def scores(
        self, x: Float[Tensor, "batch tokens dim"], compressed: Float[Tensor, "batch tokens query_dim"]
    ) -> Float[Tensor, "batch tokens tokens"]:
        """I[t, s] for s ≤ t, −∞ for later s."""
        q = self._rotate(rearrange(self.query(compressed), "b n (j d) -> b j n d", j=self.num_heads))
        k = self._rotate(self.key_norm(self.key(x))[:, None])[:, 0]
        w = self.head_weight(x) * self.num_heads**-0.5
        match = F.relu(einsum(q, k, "b j t d, b s d -> b j t s") * self.head_dim**-0.5)
        scores = einsum(w, match, "b t j, b j t s -> b t s")
        later = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
        return scores.masked_fill(later, -torch.inf)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], compressed: Float[Tensor, "batch tokens query_dim"]
    ) -> Int[Tensor, "batch tokens top_k"]:
        """The tokens each query keeps, best first; −1 where there are fewer."""
        best = self.scores(x, compressed).topk(min(self.top_k, x.shape[1]))
        chosen = best.indices.masked_fill(best.values == -torch.inf, -1)
        return F.pad(chosen, (0, self.top_k - chosen.shape[-1]), value=-1)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, head_dim={self.head_dim}, rope_dim={self.rope_dim}, top_k={self.top_k}"

    def _rotate(self, x: Float[Tensor, "batch heads tokens head_dim"]) -> Float[Tensor, "batch heads tokens head_dim"]:
        turned = rotate(x[..., : self.rope_dim], base=self.rope_base)
        return torch.cat([turned, x[..., self.rope_dim :]], dim=-1)
