"""How much of dense attention the tree's choice holds, beside the flat choice of the same selector."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import quality
from benchmarks.report import Report
from dslearn.data import load_bpe, load_documents
from dslearn.data.recall import recall_curriculum
from dslearn.models import LanguageModel, load_model


def measure(report: Report) -> None:
    """On held-out text by the finished model, and on recall by the models of the quality rows."""
    if report.quick:
        return
    tokens = text_windows(load_bpe(), length=4096, windows=4)
    add(report, "text", load_model("language"), tokens, "4 held-out files of 4,096 tokens, all layers and heads")
    task = recall_curriculum()[-1][0]
    batch = task.evaluation_batch(7, 0, 64)
    add(report, "recall", quality.recall_models(seed=0)["learned"], batch.tokens, "64 test sequences of 256 tokens")


def add(report: Report, name: str, model: LanguageModel, tokens: Tensor, where: str) -> None:
    """Rows of one model: mass the tree holds of what flat holds, and share of flat's past blocks it finds."""
    tree, flat = [choice(model, tokens, method) for method in ("tree", "flat")]
    mass = sum(held for _, held in tree) / sum(held for _, held in flat)
    found = wanted = 0
    for (by_tree, _), (by_flat, _) in zip(tree, flat, strict=True):
        past = by_flat[..., 1:]
        found += int(((past[..., None] == by_tree[..., None, 1:]).any(-1) & (past >= 0)).sum())
        wanted += int((past >= 0).sum())
    report.add(f"fidelity-mass-{name}", mass, "×", f"flat choice of the same selector; {where}")
    report.add(f"fidelity-blocks-{name}", found / wanted, "×", f"share of flat's past blocks; {where}")


@torch.no_grad()
def choice(model: LanguageModel, tokens: Tensor, method: str) -> list[tuple[Tensor, float]]:
    """For each layer the blocks chosen and the mass of dense attention they hold, the stream flowing as in use."""
    model.eval()
    readings: list[tuple[Tensor, float]] = []

    def read(layer, inputs) -> None:
        layer.selector = method
        chosen, mass = layer.reading(inputs[0])
        held = mass.gather(-1, chosen.clamp(min=0)).masked_fill(chosen < 0, 0).sum(-1).mean()
        readings.append((chosen, held.item()))
        layer.selector = "tree"

    hooks = [layer.register_forward_pre_hook(read) for layer in model.attention_layers]
    for window in tokens:
        model(window[None])
    for hook in hooks:
        hook.remove()
    return readings


def text_windows(tokenizer, *, length: int, windows: int) -> Tensor:
    """The beginnings of the longest held-out files of code."""
    documents = sorted(load_documents("code", "test"), key=lambda document: -len(document.text))[:windows]
    rows = [[tokenizer.eod, *tokenizer.encode(document.text)][:length] for document in documents]
    return torch.tensor([row for row in rows if len(row) == length])
