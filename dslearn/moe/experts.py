"""The experts themselves: feed-forward layers of one shape, each for the tokens that came to it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dslearn.moe.kernel import mix_experts


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
        """Σ weight · expert(x) over each token's pairs, which stand in its order; a token without any gets zeros.

        Raises:
            ValueError: ``token`` is not in ascending order.
        """
        return mix_experts(x, self.gate_up, self.down, token, expert, weight)

    def extra_repr(self) -> str:
        num_experts, dim, hidden_dim = self.down.shape
        return f"num_experts={num_experts}, dim={dim}, hidden_dim={hidden_dim}"
