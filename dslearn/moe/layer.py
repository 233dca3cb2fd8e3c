"""A feed-forward layer of many experts, of which each token uses a few."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dslearn.moe.balance import sequence_loss, switch_loss
from dslearn.moe.capacity import capacity_of, reroute, with_room
from dslearn.moe.experts import Experts
from dslearn.moe.load import LoadReport, load_report
from dslearn.moe.router import Router, Routing, Score, weigh, within_groups

Balance = Literal["bias", "aux", "sequence", "none"]
Overflow = Literal["drop", "reroute"]
WhoChooses = Literal["token", "expert"]


class MoE(nn.Module):
    """Mixture of experts: out = Σ w_i · expert_i(x) over the ``top_k`` experts of each token, plus the shared ones.

    No token is dropped unless there is a ``capacity_factor``. After a forward pass ``routing`` holds who went where,
    and, in training mode with ``balance`` "aux" or "sequence", ``balance_loss`` what is to be added to one's own loss.
    With ``balance="bias"`` call :meth:`update_bias` after each optimiser step.

    Args:
        dim: features a token.
        hidden_dim: features inside one expert.
        num_experts: routed experts.
        top_k: of them, how many a token uses.
        num_shared: experts that every token uses besides.
        score: "sigmoid" or "softmax".
        balance: "bias" (without a loss), "aux" (Switch), "sequence" (Switch by sequence) or "none".
        capacity_factor: room of an expert, in even shares; None for as much as it takes.
        overflow: what becomes of a choice without room: "drop", or "reroute" to the next choice that has some.
        num_groups, top_groups: experts stand in groups and a token's come from the best groups alone; None for none.
        renormalize: a token's weights sum to one.
        routed_scale: what its weights are multiplied with.
        routing: "token": tokens choose experts. "expert": each expert takes the tokens it prefers, as many as another;
            an even load, but a token's experts then depend on later tokens: not for a causal model.

    Raises:
        ValueError: a number does not fit, or a name is unknown.

    Source: DeepSeekMoE, arXiv 2401.06066; DeepSeek-V3, arXiv 2412.19437, section 2.1.2; expert choice: Zhou et al.
    2022, arXiv 2202.09368.
    """

    routing: Routing | None = None
    balance_loss: Tensor | None = None

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        num_experts: int,
        top_k: int,
        *,
        num_shared: int = 0,
        score: Score = "sigmoid",
        balance: Balance = "bias",
        capacity_factor: int | float | None = None,
        overflow: Overflow = "drop",
        num_groups: int | None = None,
        top_groups: int | None = None,
        renormalize: bool = True,
        routed_scale: int | float = 1.0,
        routing: WhoChooses = "token",
    ) -> None:
        super().__init__()
        _check_sizes(dim, hidden_dim, num_experts, top_k, num_shared)
        _check_groups(num_experts, top_k, num_groups, top_groups)
        _check_names(balance=balance, overflow=overflow, routing=routing)
        if capacity_factor is not None and not capacity_factor > 0:
            raise ValueError(f"capacity_factor must be above 0, or None for no limit; got {capacity_factor}")
        self.dim, self.num_experts, self.top_k = dim, num_experts, top_k
        self.balance, self.capacity_factor, self.overflow, self.who = balance, capacity_factor, overflow, routing
        self.num_groups, self.top_groups = num_groups, top_groups
        self.renormalize, self.routed_scale = renormalize, routed_scale
        self.router = Router(dim, num_experts, score=score)
        self.experts = Experts(num_experts, dim, hidden_dim)
        self.shared = Experts(1, dim, num_shared * hidden_dim) if num_shared else None

    def forward(self, x: Float[Tensor, "*batch tokens dim"]) -> Float[Tensor, "*batch tokens dim"]:
        """The mixture for every token.

        Raises:
            ValueError: there is no token, or a score is NaN.
        """
        routing, tokens = self.route(x), x.reshape(-1, self.dim)
        out = self.experts(tokens, routing.token, routing.expert, routing.weight)
        return self.with_shared(tokens, out).view_as(x)

    def route(self, x: Float[Tensor, "*batch tokens dim"]) -> Routing:
        """Which token goes to which expert, with which weight; it is kept, without its graph, as ``routing``.

        Raises:
            ValueError: there is no token, or a score is NaN.
        """
        if not x.numel():
            raise ValueError(f"a mixture needs at least one token; got the shape {tuple(x.shape)}")
        scores = self.router(x.reshape(-1, self.dim))
        routing = self._experts_choose(scores) if self.who == "expert" else self._tokens_choose(scores, x.shape[:-1])
        self.routing = routing.detached()
        return routing

    def with_shared(
        self, x: Float[Tensor, "tokens dim"], out: Float[Tensor, "tokens dim"]
    ) -> Float[Tensor, "tokens dim"]:
        """``out`` and, added to it, what the shared experts make of every token."""
        if self.shared is None:
            return out
        everybody = torch.arange(len(x), device=x.device)
        return out + self.shared(x, everybody, torch.zeros_like(everybody), x.new_ones(len(x)))

    def report(self) -> LoadReport:
        """How even the loads of the last forward pass were.

        Raises:
            RuntimeError: there was none.
        """
        return load_report(self._last().counts, dropped=self._last().dropped)

    @torch.no_grad()
    def update_bias(
        self,
        rate: int | float = 1e-3,
        *,
        wanted: Int[Tensor, " experts"] | Float[Tensor, " experts"] | None = None,
    ) -> None:
        """Raise the bias of experts that got fewer choices than the mean, lower the others'; after an optimiser's step.

        b_i ← b_i + rate · sign(mean load − load_i)

        Args:
            rate: how far.
            wanted: how many choices fell on each expert; None for those of the last forward pass.

        Raises:
            RuntimeError: nothing was routed yet.
            ValueError: the layer is not balanced by its bias.

        Source: Wang et al. 2024, arXiv 2408.15664, algorithm 1.
        """
        if self.balance != "bias":
            raise ValueError(f"only a layer with balance='bias' has a bias to update; this one has {self.balance!r}")
        if wanted is None:
            wanted = self._last().wanted
        load = wanted.to(self.router.bias)
        self.router.bias += rate * torch.sign(load.mean() - load)

    def _last(self) -> Routing:
        if self.routing is None:
            raise RuntimeError("nothing was routed yet: run the layer first")
        return self.routing

    def __getstate__(self) -> dict[str, Any]:
        """All but the last loss: it holds a graph, which cannot be copied, and belongs to one forward pass."""
        return {name: value for name, value in self.__dict__.items() if name != "balance_loss"}

    def extra_repr(self) -> str:
        return f"dim={self.dim}, top_k={self.top_k}, balance={self.balance!r}, capacity_factor={self.capacity_factor}"

    def _tokens_choose(self, scores: Float[Tensor, "tokens experts"], shape: torch.Size) -> Routing:
        preference = scores.detach() + self.router.bias
        if self.num_groups is not None and self.top_groups is not None:
            preference = within_groups(preference, self.top_k, self.num_groups, self.top_groups)
        wanted = preference.topk(self.top_k, dim=-1).indices
        self.balance_loss = self._balance_loss(scores, wanted, shape)
        chosen = self._with_capacity(wanted, preference)
        weight = weigh(scores, torch.where(chosen < 0, wanted, chosen), renormalize=self.renormalize).flatten()
        token, expert = torch.arange(len(wanted), device=scores.device).repeat_interleave(self.top_k), chosen.flatten()
        if self.capacity_factor is not None:
            found = expert >= 0
            token, expert, weight = token[found], expert[found], weight[found]
        return Routing(
            token=token,
            expert=expert,
            weight=weight if self.routed_scale == 1 else self.routed_scale * weight,
            scores=scores,
            wanted=torch.bincount(wanted.flatten(), minlength=self.num_experts),
            dropped=wanted.numel() - len(expert),
        )

    def _with_capacity(self, wanted: Int[Tensor, "tokens top_k"], preference: Tensor) -> Int[Tensor, "tokens top_k"]:
        if self.capacity_factor is None:
            return wanted
        capacity = capacity_of(len(wanted), self.top_k, self.num_experts, self.capacity_factor)
        if self.overflow == "reroute":
            return reroute(wanted, preference, capacity)
        return wanted.where(with_room(wanted, capacity, self.num_experts), -1)

    def _experts_choose(self, scores: Float[Tensor, "tokens experts"]) -> Routing:
        capacity = capacity_of(len(scores), self.top_k, self.num_experts, self.capacity_factor or 1.0)
        best = scores.topk(min(capacity, len(scores)), dim=0)
        token, order = best.indices.flatten().sort(stable=True)
        expert, weight = order % self.num_experts, best.values.flatten()[order]
        return Routing(token, expert, self.routed_scale * weight, scores, torch.bincount(expert), 0)

    def _balance_loss(self, scores: Tensor, wanted: Tensor, shape: torch.Size) -> Tensor | None:
        if not self.training or self.balance not in ("aux", "sequence"):
            return None
        if self.balance == "aux":
            return switch_loss(scores, wanted)
        tokens = shape[-1]
        return sequence_loss(scores.unflatten(0, (-1, tokens)), wanted.unflatten(0, (-1, tokens)))


def _check_sizes(dim: int, hidden_dim: int, num_experts: int, top_k: int, num_shared: int) -> None:
    if min(dim, hidden_dim, num_experts) < 1 or num_shared < 0:
        raise ValueError(
            "dim, hidden_dim and num_experts must be at least 1 and num_shared at least 0; "
            f"got {dim}, {hidden_dim}, {num_experts} and {num_shared}"
        )
    if not 1 <= top_k <= num_experts:
        raise ValueError(f"top_k must be from 1 to num_experts={num_experts}; got {top_k}")


def _check_groups(num_experts: int, top_k: int, num_groups: int | None, top_groups: int | None) -> None:
    if (num_groups is None) != (top_groups is None):
        raise ValueError("num_groups and top_groups belong together: give both or neither")
    if num_groups is None or top_groups is None:
        return
    if num_groups < 1 or num_experts % num_groups:
        raise ValueError(f"num_groups must divide num_experts={num_experts}; got {num_groups}")
    if not 1 <= top_groups <= num_groups or top_groups * (num_experts // num_groups) < top_k:
        raise ValueError(
            f"top_groups must be from 1 to num_groups={num_groups} and hold top_k={top_k} experts; got {top_groups}"
        )


def _check_names(balance: str, overflow: str, routing: str) -> None:
    for name, given, allowed in (
        ("balance", balance, get_args(Balance)),
        ("overflow", overflow, get_args(Overflow)),
        ("routing", routing, get_args(WhoChooses)),
    ):
        if given not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {given!r}")
