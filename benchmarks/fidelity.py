"""How much of dense attention the tree's choice holds, beside the flat choice of the same selector.

Near the start of a text the search scores every block, as flat does. Only queries whose search descends count here: on
text they stand far in, on recall the selector reads finer blocks than it was trained for, so that there are enough.
"""

from __future__ import annotations

from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import quality
from benchmarks.report import Report
from dslearn.attention import BlockTree, DynamicSparseAttention
from dslearn.attention.select import search_parts
from dslearn.data import encode_documents, load_bpe, load_documents
from dslearn.data.recall import recall_curriculum
from dslearn.models import LanguageModel, load_model
from dslearn.training.threads import one_core_a_thread


def measure(report: Report) -> None:
    """On held-out text by the finished model, and on recall by the models of the quality rows."""
    if report.quick:
        return
    stream = encode_documents(load_documents("code", "test"), load_bpe(), shuffle_seed=0)
    add(report, "text", load_model("language"), stream[:16384][None], "16,384 held-out tokens, every layer and head")
    task = recall_curriculum()[-1][0]
    tokens = task.evaluation_batch(7, 0, 16).tokens
    with one_core_a_thread():
        learned = quality.recall_models(seed=0)["learned"]
    add(report, "recall", learned, tokens, "256 blocks of one token", block_size=1)


def add(
    report: Report, name: str, model: LanguageModel, tokens: Tensor, where: str, *, block_size: int | None = None
) -> None:
    """Rows of one model: mass the tree holds of what flat holds, and share of flat's past blocks it finds."""
    layers = [readings(model, row, block_size) for row in tokens]
    tree, flat, found, wanted = (sum(values) for values in zip(*layers, strict=True))
    report.add(f"fidelity-mass-{name}", tree / flat, "×", f"flat choice of the same selector; {where}")
    report.add(f"fidelity-blocks-{name}", found / wanted, "×", f"share of flat's past blocks; {where}")


@torch.no_grad()
def readings(model: LanguageModel, tokens: Tensor, block_size: int | None) -> tuple[float, ...]:
    """Over all layers: mass held by tree and by flat, flat's past blocks that the tree found, and all of flat's."""
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64)

    def read(layer: DynamicSparseAttention, inputs: tuple[Tensor, ...]) -> None:
        size = block_size or layer.block_size
        with patch.multiple(layer, block_size=size, selector="tree"):
            tree, mass = layer.reading(inputs[0])
            with patch.object(layer, "selector", "flat"):
                flat, _ = layer.reading(inputs[0])
        far = slice(descent(len(tokens), size, layer), None)
        mass, tree, flat = mass[:, :, far], tree[:, :, far], flat[:, :, far, 1:]
        own = tree[..., :1]
        held = [held_by(blocks, mass) for blocks in (tree, torch.cat([own, flat], dim=-1))]
        found = ((flat[..., None] == tree[..., None, 1:]).any(-1) & (flat >= 0)).sum()
        sums.add_(torch.stack([*held, found, (flat >= 0).sum()]))

    hooks = [layer.register_forward_pre_hook(read) for layer in model.attention_layers]
    model(tokens[None])
    for hook in hooks:
        hook.remove()
    return tuple(sums.tolist())


def held_by(blocks: Tensor, mass: Tensor) -> Tensor:
    """Sum of the mass on the blocks."""
    return mass.gather(-1, blocks.clamp(min=0)).masked_fill(blocks < 0, 0).sum()


def descent(tokens: int, block_size: int, layer: DynamicSparseAttention) -> int:
    """The first token whose search begins above the blocks."""
    tree = BlockTree((1, 1, 1), tokens, block_size=block_size, branching=layer.branching)
    parts = search_parts(range(tokens), tree, tokens, beam=layer.beam or layer.top_k)
    return next(part.start for part, level in parts if level)
