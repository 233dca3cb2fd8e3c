"""Mixtures of experts on text: the bias that balances them, and the recipe of the finished ones."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dslearn.data import ByteTokenizer, TokenStream, encode_documents, load_documents
from dslearn.models import LanguageModel, ModelConfig, evaluate_mixture, save_model
from dslearn.training.batches import mix_domains
from dslearn.training.callbacks import LearningCurve, language_model
from dslearn.training.language import LanguageModule
from dslearn.training.optimizer import OptimizerConfig
from dslearn.training.run import fit

BALANCES: Mapping[str, Mapping[str, Any]] = {
    "none": {"balance": "none"},
    "aux": {"balance": "aux"},
    "bias": {"balance": "bias"},
    "capacity": {"balance": "none", "capacity_factor": 1.2},
}


class BiasBalance(Callback):
    """After each step, moves the routers' biases towards even loads (:meth:`dslearn.moe.MoE.update_bias`).

    The rate falls to nothing over the last steps as the learning rate does, so that the choice comes to rest.

    Args:
        rate: how far at full height.
        decay: share of the steps, the last ones, in which the rate falls.

    Raises:
        ValueError: the rate is negative, or the share not within 0…1.
    """

    def __init__(self, rate: float = 0.01, *, decay: float = 0.5) -> None:
        if not rate >= 0 or not 0 <= decay <= 1:
            raise ValueError(f"rate must be at least 0 and decay within 0…1; got rate={rate} and decay={decay}")
        self.rate, self.decay = rate, decay

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        left = (trainer.max_steps - trainer.global_step) / max(1.0, self.decay * trainer.max_steps)
        for layer, wanted in zip(language_model(pl_module).mixtures, outputs["wanted"], strict=True):
            layer.update_bias(self.rate * min(1.0, left), wanted=wanted)


@dataclass(frozen=True, kw_only=True)
class MixtureRecipe:
    """Everything that decides a finished mixture of experts, which reads bytes.

    Args:
        shape: of the model, as in `ModelConfig`, whatever balances its experts.
        steps, batch_size, seq_len: of the training.
        balance_weight: of the Switch loss, where there is one.
        bias_rate: of the biases, where they balance.
        settle_steps: batches on which they come to rest after the training, see :func:`settle_biases`.
        prose_share: of the training bytes and of the held-out ones.
        seed: of the weights and of the batches.
    """

    shape: Mapping[str, Any] = field(
        default_factory=lambda: {
            "dim": 64,
            "num_layers": 2,
            "num_heads": 4,
            "num_experts": 16,
            "experts_top_k": 2,
            "expert_dim": 64,
        }
    )
    steps: int = 1000
    batch_size: int = 16
    seq_len: int = 256
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    balance_weight: float = 0.01
    bias_rate: float = 0.03
    settle_steps: int = 150
    prose_share: float = 0.3
    seed: int = 0

    def new_model(self, name: str) -> LanguageModel:
        """The untrained model that is balanced as `BALANCES` has it under a name.

        Raises:
            ValueError: there is no such name.
        """
        if name not in BALANCES:
            raise ValueError(f"a mixture's balance must be one of {', '.join(map(repr, BALANCES))}; got {name!r}")
        fields = {"vocab_size": ByteTokenizer().vocab_size, "feed_forward": "moe", **self.shape, **BALANCES[name]}
        return LanguageModel(ModelConfig.from_dict(fields), seed=self.seed)


class MixtureText:
    """Bytes of code and prose in the same proportion: to train on, and held out.

    Args:
        prose_share: of the bytes; the training prose repeats until it has it.
    """

    def __init__(self, *, prose_share: float) -> None:
        self.prose_share = prose_share
        self.tokens = mix_domains(_bytes("code", "train"), _bytes("prose", "train"), minor_share=prose_share)

    def train(self, recipe: MixtureRecipe) -> TokenStream:
        """Training windows of a recipe."""
        return TokenStream(self.tokens, batch_size=recipe.batch_size, seq_len=recipe.seq_len, seed=recipe.seed)

    def held_out(self, *, seq_len: int, tokens: int = 120_000) -> Int[Tensor, "batch window"]:
        """The same windows of the test split every time, prose and code mixed row by row."""
        rows = -(-tokens // seq_len)
        prose = round(rows * self.prose_share)
        parts = [
            TokenStream(_bytes(domain, "test"), batch_size=many, seq_len=seq_len, seed=0).batch(0)
            for domain, many in (("code", rows - prose), ("prose", prose))
        ]
        return torch.cat(parts)[torch.randperm(rows, generator=torch.Generator().manual_seed(0))]


def fit_mixture(
    model: LanguageModel,
    recipe: MixtureRecipe,
    batch_at: Callable[[int], Tensor],
    *,
    folder: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    valid: Mapping[str, Tensor] | None = None,
) -> LearningCurve:
    """Trains a mixture in place, with the bias's update where the model is balanced by it.

    Args:
        batch_at: a pure function from a step to its batch.
        folder: keeps a checkpoint, from which an interrupted run goes on.
        callbacks: Lightning's, besides.
        valid: held-out batches by name, looked at now and then.

    Raises:
        KeyboardInterrupt, ValueError, OSError: as `fit`.
    """
    bias = [BiasBalance(recipe.bias_rate)] if model.config.balance == "bias" else []
    module = LanguageModule(model, steps=recipe.steps, optimizer=recipe.optimizer, balance_weight=recipe.balance_weight)
    settings = {"model": model.config.to_dict(), "recipe": asdict(recipe)}
    curve = fit(
        module, batch_at, folder=folder, settings=settings, callbacks=[*bias, *callbacks], curve=LearningCurve(valid)
    )
    if bias:
        batches = [batch_at(recipe.steps + number) for number in range(recipe.settle_steps)]
        settle_biases(model, batches, rate=recipe.bias_rate / 10)
    return curve


@torch.no_grad()
def settle_biases(model: LanguageModel, batches: Sequence[Int[Tensor, "batch window"]], *, rate: float) -> None:
    """Lets the biases come to rest while the weights stand still, at a rate that falls to nothing.

    As long as weights move, the biases lag behind them, at whatever rate: experts that were even a hundred steps ago
    are not now.
    """
    for number, batch in enumerate(batches):
        model(batch[:, :-1])
        for layer in model.mixtures:
            layer.update_bias(rate * (1 - number / len(batches)))


def train_mixtures(
    folder: str | Path, recipe: MixtureRecipe | None = None, *, tell: Callable[[str], None] = print
) -> None:
    """Trains the mixture of every name in `BALANCES`, or goes on with it; each is kept in `<folder>/mixture_<name>`.

    Raises:
        KeyboardInterrupt: Ctrl-C; everything up to that step is saved.
        ValueError, OSError: as `fit`.
    """
    recipe = recipe or MixtureRecipe()
    text = MixtureText(prose_share=recipe.prose_share)
    for name in BALANCES:
        home = Path(folder) / f"mixture_{name}"
        if (home / "config.json").is_file():
            continue
        tell(f"mixture_{name}: {recipe.steps} steps of {recipe.batch_size} × {recipe.seq_len} bytes")
        model = recipe.new_model(name)
        curve = fit_mixture(model, recipe, text.train(recipe).batch, folder=Path(folder) / f"{name}.run")
        save_model(model, home, _card(model, name, recipe, text, curve.seconds), dtype=torch.bfloat16)


def _card(model: LanguageModel, name: str, recipe: MixtureRecipe, text: MixtureText, seconds: float) -> dict[str, Any]:
    # Rounded first: the card must speak of the weights that are shipped.
    shipped = copy.deepcopy(model)
    for parameter in shipped.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    use = evaluate_mixture(shipped, text.held_out(seq_len=recipe.seq_len))
    return {
        "name": f"mixture_{name}",
        "what": "A small mixture-of-experts language model of Python source and English technical prose, by bytes",
        "data": "Python's standard library: its source files (code) and pydoc_data.topics (prose), training split",
        "recipe": asdict(recipe),
        "parameters": model.config.num_parameters,
        "active_parameters": model.config.num_active_parameters,
        "training_seconds": round(seconds, 1),
        "date": date.today().isoformat(),
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
        "metrics": {
            "test_nats_per_byte": round(use.nats, 4),
            "test_bytes": int(use.counts[0].sum() + use.dropped[0]) // model.config.experts_top_k,
            "utilisation": [round(report.utilisation, 4) for report in use.reports],
            "drop_rate": [round(report.drop_rate, 4) for report in use.reports],
        },
    }


def _bytes(domain: Any, split: Any) -> Int[Tensor, " tokens"]:
    return encode_documents(load_documents(domain, split), ByteTokenizer(), shuffle_seed=0)
