"""Room for so many tokens an expert: what does not fit is dropped, or goes to the next choice that has room."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def capacity_of(tokens: int, top_k: int, num_experts: int, factor: int | float) -> int:
    """Tokens an expert has room for: ⌈factor · tokens · top_k / num_experts⌉.

    Source: Lepikhin et al. 2020 (GShard), arXiv 2006.16668; Fedus et al. 2021 (Switch), arXiv 2101.03961, equation 3.
    """
    return math.ceil(factor * tokens * top_k / num_experts)


def position_in_expert(experts: Int[Tensor, " pairs"], num_experts: int) -> Int[Tensor, " pairs"]:
    """How many pairs before this one went to the same expert."""
    came = F.one_hot(experts, num_experts).cumsum(dim=0)
    return came.gather(1, experts[:, None])[:, 0] - 1


def with_room(experts: Int[Tensor, "tokens top_k"], capacity: int, num_experts: int) -> Bool[Tensor, "tokens top_k"]:
    """Which choices find room, first come first served in the order of the tokens."""
    return (position_in_expert(experts.flatten(), num_experts) < capacity).view_as(experts)


def reroute(
    experts: Int[Tensor, "tokens top_k"], preference: Float[Tensor, "tokens experts"], capacity: int
) -> Int[Tensor, "tokens top_k"]:
    """The choices, where those without room go to the token's next preferred expert that has some; −1 if none has.

    No expert is preferred where ``preference`` is −∞. An earlier token is served before a later one.
    """
    num_experts = preference.shape[1]
    fits = with_room(experts, capacity, num_experts)
    placed = torch.where(fits, experts, -1)
    used = torch.zeros_like(preference, dtype=torch.bool).scatter(1, experts, True)
    room = capacity - torch.bincount(experts[fits], minlength=num_experts)
    order = preference.masked_fill(used, -torch.inf).sort(dim=1, descending=True)
    for rank in range(num_experts - experts.shape[1]):
        token, slot = (placed < 0).nonzero(as_tuple=True)
        if not len(token):
            break
        first = F.pad(token[1:] != token[:-1], (1, 0), value=True)  # one slot of a token asks at a time
        asks = first & (order.values[token, rank] > -torch.inf)
        token, slot = token[asks], slot[asks]
        wish = order.indices[token, rank]
        granted = position_in_expert(wish, num_experts) < room[wish]
        placed[token[granted], slot[granted]] = wish[granted]
        room -= torch.bincount(wish[granted], minlength=num_experts)
    return placed
