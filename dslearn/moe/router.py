"""Who goes where: a score for every token and expert, and the choice by it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Score = Literal["sigmoid", "softmax"]


@dataclass(frozen=True)
class Routing:
    """Which pairs of token and expert were formed.

    Attributes:
        token, expert: the two of each pair, in the order of the tokens.
        weight: what the expert's output counts in the token's sum.
        scores: of every token for every expert, before any choice.
        wanted: how many pairs the tokens asked of each expert.
        dropped: pairs that were asked for and found no room.
    """

    token: Int[Tensor, " pairs"]
    expert: Int[Tensor, " pairs"]
    weight: Float[Tensor, " pairs"]
    scores: Float[Tensor, "tokens experts"]
    wanted: Int[Tensor, " experts"]
    dropped: int

    @property
    def counts(self) -> Int[Tensor, " experts"]:
        """Pairs of each expert."""
        return torch.bincount(self.expert, minlength=self.scores.shape[1])

    def detached(self) -> Routing:
        """The same without a graph, to be kept."""
        return replace(self, weight=self.weight.detach(), scores=self.scores.detach())


class Router(nn.Module):
    """Scores every expert for every token, s = sigmoid(x·e) or softmax(x·e), in single precision.

    ``bias`` is added for the choice alone and never counts in a weight: raising it for an idle expert brings it tokens
    without a gradient. It starts at zero and is changed by :meth:`dslearn.moe.MoE.update_bias` only.

    Args:
        dim: features a token.
        num_experts: experts to choose among.
        score: "sigmoid" judges each expert by itself, "softmax" against the others.

    Source: DeepSeek-V3 (arXiv 2412.19437), equations 13 to 16; softmax: Shazeer et al. 2017, arXiv 1701.06538.
    """

    bias: Tensor

    def __init__(self, dim: int, num_experts: int, *, score: Score = "sigmoid") -> None:
        super().__init__()
        if score not in ("sigmoid", "softmax"):
            raise ValueError(f"score must be 'sigmoid' or 'softmax'; got {score!r}")
        self.score = score
        self.weight = nn.Parameter(torch.empty(num_experts, dim))
        nn.init.normal_(self.weight, std=dim**-0.5)
        self.register_buffer("bias", torch.zeros(num_experts))

    def forward(self, x: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens experts"]:
        """The scores.

        Raises:
            ValueError: one is NaN.
        """
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x.float(), self.weight.float())
            scores = logits.sigmoid() if self.score == "sigmoid" else logits.softmax(dim=-1)
        if bool(scores.detach().sum().isnan()):
            raise ValueError("a router's score is NaN: the tokens or its weights hold NaN or infinite values")
        return scores

    def extra_repr(self) -> str:
        return f"num_experts={len(self.weight)}, score={self.score!r}"


def within_groups(
    preference: Float[Tensor, "tokens experts"], top_k: int, num_groups: int, top_groups: int
) -> Float[Tensor, "tokens experts"]:
    """The preference with −∞ for experts outside each token's ``top_groups`` best groups.

    A group stands for a computer: a token is sent to at most ``top_groups`` of them. It is judged by the sum of its
    ``top_k / top_groups`` best experts.

    Source: node-limited routing, DeepSeek-V3 (arXiv 2412.19437), section 2.1.2.
    """
    by_group = preference.unflatten(-1, (num_groups, -1))
    judged = by_group.topk(min(-(-top_k // top_groups), by_group.shape[-1]), dim=-1).values.sum(dim=-1)
    best = judged.topk(top_groups, dim=-1).indices
    outside = torch.ones_like(judged, dtype=torch.bool).scatter(-1, best, False)
    return by_group.masked_fill(outside[..., None], -torch.inf).flatten(-2)


def weigh(
    scores: Float[Tensor, "tokens experts"], experts: Int[Tensor, "tokens top_k"], *, renormalize: bool
) -> Float[Tensor, "tokens top_k"]:
    """The chosen experts' scores, divided by their sum if ``renormalize``."""
    weights = scores.gather(-1, experts)
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-20) if renormalize else weights
