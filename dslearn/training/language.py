"""A language model as a Lightning module: next-token cross entropy, and losses of selectors and routers beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from dslearn.models.transformer import LanguageModel
from dslearn.training.optimizer import OptimizerConfig
from dslearn.training.threads import loss_by_threads


class LanguageModule(LightningModule):
    """Trains a `LanguageModel` on batches of shape (batch, tokens + 1): inputs and, shifted by one, targets.

    The loss is the mean cross entropy in nats a token, plus the mean of the sparse layers' selector losses, plus
    `balance_weight` times the mean of the mixtures' balance losses. The selectors read detached inputs, so that they
    and the rest train disjoint parameters and need no weighting; a balance loss does pull at the model.

    Args:
        model: what is trained; its weights change in place.
        balance_weight: of the mixtures' balance losses; read only where there are some.
        steps: length of the run, which the schedule needs.
        optimizer: learning rates and their schedule.
        threads: on a processor, how many share each batch by its rows; 1 leaves all cores to every operation.
        rows: of the batch that a thread takes through the model at once.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        steps: int,
        optimizer: OptimizerConfig | None = None,
        threads: int = 1,
        rows: int = 1,
        balance_weight: float = 0.01,
    ) -> None:
        super().__init__()
        if not balance_weight >= 0:
            raise ValueError(f"balance_weight must be at least 0, got {balance_weight}")
        self.model = model
        self.balance_weight = balance_weight
        self.steps = steps
        self.optimizer_config = optimizer or OptimizerConfig()
        self.threads, self.rows = threads, rows

    def training_step(self, batch: Int[Tensor, "batch window"], batch_idx: int) -> dict[str, Tensor]:
        """What `losses_of` returns."""

        def losses(model: LanguageModel, rows: Tensor) -> dict[str, Tensor]:
            return losses_of(model, rows, balance_weight=self.balance_weight)

        if self.threads > 1 and batch.device.type == "cpu":
            pieces = max(1, len(batch) // self.rows)
            return loss_by_threads(self.model, batch, losses, threads=self.threads, pieces=pieces)
        return losses(self.model, batch)

    def loss_of(self, batch: Int[Tensor, "batch window"]) -> float:
        """Cross entropy of a held-out batch in nats a token, a row at a time so that memory stays small."""
        return sum(next_token_loss(self.model, row[None]).item() for row in batch) / len(batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer_config.make(self.model)
        schedule = LambdaLR(optimizer, lambda step: self.optimizer_config.factor(step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def losses_of(
    model: LanguageModel, batch: Int[Tensor, "batch window"], *, balance_weight: float = 0.01
) -> dict[str, Tensor]:
    """By name: "loss", to be minimised, "cross_entropy", and where the model has them "selector_loss", "balance_loss"
    and "wanted", the choices that fell on each expert, of shape (layers, experts)."""
    cross_entropy = next_token_loss(model, batch)
    parts = {"cross_entropy": cross_entropy}
    loss = cross_entropy
    if (selector := selector_loss(model)) is not None:
        parts["selector_loss"] = selector
        loss = loss + selector
    if (balance := balance_loss(model)) is not None:
        parts["balance_loss"] = balance
        loss = loss + balance_weight * balance
    if mixtures := model.mixtures:
        parts["wanted"] = torch.stack([layer.routing.wanted for layer in mixtures if layer.routing]).float()
    return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}


def next_token_loss(model: LanguageModel, batch: Int[Tensor, "batch window"]) -> Float[Tensor, ""]:
    """Mean −ln p of each token given those before it, in nats."""
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def selector_loss(model: LanguageModel) -> Float[Tensor, ""] | None:
    """Mean KL of the layers' selectors in the forward pass just made; None where no selector is being trained."""
    losses = [loss for layer in model.attention_layers if (loss := getattr(layer, "selector_loss", None)) is not None]
    return torch.stack(losses).mean() if losses else None


def balance_loss(model: LanguageModel) -> Float[Tensor, ""] | None:
    """Mean balance loss of the mixtures in the forward pass just made; None where none is asked for."""
    losses = [layer.balance_loss for layer in model.mixtures if layer.balance_loss is not None]
    return torch.stack(losses).mean() if losses else None
