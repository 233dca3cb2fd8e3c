"""A language model as a Lightning module: next-token cross entropy, and the selectors' own loss beside it."""

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

    The loss is the mean cross entropy in nats a token plus the mean of the sparse layers' selector losses. The
    selectors read detached inputs, so the two parts train disjoint parameters and need no weighting.

    Args:
        model: what is trained; its weights change in place.
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
    ) -> None:
        super().__init__()
        self.model = model
        self.steps = steps
        self.optimizer_config = optimizer or OptimizerConfig()
        self.threads, self.rows = threads, rows

    def training_step(self, batch: Int[Tensor, "batch window"], batch_idx: int) -> dict[str, Tensor]:
        """Returns loss (minimised), cross_entropy and, where selectors are trained, selector_loss."""
        if self.threads > 1 and batch.device.type == "cpu":
            pieces = max(1, len(batch) // self.rows)
            return loss_by_threads(self.model, batch, losses_of, threads=self.threads, pieces=pieces)
        return losses_of(self.model, batch)

    def loss_of(self, batch: Int[Tensor, "batch window"]) -> float:
        """Cross entropy of a held-out batch in nats a token, a row at a time so that memory stays small."""
        return sum(next_token_loss(self.model, row[None]).item() for row in batch) / len(batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer_config.make(self.model)
        schedule = LambdaLR(optimizer, lambda step: self.optimizer_config.factor(step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def losses_of(model: LanguageModel, batch: Int[Tensor, "batch window"]) -> dict[str, Tensor]:
    """Scalars by name: "loss" to be minimised, and its parts."""
    cross_entropy = next_token_loss(model, batch)
    selector = selector_loss(model)
    if selector is None:
        return {"loss": cross_entropy, "cross_entropy": cross_entropy.detach()}
    return {
        "loss": cross_entropy + selector,
        "cross_entropy": cross_entropy.detach(),
        "selector_loss": selector.detach(),
    }


def next_token_loss(model: LanguageModel, batch: Int[Tensor, "batch window"]) -> Float[Tensor, ""]:
    """Mean −ln p of each token given those before it, in nats."""
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def selector_loss(model: LanguageModel) -> Float[Tensor, ""] | None:
    """Mean KL of the layers' selectors in the forward pass just made; None where no selector is being trained."""
    losses = [loss for layer in model.attention_layers if (loss := getattr(layer, "selector_loss", None)) is not None]
    return torch.stack(losses).mean() if losses else None
