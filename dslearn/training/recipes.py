"""The recipe of the finished language model: dense first, then its selectors by the two published stages.

Phases follow one another: dense at a short context, dense at the full one, selectors alone, everything sparse. A
finished phase is a model folder of its own; the phase under way has a checkpoint. The same command resumes anywhere.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

import torch

from dslearn.data import Tokenizer, load_bpe, load_documents, xz_bits_per_byte
from dslearn.models import (
    LanguageModel,
    ModelConfig,
    evaluate_bits_per_byte,
    load_card,
    load_model,
    save_model,
    with_sparse_attention,
)
from dslearn.training.callbacks import LearningCurve, SelectorStages
from dslearn.training.language import LanguageModule
from dslearn.training.optimizer import OptimizerConfig
from dslearn.training.phases import LanguageStreams, Phase
from dslearn.training.run import fit

PHASES = (
    Phase(
        name="short",
        stage="dense",
        steps=2000,
        batch_size=8,
        seq_len=512,
        optimizer=OptimizerConfig(matrix_lr=0.02, other_lr=0.004, warmup=0.01, decay=0.3),
    ),
    Phase(
        name="long",
        stage="dense",
        steps=400,
        batch_size=2,
        seq_len=2048,
        optimizer=OptimizerConfig(matrix_lr=0.012, other_lr=0.003, warmup=0.03, decay=0.97),
    ),
    Phase(
        name="selectors",
        stage="warmup",
        steps=400,
        batch_size=2,
        seq_len=2048,
        optimizer=OptimizerConfig(matrix_lr=0.02, warmup=0.05, decay=0.5),
    ),
    Phase(
        name="sparse",
        stage="sparse",
        steps=1500,
        batch_size=2,
        seq_len=2048,
        optimizer=OptimizerConfig(matrix_lr=0.006, other_lr=0.0015, warmup=0.03, decay=0.97),
    ),
)


def quickest_precision() -> str:
    """Lightning's name of the precision that this processor trains in soonest: bfloat16 only where it multiplies it."""
    known = torch.cpu.get_capabilities()
    return "bf16-mixed" if known.get("amx_bf16") or known.get("avx512_bf16") else "32-true"


@dataclass(frozen=True, kw_only=True)
class LanguageRecipe:
    """Everything that decides the finished language model.

    Args:
        dim, num_layers, num_heads, hidden_dim: shape of the model, as in `ModelConfig`.
        block_size, top_k, selector: of its attention once it is sparse.
        phases: in the order of training.
        prose_share: of the training tokens; there is far more code than prose, so the prose repeats.
        seed: of the weights and of the batches.
        precision: Lightning's name; unless told, the one that this processor trains in soonest.
        threads: that share each batch on a processor: as many as it has cores to spare.
    """

    dim: int = 256
    num_layers: int = 4
    num_heads: int = 4
    hidden_dim: int = 544
    block_size: int = 32
    top_k: int = 16
    selector: Literal["tree", "flat"] = "tree"
    phases: tuple[Phase, ...] = PHASES
    prose_share: float = 0.07
    seed: int = 0
    precision: str = field(default_factory=quickest_precision)
    threads: int = 2

    def new_model(self, vocab_size: int) -> LanguageModel:
        """The untrained dense model."""
        shape = {name: getattr(self, name) for name in ("dim", "num_layers", "num_heads", "hidden_dim")}
        return LanguageModel(ModelConfig(vocab_size=vocab_size, **shape), seed=self.seed)

    def ready_for(self, phase: Phase, model: LanguageModel) -> LanguageModel:
        """The model as a phase needs it: with selectors from the first phase on that trains them."""
        if phase.stage == "dense" or model.config.attention == "sparse":
            return model
        return with_sparse_attention(model, block_size=self.block_size, top_k=self.top_k, selector=self.selector)

    def phases_until(self, name: str | None) -> Sequence[Phase]:
        """The phases up to the named one, itself included; all of them for None.

        Raises:
            ValueError: no phase has the name.
        """
        names = [phase.name for phase in self.phases]
        if name is None:
            return self.phases
        if name not in names:
            raise ValueError(f"until must name a phase: {', '.join(names)}; got {name!r}")
        return self.phases[: names.index(name) + 1]


