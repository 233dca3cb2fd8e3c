"""One training run with Lightning: fixed number of steps, resumable at any of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from dslearn.training.batches import StepBatches
from dslearn.training.callbacks import Checkpointer, LearningCurve
from dslearn.training.language import LanguageModule
from dslearn.training.progress import ProgressBar, ProgressLines, is_interactive


def fit(
    module: LanguageModule,
    batch_at: Callable[[int], Tensor],
    *,
    folder: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    callbacks: Sequence[Callback] = (),
    curve: LearningCurve | None = None,
    precision: str = "32-true",
    accelerator: str = "auto",
    save_every_seconds: float = 120.0,
) -> LearningCurve:
    """Train for `module.steps` steps, from the checkpoint in `folder` if there is one; returns the learning curve.

    Interrupted at any step (Ctrl-C saves first) and called again with the same arguments, it goes on to exactly the
    same losses. Without a folder nothing is written and nothing can be resumed.

    Args:
        batch_at: a pure function from a step to its batch, such as `TokenStream.batch`.
        folder: holds `last.ckpt`.
        settings: JSON values that a resumed run must have in common with the interrupted one.
        curve: records the losses; a plain one unless given.
        precision: Lightning's name, such as "32-true" or "bf16-mixed".

    Raises:
        KeyboardInterrupt: Ctrl-C; the message says where the checkpoint is.
        ValueError: the checkpoint is damaged, foreign, or of other settings.
        OSError: the checkpoint cannot be written; the one before it is kept.
    """
    curve = curve or LearningCurve()
    checkpointer = None if folder is None else Checkpointer(folder, settings or {}, every_seconds=save_every_seconds)
    start = 0 if checkpointer is None else checkpointer.saved_step()
    progress = ProgressBar() if is_interactive() else ProgressLines()
    # Saving comes last, so that a checkpoint holds what the other callbacks know after the step.
    all_callbacks = [*callbacks, curve, progress, *([checkpointer] if checkpointer else [])]
    with quiet():
        trainer = make_trainer(module.steps, all_callbacks, precision=precision, accelerator=accelerator)
    resume = checkpointer.path if checkpointer and start else None
    with quiet():
        trainer.fit(module, StepBatches(batch_at, start, module.steps), ckpt_path=resume, weights_only=True)
    if checkpointer and checkpointer.interrupted:
        raise KeyboardInterrupt(
            f"Stopped after step {trainer.global_step} of {module.steps}, saved in {checkpointer.path}. "
            "Run the same command again to go on from there."
        )
    return curve


def make_trainer(max_steps: int, callbacks: list[Callback], *, precision: str, accelerator: str) -> Trainer:
    """A Lightning trainer that writes nothing and does nothing unasked."""
    return Trainer(
        max_steps=max_steps,
        callbacks=callbacks,
        precision=precision,  # pyright: ignore[reportArgumentType]
        accelerator=accelerator,
        devices=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's notes on devices, workers and its own deprecations."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings(
                "ignore", message=".*(does not have many workers|treespec, LeafSpec|eval mode at).*"
            )
            yield
    finally:
        logger.setLevel(level)
