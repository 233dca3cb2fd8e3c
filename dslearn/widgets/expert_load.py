"""How busy each expert is, from step to step: ``ExpertLoadExplorer``."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import traitlets
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.moe import Overflow, load_report, reroute, switch_loss, with_room
from dslearn.moe.capacity import capacity_of
from dslearn.plots import DescribedFigure, expert_loads
from dslearn.widgets.base import Explorer, source

SimulatedBalance = Literal["none", "bias", "aux"]
TOKENS = 256  # of a simulated batch, as in route.js
RATES = {"bias": 0.01, "aux": 4.0}


class ExpertLoadExplorer(Explorer):
    """Loads of the experts as bars, and how even they were from step to step.

    Without data the loads are simulated in the page, by the rules of `dslearn.moe`: 256 tokens a step get scores by
    chance and a liking for some experts, choose, find room or not, and a bias or the Switch loss balances them. With
    :meth:`show` it draws what a training run reports, while it trains.

    Args:
        experts: how many, 2 to 64.
        top_k: experts a token.
        skew: how much the router likes its favourites; 0 for not at all.
        balance: "none", "bias" or "aux", the Switch loss.
        capacity: room of an expert in even shares; 0 for no limit.
        overflow: what becomes of a choice without room: "drop" or "reroute".
        step: how many steps have been made, from 1.
        layer: which layer of a training run is on show, from 0.

    Raises:
        ValueError: a setting does not fit; the message says what was given and what is allowed.
    """

    _esm = source("base.js", "route.js", "expert_load.js")
    _css = source("base.css", "expert_load.css")

    experts = traitlets.Int(16).tag(sync=True)
    top_k = traitlets.Int(2).tag(sync=True)
    skew = traitlets.Float(2.0).tag(sync=True)
    balance = traitlets.Enum(get_args(SimulatedBalance), "none").tag(sync=True)
    capacity = traitlets.Float(0.0).tag(sync=True)
    overflow = traitlets.Enum(get_args(Overflow), "drop").tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    real = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, **settings: Any) -> None:
        known = ("experts", "top_k", "skew", "balance", "capacity", "overflow", "step", "layer")
        if unknown := sorted(set(settings) - set(known)):
            raise ValueError(f"unknown setting {', '.join(unknown)}; there are {', '.join(known)}")
        _check({"experts": 16, "top_k": 2, "skew": 2.0, "balance": "none", "capacity": 0.0, **settings})
        super().__init__(**settings)

    def show(
        self,
        counts: Tensor,
        *,
        step: int | None = None,
        dropped: int | Tensor = 0,
        wanted: Tensor | None = None,
    ) -> None:
        """Draw the loads of one more step of a real run; to be called by a training loop or a callback.

        Args:
            counts: tokens of each expert, (experts,) or (layers, experts).
            step: its number; the next one unless told.
            dropped: choices without room, for all layers or one for each.
            wanted: choices that fell on each expert, where some were dropped; ``counts`` unless told.

        Raises:
            ValueError: the counts have another shape than before, or are not finite, negative, or all zero.
        """
        rows = _as_rows("counts", counts)
        asked = rows if wanted is None else _as_rows("wanted", wanted)
        before = self.real[-1] if self.real else None
        if asked.shape != rows.shape or (before and torch.Size(_shape(before["counts"])) != rows.shape):
            known = _shape(before["counts"]) if before else tuple(rows.shape)
            raise ValueError(f"counts and wanted must keep one shape, {tuple(known)}; got {tuple(rows.shape)}")
        lost = torch.as_tensor(dropped).expand(len(rows)).tolist()
        entry = {"counts": rows.tolist(), "wanted": asked.tolist(), "dropped": lost}
        number = step if step is not None else before["step"] + 1 if before else 1
        follows = self.step >= len(self.real)  # whoever looks at an earlier step is left there
        self.real = [*self.real, {"step": number, **entry}]
        if follows:
            self.step = len(self.real)

    def loads(self) -> tuple[Int[Tensor, " experts"] | Float[Tensor, " experts"], int]:
        """(tokens of each expert, choices dropped) at the step on show; simulated ones by the library."""
        if self.real:
            entry = self.real[min(self.step, len(self.real)) - 1]
            layer = min(self.layer, len(entry["counts"]) - 1)
            return torch.tensor(entry["counts"][layer]), int(entry["dropped"][layer])
        bias, offset = torch.zeros(2, self.experts, dtype=torch.float64)
        counts, dropped = torch.zeros(self.experts, dtype=torch.long), 0
        for number in range(self.step):
            scores = torch.sigmoid(simulated_logits(self.experts, self.skew, number) + offset)
            chosen = (scores + bias).topk(self.top_k, dim=-1).indices
            counts, dropped = self._served(chosen, scores + bias)
            bias, offset = self._learned(scores, chosen, bias, offset)
        return counts, dropped

    def figure(self) -> DescribedFigure:
        """The loads on show as a picture, the busiest first."""
        counts, dropped = self.loads()
        told = load_report(counts, dropped=dropped)
        name = f"step {self.real[min(self.step, len(self.real)) - 1]['step'] if self.real else self.step}"
        limited = None if self.real or not self.capacity else self.capacity * (1 - told.drop_rate) ** -1
        title = f"Use {told.utilisation:.0%}, dropped {told.drop_rate:.0%}"
        return expert_loads({name: counts}, capacity=limited, title=title)

    def _served(self, chosen: Tensor, preference: Tensor) -> tuple[Tensor, int]:
        if not self.capacity:
            return torch.bincount(chosen.flatten(), minlength=self.experts), 0
        capacity = capacity_of(TOKENS, self.top_k, self.experts, self.capacity)
        if self.overflow == "reroute":
            placed = reroute(chosen, preference, capacity)
        else:
            placed = chosen.where(with_room(chosen, capacity, self.experts), -1)
        kept = placed[placed >= 0]
        return torch.bincount(kept, minlength=self.experts), int((placed < 0).sum())

    def _learned(self, scores: Tensor, chosen: Tensor, bias: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        if self.balance == "bias":
            load = torch.bincount(chosen.flatten(), minlength=self.experts).double()
            return bias + RATES["bias"] * torch.sign(load.mean() - load), offset
        if self.balance == "aux":
            logits = scores.logit().requires_grad_()
            switch_loss(logits.sigmoid(), chosen).backward()
            assert logits.grad is not None
            return bias, offset - RATES["aux"] * logits.grad.sum(dim=0)
        return bias, offset

    @traitlets.validate("experts", "top_k", "skew", "capacity", "step", "layer")
    def _valid(self, proposal: Any) -> Any:
        names = ("experts", "top_k", "skew", "balance", "capacity", "step", "layer")
        now = {name: getattr(self, name) for name in names}
        now |= {proposal["trait"].name: proposal["value"]}
        try:
            _check({**now, "top_k": min(now["top_k"], now["experts"])} if proposal["trait"].name == "experts" else now)
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error
        return proposal["value"]


def simulated_logits(experts: int, skew: int | float, step: int) -> Float[Tensor, "tokens experts"]:
    """The logits of a simulated batch, as route.js draws them: four uniform numbers each, by mulberry32."""
    count = 4 * TOKENS * experts
    a = (step + 0x6D2B79F5 * torch.arange(1, count + 1)) & 0xFFFFFFFF
    t = _times(a ^ (a >> 15), a | 1)
    t = ((t + _times(t ^ (t >> 7), t | 61)) & 0xFFFFFFFF) ^ t
    uniform = (t ^ (t >> 14)).double() / 2**32
    noise = (uniform.view(TOKENS, experts, 4).sum(dim=-1) - 2) * 3**0.5
    return noise + skew * (0.5 - torch.arange(experts, dtype=torch.float64) / (experts - 1))


def _times(a: Tensor, b: Tensor) -> Tensor:
    """The low 32 bits of the product of two 32-bit numbers."""
    return (a * (b & 0xFFFF) + (((a * (b >> 16)) & 0xFFFF) << 16)) & 0xFFFFFFFF


def _check(now: dict[str, Any]) -> None:
    for name, low, high in (("experts", 2, 64), ("top_k", 1, now["experts"]), ("step", 1, 100_000), ("layer", 0, 1000)):
        value = now.get(name, low)
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} must be a whole number from {low:,} to {high:,}; got {value!r}")
    for name, high in (("skew", 10), ("capacity", 64)):
        if not 0 <= now[name] <= high:
            raise ValueError(f"{name} must be from 0 to {high}; got {now[name]!r}")
    if now["balance"] not in get_args(SimulatedBalance):
        allowed = ", ".join(map(repr, get_args(SimulatedBalance)))
        raise ValueError(f"balance must be one of {allowed}; got {now['balance']!r}")


def _as_rows(name: str, counts: Tensor) -> Tensor:
    rows = torch.as_tensor(counts).detach().cpu()
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.numel():
        raise ValueError(f"{name} must be (experts,) or (layers, experts); got the shape {tuple(rows.shape)}")
    for row in rows:
        load_report(row)  # says what is wrong with it
    return rows


def _shape(rows: list[list[Any]]) -> tuple[int, int]:
    return len(rows), len(rows[0])