def train_language(
    folder: str | Path,
    recipe: LanguageRecipe | None = None,
    *,
    until: str | None = None,
    tell: Callable[[str], None] = print,
) -> LanguageModel:
    """Train the language model of a recipe in a folder, or go on with it; returns the model of the last phase.

    Each phase keeps `<folder>/<phase>/model` and `curve.json` when it is finished and `last.ckpt` while it is under
    way; remove a phase's folder to train it again from the phase before. After the last one `<folder>/model` holds the
    finished model in bfloat16 with its card.

    Args:
        until: name of the last phase to train; None trains them all.
        tell: gets a line at the start of each phase.

    Raises:
        KeyboardInterrupt: Ctrl-C; everything up to that step is saved.
        ValueError: a checkpoint is damaged or of other settings, or `until` names no phase.
        OSError: the folder cannot be written; what was there before is kept.
    """
    recipe = recipe or LanguageRecipe()
    phases = recipe.phases_until(until)
    tokenizer = load_bpe()
    streams = LanguageStreams(tokenizer, prose_share=recipe.prose_share)
    model = recipe.new_model(tokenizer.vocab_size)
    seconds = 0.0
    for phase in phases:
        home = Path(folder) / phase.name
        if not (home / "model").is_dir():
            tell(f"{phase.name}: {phase.steps} steps of {phase.batch_size} × {phase.seq_len} tokens")
            model = recipe.ready_for(phase, model)
            train_phase(model, phase, recipe, streams, home, seconds)
        model = load_model(home / "model")
        seconds = load_card(home / "model")["seconds"]
    if phases[-1] is recipe.phases[-1] and not (Path(folder) / "model").is_dir():
        tell("measuring on held-out text")
        finish(model, Path(folder), recipe, tokenizer, seconds)
    return model


def train_phase(
    model: LanguageModel, phase: Phase, recipe: LanguageRecipe, streams: LanguageStreams, home: Path, seconds: float
) -> None:
    """Train one phase in place, then save the model in `home` with its card and its learning curve.

    Args:
        seconds: that the phases before it took.
    """
    number = recipe.phases.index(phase)
    stages = {"dense": [], "warmup": [(0, phase.steps)], "sparse": [(0, 0)]}[phase.stage]
    settings = {"phase": asdict(phase), "model": model.config.to_dict(), "seed": recipe.seed, "tokens": streams.digest}
    module = LanguageModule(
        model, steps=phase.steps, optimizer=phase.optimizer, threads=recipe.threads, rows=phase.rows_a_thread
    )
    curve = fit(
        module,
        streams.train(phase, seed=recipe.seed + number).batch,
        folder=home,
        settings=settings,
        callbacks=[SelectorStages(dense_steps=d, warmup_steps=w) for d, w in stages],
        curve=LearningCurve(streams.valid(phase)),
        precision=recipe.precision,
    )
    curve.save(home / "curve.json")
    results = {"seconds": round(seconds + curve.seconds, 1), "valid_nats_per_token": curve.valid[-1]}
    save_model(model, home / "model", {**settings, **results})


def finish(model: LanguageModel, folder: Path, recipe: LanguageRecipe, tokenizer: Tokenizer, seconds: float) -> None:
    """Save the finished model in bfloat16, with what it then needs for every byte of held-out text on its card."""
    context = recipe.phases[-1].seq_len
    # Rounded first: the card must speak of the weights that are shipped.
    metrics = measure(model.to(torch.bfloat16).float(), tokenizer, context=context)
    dense = [phase for phase in recipe.phases if phase.stage == "dense"]
    if dense:
        before = measure(load_model(folder / dense[-1].name / "model"), tokenizer, context=context)
        metrics["dense_bits_per_byte"] = before["bits_per_byte"]
    card = {
        "name": "language",
        "what": "A small causal language model of Python source and English technical prose",
        "data": "Python's standard library: its source files (code) and pydoc_data.topics (prose), training split",
        "recipe": asdict(recipe),
        "parameters": model.config.num_parameters,
        "training_tokens": sum(phase.tokens for phase in recipe.phases),
        "training_seconds": seconds,
        "date": date.today().isoformat(),
        "made_with": {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]},
        "metrics": metrics,
    }
    save_model(model, folder / "model", card, dtype=torch.bfloat16)


def measure(model: LanguageModel, tokenizer: Tokenizer, *, context: int) -> dict[str, Any]:
    """Bits for each byte of the test split, together and by domain, beside what `xz -9e` needs for it."""
    code, prose = load_documents("code", "test"), load_documents("prose", "test")
    bits = {
        name: evaluate_bits_per_byte(model, documents, tokenizer, context=context)
        for name, documents in (("code", code), ("prose", prose))
    }
    code_bytes, prose_bytes = (sum(len(d.text.encode()) for d in documents) for documents in (code, prose))
    together = (bits["code"] * code_bytes + bits["prose"] * prose_bytes) / (code_bytes + prose_bytes)
    return {
        "bits_per_byte": round(together, 4),
        "bits_per_byte_code": round(bits["code"], 4),
        "bits_per_byte_prose": round(bits["prose"], 4),
        "xz_bits_per_byte": round(xz_bits_per_byte([*code, *prose]), 4),
        "test_bytes": code_bytes + prose_bytes,
        "context": context,
    }
