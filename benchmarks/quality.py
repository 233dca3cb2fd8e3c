"""What sparse reading costs in quality: recall, and bits per byte of text."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from benchmarks.report import Report
from dslearn.course.provenance import library_hash
from dslearn.data import load_bpe, load_documents
from dslearn.data.recall import recall_curriculum
from dslearn.models import LanguageModel, evaluate_bits_per_byte, load_card, load_model, with_sparse_attention
from dslearn.training.optimizer import OptimizerConfig
from dslearn.training.phases import LanguageStreams, Phase
from dslearn.training.recall import recall_accuracy, train_recall, train_recall_selectors
from dslearn.training.recipes import PHASES, LanguageRecipe, train_phase
from dslearn.training.threads import one_core_a_thread

SEEDS = (0, 1, 2)
# Finished networks wait here for an interrupted run of the same code to go on.
FOLDER = Path("work/benchmarks/attention") / library_hash()
BLOCK, TOP_K = 4, 8  # 32 keys of 256: 12.5 %
*_, SELECTORS, SPARSE = PHASES  # of the finished model's recipe
WARMUP = replace(SELECTORS, steps=200)
TRAINED = replace(
    SPARSE, steps=80, optimizer=OptimizerConfig(matrix_lr=0.002, other_lr=0.0006, warmup=0.05, decay=0.95)
)


def measure(report: Report) -> None:
    """Both by three seeds; nothing in a quick run."""
    if not report.quick:
        recall(report)
        text(report)


def recall(report: Report) -> None:
    """Accuracy of dense, learned, untrained, random and window reading at the same budget."""
    task = recall_curriculum()[-1][0]
    accuracy: dict[str, list[float]] = {}
    with one_core_a_thread():  # in networks this small, cores would wait for each other
        for seed in SEEDS:
            for name, model in recall_models(seed=seed).items():
                accuracy.setdefault(name, []).append(recall_accuracy(model, task, seed=seed))
    ratio = min(a / b for a, b in zip(accuracy["learned"], accuracy["dense"], strict=True))
    report.add("recall-learned", ratio, "×", f"dense, worst of {len(SEEDS)} seeds", accuracy=accuracy)
    gap = 100 * (min(accuracy["learned"]) - max(accuracy["untrained"]))
    report.add("recall-gap-untrained", gap, "points", "untrained selector, lowest against highest seed")
    for name in ("dense", "learned", "untrained", "random", "window"):
        low, *_, high = sorted(accuracy[name])
        report.add(f"recall-accuracy-{name}", sum(accuracy[name]) / len(SEEDS), "", f"from {low:.3f} to {high:.3f}")


@cache
def recall_models(*, seed: int) -> dict[str, LanguageModel]:
    """One dense model, and sparse ones that read an eighth of the keys: selectors trained, untrained, and baselines."""
    dense = train_recall(seed=seed)
    models = {"dense": dense, "learned": train_recall_selectors(dense, seed=seed, block_size=BLOCK, top_k=TOP_K)}
    for name, selector in (("untrained", "tree"), ("random", "random"), ("window", "window")):
        models[name] = with_sparse_attention(dense, seed=seed, block_size=BLOCK, top_k=TOP_K, selector=selector)
    return models


def text(report: Report) -> None:
    """Bits per byte of held-out files at 2,048 tokens, after as many steps on the same batches with each way to read.

    All begin from the finished model's weights without its selectors. Dense attention and a window are trained on; the
    learned choice has new selectors, which warm up first.
    """
    tokenizer = load_bpe()
    streams = LanguageStreams(tokenizer, prose_share=LanguageRecipe().prose_share)
    files = [document for document in load_documents("code", "test") if 10_000 < len(document.text) < 60_000][:12]
    bits: dict[str, list[float]] = {}
    for seed in SEEDS:
        for name, model in text_models(streams, seed=seed).items():
            value = evaluate_bits_per_byte(model, files, tokenizer, context=2048)
            bits.setdefault(name, []).append(value)
    for name in ("learned", "window"):
        ratios = [value / dense for value, dense in zip(bits[name], bits["dense"], strict=True)]
        beside = f"dense, worst of {len(SEEDS)} seeds, best {min(ratios):.4f}; {len(files)} held-out files"
        report.add(f"text-{name}", max(ratios), "×", beside, bits_per_byte=bits)
    report.add("text-bits-dense", sum(bits["dense"]) / len(SEEDS), "bits/byte", "2,048 tokens of context")


def text_models(streams: LanguageStreams, *, seed: int) -> dict[str, LanguageModel]:
    """The finished model's weights trained on: reading everything, by new selectors, by a window of equal budget."""
    finished = load_model("language")
    weights = {name: weight for name, weight in finished.state_dict().items() if "index_" not in name}
    dense = LanguageModel(replace(finished.config, attention="dense"))
    dense.load_state_dict(weights)
    learned, window = (with_sparse_attention(dense, seed=seed, selector=selector) for selector in ("tree", "window"))
    home = FOLDER / str(seed)
    train(learned, WARMUP, streams, seed, home / "warmup")
    models = {"dense": dense, "learned": learned, "window": window}
    for name, model in models.items():
        train(model, replace(TRAINED, stage="dense" if name == "dense" else "sparse"), streams, seed, home / name)
    return models


def train(model: LanguageModel, phase: Phase, streams: LanguageStreams, seed: int, home: Path) -> None:
    """One phase in place, as the finished model's recipe does it, unless an earlier run has done so."""
    trained = home / "model"
    if not (trained.is_dir() and load_card(trained)["phase"] == asdict(phase)):
        recipe = LanguageRecipe(phases=(phase,), seed=seed, precision="32-true")
        train_phase(model, phase, recipe, streams, home, 0)
    model.load_state_dict(load_model(trained).state_dict())
