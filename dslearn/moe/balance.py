"""Losses that ask a router to use its experts evenly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def switch_loss(scores: Float[Tensor, "tokens experts"], experts: Int[Tensor, "tokens top_k"]) -> Float[Tensor, ""]:
    """N · Σ f_i P_i: f_i the share of choices that fell on expert i, P_i its mean share of the scores. 1 if even.

    Source: Fedus et al. 2021 (Switch Transformer), arXiv 2101.03961, equations 4 to 6.
    """
    num_experts = scores.shape[-1]
    chosen = F.one_hot(experts, num_experts).sum(dim=-2).to(scores.dtype) / experts.shape[-1]
    shares = scores / scores.sum(dim=-1, keepdim=True)
    return num_experts * (chosen.mean(dim=0) * shares.mean(dim=0)).sum()


def sequence_loss(
    scores: Float[Tensor, "batch tokens experts"], experts: Int[Tensor, "batch tokens top_k"]
) -> Float[Tensor, ""]:
    """The Switch loss of each sequence by itself, averaged: no sequence may lean on a few experts.

    Source: DeepSeek-V3 (arXiv 2412.19437), equations 17 to 20, without its factor α.
    """
    return torch.stack([switch_loss(*pair) for pair in zip(scores, experts, strict=True)]).mean()
