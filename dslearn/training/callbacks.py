"""What happens beside the training steps: selector stages, checkpoints, learning curves, progress."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dslearn.models import LanguageModel
from dslearn.models.transformer import Stage
from dslearn.training.language import LanguageModule


class SelectorStages(Callback):
    """The published two stages of training a selector, after as many dense steps as asked for.

    dense: the model learns with dense attention. warmup: everything but the selectors is frozen, and they learn the
    dense attention distribution. sparse: the model reads what its selectors choose, and all of it learns.

    Args:
        dense_steps: length of the first stage.
        warmup_steps: length of the second; the third lasts to the end.

    Source: DeepSeek-V3.2-Exp, arXiv 2512.02556, section 2.1.
    """

    def __init__(self, *, dense_steps: int, warmup_steps: int) -> None:
        if dense_steps < 0 or warmup_steps < 0:
            raise ValueError(
                f"Stages cannot have negative lengths, got dense_steps={dense_steps}, warmup_steps={warmup_steps}"
            )
        self.dense_steps, self.warmup_steps = dense_steps, warmup_steps

    def stage_at(self, step: int) -> Stage:
        """The stage of a step, counted from 0."""
        if step < self.dense_steps:
            return "dense"
        return "warmup" if step < self.dense_steps + self.warmup_steps else "sparse"

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        model = language_model(pl_module)
        stage = self.stage_at(trainer.global_step)
        model.set_stage(stage)
        for name, parameter in model.named_parameters():
            selects = "index_" in name
            parameter.requires_grad_({"dense": not selects, "warmup": selects, "sparse": True}[stage])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        language_model(pl_module).requires_grad_(True)


class LearningCurve(Callback):
    """Losses and seconds of every step, and losses on held-out batches now and then, as plain lists.

    `steps` maps "cross_entropy" (nats a token), "selector_loss", "balance_loss" and "seconds" (of training, over all
    interruptions) to one number a step; `valid` holds rows {"step": …, name: nats a token}.

    Args:
        valid: held-out batches by name, shaped like training batches.
        valid_every: steps between their evaluations.
    """

    def __init__(self, valid: Mapping[str, Tensor] | None = None, *, valid_every: int = 250) -> None:
        self.steps: dict[str, list[float]] = {}
        self.valid: list[dict[str, float]] = []
        self._batches = dict(valid or {})
        self._valid_every = valid_every
        self._clock = 0.0

    @property
    def seconds(self) -> float:
        """Training seconds so far, without the pauses between interruption and resumption."""
        return self.steps["seconds"][-1] if self.steps else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._clock = time.monotonic() - self.seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for name in ("cross_entropy", "selector_loss", "balance_loss"):
            if name in outputs:
                self.steps.setdefault(name, []).append(outputs[name].item())
        self.steps.setdefault("seconds", []).append(time.monotonic() - self._clock)
        step = trainer.global_step
        if self._batches and (step % self._valid_every == 0 or step == trainer.max_steps):
            self.valid.append({"step": step, **self._evaluate(trainer, pl_module)})

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "valid": self.valid}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.valid = state_dict["steps"], state_dict["valid"]

    def save(self, path: str | Path) -> None:
        """Write the curve as JSON."""
        rounded = {name: [round(value, 4) for value in values] for name, values in self.steps.items()}
        Path(path).write_text(json.dumps({"steps": rounded, "valid": self.valid}) + "\n", encoding="utf-8")

    @torch.no_grad()
    def _evaluate(self, trainer: Trainer, module: LightningModule) -> dict[str, float]:
        assert isinstance(module, LanguageModule)
        module.eval()
        with trainer.precision_plugin.forward_context():
            losses = {name: module.loss_of(batch.to(module.device)) for name, batch in self._batches.items()}
        module.train()
        return losses


class Checkpointer(Callback):
    """Keeps `last.ckpt` in a folder: every so many seconds, at the end, and when Ctrl-C asks the run to stop.

    The file is written beside the old one and then takes its place, so that one whole checkpoint always exists. It is
    read back with `weights_only=True`: plain values and tensors, no code.

    Args:
        folder: made if absent.
        settings: JSON values stored with the weights; a checkpoint of other settings is refused.
        every_seconds: between checkpoints.

    Raises:
        OSError: the folder or a file in it cannot be written.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any], *, every_seconds: float = 120.0) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.settings = json.loads(json.dumps(dict(settings)))
        self.every_seconds = every_seconds
        self.interrupted = False
        self._saved_at = time.monotonic()
        self._previous_handler: Any = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(f"Cannot make the folder for checkpoints {folder}: {error}") from error

    def saved_step(self) -> int:
        """Steps that the checkpoint has behind it; 0 if there is none.

        Raises:
            ValueError: it is damaged, foreign, or of other settings.
        """
        if not self.path.exists():
            return 0
        try:
            checkpoint = torch.load(self.path, map_location="cpu", weights_only=True)
            step, settings = checkpoint["global_step"], checkpoint["settings"]
        except Exception as error:  # torch.load has no error of its own for a file that is no checkpoint
            raise ValueError(
                f"{self.path} is damaged or no checkpoint of this training ({error}). Move it away to start anew."
            ) from error
        if settings != self.settings:
            raise ValueError(
                f"{self.path} was made with other settings: {_differences(settings, self.settings)}. "
                "Use those settings again, or another folder, or move the file away to start anew."
            )
        return step

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGINT, self._ask_to_stop)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = time.monotonic() - self._saved_at >= self.every_seconds
        if due or self.interrupted or trainer.global_step == trainer.max_steps:
            self.save(trainer)
        if self.interrupted:
            trainer.should_stop = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["settings"] = self.settings

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint; the one before it stays whole until the new one is."""
        partial = self.path.with_name("last.ckpt.part")
        try:
            trainer.save_checkpoint(partial)
            os.replace(partial, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            kept = f"; the one before it is kept in {self.path}" if self.path.exists() else ""
            raise type(error)(f"Cannot write a checkpoint to {self.path.parent}: {error}{kept}") from error
        self._saved_at = time.monotonic()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    def _ask_to_stop(self, signum: int, frame: object) -> None:
        if self.interrupted:  # asked twice: at once, without saving
            raise KeyboardInterrupt
        self.interrupted = True
        print("Stopping after this step; press Ctrl-C again to stop at once.", file=sys.stderr, flush=True)


def language_model(module: LightningModule) -> LanguageModel:
    """The model that a module trains.

    Raises:
        TypeError: it is no `LanguageModule`.
    """
    if not isinstance(module, LanguageModule):
        raise TypeError(f"This callback serves a LanguageModule, got {type(module).__name__}")
    return module.model


def _differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    names = [name for name in {**stored, **given} if stored.get(name) != given.get(name)]
    return ", ".join(f"{name} was {stored.get(name)!r}, now {given.get(name)!r}" for name in names)
