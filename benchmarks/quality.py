"""What sparse reading costs in quality: recall, and bits per byte of text."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

from benchmarks.report import Report
from dslearn.data import Document, load_bpe, load_documents
from dslearn.data.recall import recall_curriculum
from dslearn.models import LanguageModel, evaluate_bits_per_byte, load_model, with_sparse_attention
from dslearn.training.recall import recall_accuracy, train_recall, train_recall_selectors

SEEDS = (0, 1, 2)
BLOCK, TOP_K = 4, 8  # 32 keys of 256: 12.5 %


def measure(report: Report) -> None:
    """Recall by three seeds, text by the finished model; nothing in a quick run."""
    if not report.quick:
        recall(report)
        text(report)


def recall(report: Report) -> None:
    """Accuracy of dense, learned, untrained, random and window reading at the same budget."""
    task = recall_curriculum()[-1][0]
    accuracy: dict[str, list[float]] = {}
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
        models[name] = with_sparse_attention(dense, block_size=BLOCK, top_k=TOP_K, selector=selector)
    return models


def text(report: Report) -> None:
    """Bits per byte of held-out files at 2,048 tokens: the same weights reading all, their choice, and a window."""
    sparse = load_model("language")
    dense, window = deepcopy(sparse), LanguageModel(replace(sparse.config, selector="window"))
    dense.set_stage("dense")
    window.load_state_dict(sparse.state_dict())
    files = [document for document in load_documents("code", "test") if 10_000 < len(document.text) < 60_000][:12]
    bits = {name: per_file(model, files) for name, model in (("dense", dense), ("learned", sparse), ("window", window))}
    sizes = [len(document.text.encode()) for document in files]
    mean = {name: sum(b * s for b, s in zip(values, sizes, strict=True)) / sum(sizes) for name, values in bits.items()}
    beside = f"the same weights reading everything, {len(files)} held-out files"
    report.add("text-learned", mean["learned"] / mean["dense"], "×", beside, bits_per_byte=bits)
    report.add("text-window", mean["window"] / mean["dense"], "×", f"{beside}; nearest blocks, equal budget")
    report.add("text-bits-dense", mean["dense"], "bits/byte", "2,048 tokens of context")


def per_file(model: LanguageModel, files: list[Document]) -> list[float]:
    """Bits per byte of each file."""
    tokenizer = load_bpe()
    return [evaluate_bits_per_byte(model, [document], tokenizer, context=2048) for document in files]
