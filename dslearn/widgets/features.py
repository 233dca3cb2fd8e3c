"""Index features for an explorer: of a text whose pieces look for their like, and of a trained layer."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from dslearn.attention import DynamicSparseAttention
from dslearn.data import BPETokenizer, load_bpe, load_documents
from dslearn.models import LanguageModel

MEANING_RANK = 8  # numbers a piece of text gets: few, since they stand in the page


def of_a_page(tokens: int) -> tuple[Int8[Tensor, "heads tokens rank"], Int8[Tensor, "heads tokens rank"], list[str]]:
    """The first tokens of a held-out page; each kind of token has a direction, drawn at random, and looks for its like.

    Whole numbers from −127 to 127, of which products are exact in any language.
    """
    tokenizer = load_bpe()
    page = max(load_documents("prose", "test"), key=lambda document: len(document.text))
    ids = torch.tensor(tokenizer.encode(page.text)[:tokens])
    generator = torch.Generator().manual_seed(0)
    meaning = torch.nn.functional.normalize(
        torch.randn(tokenizer.vocab_size, MEANING_RANK, generator=generator), dim=-1
    )
    rows = (127 * meaning[ids]).round().to(torch.int8)[None]
    return rows, rows, _pieces(tokenizer, ids.tolist())


@torch.no_grad()
def of_a_model(
    model: LanguageModel, text: str, *, layer: int, tokens: int
) -> tuple[
    Float[Tensor, "heads tokens rank"],
    Float[Tensor, "heads tokens rank"],
    list[str],
    Float[Tensor, "heads tokens tokens"],
]:
    """What one sparse layer of a trained model chooses by while it reads ``text``, the text, and its dense attention.

    Args:
        layer: counted from 0, or backwards from −1.
        tokens: the first of the text that count.

    Raises:
        ValueError: the layer does not exist or is not sparse, or the text is empty.
    """
    layers = model.attention_layers
    if not -len(layers) <= layer < len(layers):
        raise ValueError(f"layer must lie in {-len(layers)}…{len(layers) - 1}; got {layer}")
    attention = layers[layer]
    if not isinstance(attention, DynamicSparseAttention):
        raise ValueError(f"layer {layer} is {type(attention).__name__}, which chooses nothing; a sparse one is needed")
    tokenizer = load_bpe()
    ids = tokenizer.encode(text)[:tokens]
    if not ids:
        raise ValueError("the text is empty: there is nothing to read")
    x = _input_of(model, attention, torch.tensor([ids], device=model.device))
    index_q, index_k, weights = (values[0] for values in attention.looking(x))
    return index_q, index_k, _pieces(tokenizer, ids), weights


def _pieces(tokenizer: BPETokenizer, ids: list[int]) -> list[str]:
    return [tokenizer.decode([token]) for token in ids]


def _input_of(model: LanguageModel, attention: nn.Module, ids: Tensor) -> Float[Tensor, "batch tokens dim"]:
    """What a layer's attention gets while the model reads ``ids``."""
    seen: list[Tensor] = []
    hook = attention.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        model(ids)
    finally:
        hook.remove()
    return seen[0]
