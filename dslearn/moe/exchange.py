"""Experts on several processes: tokens travel to where their experts are, and the results travel back."""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dslearn.moe.experts import Experts
from dslearn.moe.layer import MoE
from dslearn.moe.router import Routing


class ExpertParallel(nn.Module):
    """A :class:`MoE` whose routed experts are shared out over the processes of a group, so many in a row to each.

    Every process brings its own tokens. A copy of a token travels with a row of weights, one for each expert of its
    destination; what comes back is their weighted sum. With ``deduplicate`` a token goes once to each process that has
    an expert for it, without it once for each expert.

    After a forward pass ``sent_bytes`` says what this process sent to others, there and back.

    Args:
        layer: the whole mixture, the same on every process; its routed experts are copied in part.
        deduplicate: one copy a process rather than one an expert.
        group: the processes; all of them unless told.

    Raises:
        ValueError: the processes do not divide the experts.
    """

    sent_bytes: int = 0

    def __init__(self, layer: MoE, *, deduplicate: bool = True, group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        self.group, self.deduplicate = group, deduplicate
        self.processes, rank = dist.get_world_size(group), dist.get_rank(group)
        if layer.num_experts % self.processes:
            raise ValueError(f"{self.processes} processes must divide the {layer.num_experts} experts")
        self.layer = layer
        self.share = layer.num_experts // self.processes
        self.mine = _part(layer.experts, slice(rank * self.share, (rank + 1) * self.share))

    def forward(self, x: Float[Tensor, "*batch tokens dim"]) -> Float[Tensor, "*batch tokens dim"]:
        """What the whole mixture would give for this process's tokens."""
        routing, tokens = self.layer.route(x), x.reshape(-1, self.layer.dim)
        token, process, weights = copies(routing, self.processes, deduplicate=self.deduplicate)
        sent = torch.bincount(process, minlength=self.processes)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self.group)
        there = (sent.tolist(), received.tolist())
        self.sent_bytes = 0
        arrived = self._exchange(tokens[token], *there)
        row, expert = (arrived_weights := self._exchange(weights, *there)).nonzero(as_tuple=True)
        out = self.mine(arrived, row, expert, arrived_weights[row, expert])
        back = self._exchange(out, *reversed(there))
        return self.layer.with_shared(tokens, torch.zeros_like(tokens).index_add(0, token, back)).view_as(x)

    def _exchange(self, x: Float[Tensor, "copies width"], sent: list[int], received: list[int]) -> Tensor:
        others = sum(sent) - sent[dist.get_rank(self.group)]
        self.sent_bytes += others * x.shape[1] * x.element_size()
        return _AllToAll.apply(x, sent, received, self.group)


def copies(
    routing: Routing, processes: int, *, deduplicate: bool
) -> tuple[Int[Tensor, " copies"], Int[Tensor, " copies"], Float[Tensor, "copies share"]]:
    """The copies to be sent, by destination: their tokens, their processes, and a weight for each expert there."""
    num_experts = routing.scores.shape[1]
    share = num_experts // processes
    process = routing.expert // share
    number = torch.arange(len(process), device=process.device)
    key = process * len(routing.scores) + routing.token if deduplicate else process * len(process) + number
    key, copy = key.unique(return_inverse=True)  # in order: first by process
    weights = routing.weight.new_zeros(len(key), share)
    weights = weights.index_put((copy, routing.expert % share), routing.weight, accumulate=True)
    token = torch.empty_like(key).scatter_(0, copy, routing.token)
    return token, torch.empty_like(key).scatter_(0, copy, process), weights


def copies_sent(routing: Routing, processes: int, *, own: int, deduplicate: bool) -> int:
    """How many copies leave process ``own``, by counting: pairs, or pairs of token and process, of the others."""
    process = routing.expert // (routing.scores.shape[1] // processes)
    away = process != own
    pairs = torch.stack([routing.token[away], process[away]])
    return pairs.unique(dim=1).shape[1] if deduplicate else pairs.shape[1]


def _part(experts: Experts, rows: slice) -> Experts:
    num_experts, dim, hidden_dim = experts.down[rows].shape
    part = Experts(num_experts, dim, hidden_dim).to(experts.down)
    part.load_state_dict({name: weight[rows] for name, weight in experts.state_dict().items()})
    return part


class _AllToAll(torch.autograd.Function):
    """Rows to their processes; their gradients travel back the same way."""

    @staticmethod
    def forward(ctx, x, sent: list[int], received: list[int], group):
        ctx.sent, ctx.received, ctx.group = sent, received, group
        out = x.new_empty(sum(received), x.shape[1])
        dist.all_to_all_single(out, x.contiguous(), received, sent, group=group)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        return _AllToAll.apply(grads[0], ctx.received, ctx.sent, ctx.group), None, None, None
