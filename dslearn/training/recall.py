"""Associative recall: a small dense model learns to look things up, then its selectors learn where it looks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dslearn.data.recall import RecallBatch, RecallTask, recall_curriculum
from dslearn.models import LanguageModel, ModelConfig, with_sparse_attention
from dslearn.training.language import selector_loss

BATCH = 64


def train_recall(*, seed: int) -> LanguageModel:
    """A two-layer dense model trained on :func:`recall_curriculum`, in about a minute on two cores.

    Its head is not tied to the embedding: with a tied one it stayed at chance, since a key would have to be matched to
    its earlier self and predict something else by the same vector.
    """
    symbols = recall_curriculum()[0][0].vocab_size
    config = ModelConfig(vocab_size=symbols, dim=64, num_layers=2, num_heads=2, hidden_dim=171, tied=False)
    model = LanguageModel(config, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    step = 0
    for task, steps in recall_curriculum():
        for _ in range(steps):
            _update(model, optimizer, task.batch(seed, step, BATCH))
            step += 1
    return model


def train_recall_selectors(
    dense: LanguageModel,
    *,
    seed: int,
    block_size: int = 4,
    top_k: int = 8,
    warmup_steps: int = 200,
    sparse_steps: int = 40,
) -> LanguageModel:
    """The dense model with selectors trained by the two published stages, at the last task of the curriculum.

    Args:
        warmup_steps: the selectors alone, on dense attention.
        sparse_steps: everything, on what the selectors choose.

    Source: DeepSeek-V3.2-Exp (2025), section 2.1.
    """
    task = recall_curriculum()[-1][0]
    model = with_sparse_attention(dense, seed=seed, block_size=block_size, top_k=top_k)
    model.train()
    selectors = [parameter for name, parameter in model.named_parameters() if "index_" in name]
    batches = [task.batch(seed, 10**6 + i, BATCH // 2) for i in range(warmup_steps + sparse_steps)]  # none met before
    model.set_stage("warmup")
    _anneal(model, selectors, 1e-2, batches[:warmup_steps])
    model.set_stage("sparse")
    _anneal(model, list(model.parameters()), 1e-3, batches[warmup_steps:])
    return model


@torch.no_grad()
def recall_accuracy(model: LanguageModel, task: RecallTask, *, seed: int, sequences: int = 256) -> float:
    """Share of the questions of fresh test sequences that the model answers rightly."""
    training = model.training
    model.eval()
    tokens, targets = task.evaluation_batch(seed + 10**6, 0, sequences)
    right = model(tokens).argmax(dim=-1) == targets
    model.train(training)
    return right[targets >= 0].float().mean().item()


def _anneal(model: LanguageModel, parameters: list[nn.Parameter], rate: float, batches: list[RecallBatch]) -> None:
    """A step a batch, the rate falling to a twentieth."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=max(1, len(batches)))
    for batch in batches:
        _update(model, optimizer, batch)
        decay.step()


def _update(model: LanguageModel, optimizer: torch.optim.Optimizer, batch: RecallBatch) -> None:
    loss = F.cross_entropy(model(batch.tokens).flatten(0, 1), batch.targets.flatten())
    selecting = selector_loss(model)
    optimizer.zero_grad()
    (loss if selecting is None else loss + selecting).backward()
    optimizer.step()
