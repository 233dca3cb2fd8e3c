"""Muon for the hidden matrices, AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from dslearn.moe import Router


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Learning rates of the two kinds of parameters, and the schedule that multiplies both.

    Args:
        matrix_lr: Muon's, for the hidden matrices.
        other_lr: AdamW's, for embeddings and norms.
        weight_decay: decoupled, of the matrices.
        warmup: share of the steps in which the rates rise from nothing.
        decay: share of the steps, the last ones, in which they fall to nothing.

    Raises:
        ValueError: a rate is negative, or the shares are not within 0…1 together.
    """

    matrix_lr: float = 0.02
    other_lr: float = 0.004
    weight_decay: float = 0.1
    warmup: float = 0.02
    decay: float = 0.5

    def __post_init__(self) -> None:
        for name in ("matrix_lr", "other_lr", "weight_decay", "warmup", "decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup + decay must be at most 1, got {self.warmup} + {self.decay}")

    def make(self, model: nn.Module) -> MuonAdamW:
        """The optimizer of a model's parameters, at the full rates."""
        matrices, others = split_parameters(model)
        return MuonAdamW(
            matrices,
            others,
            matrix_lr=self.matrix_lr,
            other_lr=self.other_lr,
            weight_decay=self.weight_decay,
        )

    def factor(self, step: int, total: int) -> float:
        """What the rates are multiplied by at a step: linear up, level, linear down.

        Source: warmup–stable–decay, Hu et al. 2024, arXiv 2404.06395, section 4.2.
        """
        up = (step + 1) / max(1.0, self.warmup * total)
        down = (total - step) / max(1.0, self.decay * total)
        return max(0.0, min(1.0, up, down))


class SinglePrecisionMuon(Muon):
    """PyTorch's Muon, its matrices made orthogonal in the precision that they have.

    PyTorch rounds them to bfloat16 for that. Many processors only imitate such products, tens of times as slowly.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the closure's loss."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                direction = orthogonal(matrix.grad.lerp(momentum, group["momentum"]), group["ns_coefficients"])
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(direction, alpha=-group["lr"] * max(1, len(matrix) / matrix.shape[1]) ** 0.5)
        return loss


def orthogonal(
    matrix: Float[Tensor, "rows columns"], coefficients: tuple[float, float, float], *, steps: int = 5
) -> Float[Tensor, "rows columns"]:
    """About U Vᵀ of a matrix U S Vᵀ: its singular values all near 1, by Newton and Schulz's iteration.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """
    a, b, c = coefficients
    x = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if len(matrix) <= matrix.shape[1] else x.T


class MuonAdamW(Optimizer):
    """Muon orthogonalises the momentum of each matrix; AdamW serves embeddings and norms, as Muon's authors advise.

    One optimizer with the parameter groups of both, so that schedules, clipping, checkpoints and Lightning's
    automatic optimization see nothing unusual. Group 0 is Muon's, group 1 AdamW's.

    Args:
        matrices: 2-D weights of hidden layers.
        others: embeddings, norms, and whatever else is not a hidden matrix.
        matrix_lr: Muon's learning rate, scaled for each shape as Jordan does.
        other_lr: AdamW's learning rate.
        weight_decay: decoupled, of the matrices alone.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        *,
        matrix_lr: float = 0.02,
        other_lr: float = 0.003,
        weight_decay: float = 0.1,
    ) -> None:
        self.muon = SinglePrecisionMuon(list(matrices), lr=matrix_lr, weight_decay=weight_decay)
        self.adamw = AdamW(list(others), lr=other_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})
        self._share_groups()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both optimizers; returns the closure's loss."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        self.muon.step()
        self.adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both optimizers, by name."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()

    def _share_groups(self) -> None:
        # The groups are the very dictionaries of the two optimizers: a schedule that sets "lr" here sets it there.
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]


def split_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(hidden matrices, everything else) among the parameters.

    Embeddings, heads of their shape and routers are not hidden; the experts' stacked matrices are no matrices to Muon.
    """
    tables = {module.weight.shape for module in model.modules() if isinstance(module, nn.Embedding)}
    routers = {id(module.weight) for module in model.modules() if isinstance(module, Router)}
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in model.parameters():
        hidden = parameter.ndim == 2 and parameter.shape not in tables and id(parameter) not in routers
        (matrices if hidden else others).append(parameter)
    return matrices, others
