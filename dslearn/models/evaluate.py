"""How well a language model predicts text, in bits for every byte."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.data import Document, Tokenizer
from dslearn.models.transformer import LanguageModel
from dslearn.moe import LoadReport, load_report


@torch.no_grad()
def token_nats(
    model: LanguageModel, tokens: Int[Tensor, " tokens"], *, context: int, stride: int
) -> Float[Tensor, " targets"]:
    """−ln p of every token but the first, each given the `context − stride` tokens before it, or more, where there are.

    Windows of `context` tokens start every `stride` tokens; of each window only what the one before it did not
    predict is counted. Every token is therefore predicted exactly once.
    """
    pieces = []
    done = 0  # targets predicted so far; target i is token i + 1
    for start in range(0, max(1, len(tokens) - 1 - context + stride), stride):
        window = tokens[start : start + context + 1].long().to(model.device)
        logits = model(window[None, :-1])[0].float()
        nats = F.cross_entropy(logits, window[1:], reduction="none")
        pieces.append(nats[done - start :].cpu())
        done = start + len(window) - 1
    return torch.cat(pieces)


def evaluate_bits_per_byte(
    model: LanguageModel,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    context: int = 2048,
    stride: int | None = None,
) -> float:
    """Bits the model needs for each UTF-8 byte of the documents: total nats / ln 2 / total bytes.

    Each document stands alone: it begins after an end-of-document token, which is given, and closes with one, which is
    predicted and counted, so that the bits are those of a decodable code. Windows of `context` tokens advance by
    `stride` (half of `context` unless told), and every token is predicted exactly once.

    Raises:
        ValueError: the documents hold no bytes, or `stride` is not in 1…context.
    """
    stride = max(1, context // 2) if stride is None else stride
    if not 1 <= stride <= context:
        raise ValueError(f"stride must be in 1…context, got stride={stride} with context={context}")
    training = model.training
    model.eval()
    nats = total_bytes = 0.0
    for document in documents:
        ids = torch.tensor([tokenizer.eod, *tokenizer.encode(document.text), tokenizer.eod])
        nats += token_nats(model, ids, context=context, stride=stride).double().sum().item()
        total_bytes += len(document.text.encode())
    model.train(training)
    if not total_bytes:
        raise ValueError("Bits per byte need text, got documents without a single byte")
    return nats / math.log(2) / total_bytes


@dataclass(frozen=True)
class MixtureUse:
    """What a model's mixtures did with a text.

    Attributes:
        nats: mean −ln p of a next token.
        counts: pairs of token and expert, of each layer and expert.
        dropped: pairs of each layer that found no room.
    """

    nats: float
    counts: Int[Tensor, "layers experts"]
    dropped: Int[Tensor, " layers"]

    @property
    def reports(self) -> list[LoadReport]:
        """How even the loads were, layer by layer."""
        return [load_report(c, dropped=int(d)) for c, d in zip(self.counts, self.dropped, strict=True)]


@torch.no_grad()
def evaluate_mixture(model: LanguageModel, batch: Int[Tensor, "batch window"], *, rows: int = 8) -> MixtureUse:
    """Reads a held-out batch, so many rows at once, and adds up who went where.

    Raises:
        ValueError: the model has no mixture of experts.
    """
    if not model.mixtures:
        raise ValueError("only a model with feed_forward='moe' has mixtures to evaluate")
    training = model.training
    model.eval()
    nats, counts, dropped = 0.0, [], []
    for part in batch.split(rows):
        logits = model(part[:, :-1])
        nats += F.cross_entropy(logits.float().flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
        routings = [layer.routing for layer in model.mixtures if layer.routing is not None]
        counts.append(torch.stack([routing.counts for routing in routings]))
        dropped.append(torch.tensor([routing.dropped for routing in routings]))
    model.train(training)
    targets = batch[:, 1:].numel()
    return MixtureUse(nats / targets, torch.stack(counts).sum(dim=0), torch.stack(dropped).sum(dim=0))
