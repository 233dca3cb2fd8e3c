"""How well a language model predicts text, in bits for every byte."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.data import Document, Tokenizer
from dslearn.models.transformer import LanguageModel


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
