from __future__ import annotations

import pytest
import torch

from dslearn.data import load_bpe
from dslearn.demos.attention.pair import Pair
from dslearn.models import LanguageModel, ModelConfig


@pytest.fixture(scope="session")
def pair() -> Pair:
    """Both views of a tiny model that has learned nothing, but whose heads choose."""
    tokenizer = load_bpe()
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        dim=32,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        attention="sparse",
        block_size=4,
        top_k=3,
        rank=4,
    )
    model = LanguageModel(config, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for layer in model.attention_layers:  # they begin at zero: without this, no layer would matter
        torch.nn.init.normal_(layer.out.weight, generator=generator)
    return Pair.of(model, tokenizer, context=128)
