"""How far a run is: a bar for people, a line now and then for a log."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def is_interactive() -> bool:
    """Whether somebody watches: a terminal, or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class ProgressBar(Callback):
    """A bar with steps, loss and the time left."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns)
        self._task = self._progress.add_task("loss", total=trainer.max_steps, completed=trainer.global_step)
        self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._progress.update(self._task, completed=trainer.global_step, description=describe(outputs))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if hasattr(self, "_progress"):
            self._progress.refresh()  # stop() leaves that out in a notebook
            self._progress.stop()


class ProgressLines(Callback):
    """A line with step, losses, tokens a second and minutes left, every so many seconds."""

    def __init__(self, every_seconds: float = 30.0) -> None:
        self.every_seconds = every_seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._told, self._told_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.monotonic(), trainer.global_step
        if now - self._told < self.every_seconds and step < trainer.max_steps:
            return
        steps_per_second = (step - self._told_step) / max(now - self._told, 1e-9)
        left = (trainer.max_steps - step) / max(steps_per_second, 1e-9) / 60
        tokens_per_second = steps_per_second * batch[:, 1:].numel()
        print(
            f"step {step}/{trainer.max_steps}  {describe(outputs)}  {tokens_per_second:,.0f} tokens/s  "
            f"{left:.0f} min left",
            flush=True,
        )
        self._told, self._told_step = now, step


def describe(outputs: dict[str, Any]) -> str:
    """The losses of a step as text."""
    text = f"loss {outputs['cross_entropy'].item():.3f}"
    return text + (f", selector {outputs['selector_loss'].item():.4f}" if "selector_loss" in outputs else "")
