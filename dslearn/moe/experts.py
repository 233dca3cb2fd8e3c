"""The experts themselves: feed-forward layers of one shape, each for the tokens that came to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class Experts(nn.Module):
    """W_down (SiLU(W_gate x) ⊙ W_up x), with matrices of its own for every expert.

    Args:
        num_experts: how many.
        dim: features a token.
        hidden_dim: features inside an expert.
    """

    def __init__(self, num_experts: int, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(num_experts, 2 * hidden_dim, dim))
        self.down = nn.Parameter(torch.empty(num_experts, dim, hidden_dim))
        for weight in (self.gate_up, self.down):
            bound = weight.shape[-1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)

    def forward(
        self,
        x: Float[Tensor, "tokens dim"],
        token: Int[Tensor, " pairs"],
        expert: Int[Tensor, " pairs"],
        weight: Tensor,
    ) -> Float[Tensor, "tokens dim"]:
        """Σ weight · expert(x) over each token's pairs; a token without any gets zeros."""
        by_expert = expert.sort(stable=True).indices
        token, weight = token[by_expert], weight[by_expert].to(x.dtype)
        counts = torch.bincount(expert, minlength=len(self.down))
        out = self._run(x.index_select(0, token), counts) * weight[:, None]
        return torch.zeros_like(x).index_add(0, token, out)

    def _run(self, x: Float[Tensor, "pairs dim"], counts: Int[Tensor, " experts"]) -> Float[Tensor, "pairs dim"]:
        """Each expert on its rows, which stand together in the order of the experts."""
        parts = x.split(counts.tolist())
        return torch.cat([_swiglu(part, *mine) for part, *mine in zip(parts, self.gate_up, self.down, strict=True)])

    def extra_repr(self) -> str:
        num_experts, dim, hidden_dim = self.down.shape
        return f"num_experts={num_experts}, dim={dim}, hidden_dim={hidden_dim}"


def _swiglu(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, down)
