"""Lightning modules, callbacks and recipes. The only room that knows Lightning (the extra "train")."""

from __future__ import annotations

from dslearn._extras import require

require("lightning", extra="train")

from dslearn.training.batches import StepBatches, mix_domains  # noqa: E402
from dslearn.training.callbacks import Checkpointer, LearningCurve, SelectorStages  # noqa: E402
from dslearn.training.language import LanguageModule, balance_loss, next_token_loss, selector_loss  # noqa: E402
from dslearn.training.mixture import (  # noqa: E402
    BALANCES,
    BiasBalance,
    MixtureRecipe,
    MixtureText,
    fit_mixture,
    settle_biases,
    train_mixtures,
)
from dslearn.training.optimizer import MuonAdamW, OptimizerConfig, split_parameters  # noqa: E402
from dslearn.training.phases import LanguageStreams, Phase  # noqa: E402
from dslearn.training.progress import ProgressBar, ProgressLines  # noqa: E402
from dslearn.training.recipes import LanguageRecipe, train_language  # noqa: E402
from dslearn.training.run import fit  # noqa: E402

__all__ = [
    "BALANCES",
    "BiasBalance",
    "Checkpointer",
    "LanguageModule",
    "LanguageRecipe",
    "LanguageStreams",
    "LearningCurve",
    "MixtureRecipe",
    "MixtureText",
    "MuonAdamW",
    "OptimizerConfig",
    "Phase",
    "ProgressBar",
    "ProgressLines",
    "SelectorStages",
    "StepBatches",
    "balance_loss",
    "fit",
    "fit_mixture",
    "mix_domains",
    "next_token_loss",
    "selector_loss",
    "settle_biases",
    "split_parameters",
    "train_language",
    "train_mixtures",
]
