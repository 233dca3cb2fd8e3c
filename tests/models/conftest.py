from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dslearn.models import LanguageModel, ModelConfig


@pytest.fixture
def small_model() -> Callable[..., LanguageModel]:
    """Makes models of two layers, with weights drawn large enough that every part of them shows in the logits."""

    def make(attention: str = "dense", *, selector: str = "tree", seed: int = 0, **shape: int) -> LanguageModel:
        fields = {"vocab_size": 50, "dim": 32, "num_layers": 2, "num_heads": 2, "hidden_dim": 48, "rank": 8} | shape
        config = ModelConfig(**fields, attention=attention, selector=selector, block_size=4, top_k=2)
        model = LanguageModel(config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return model.eval()

    return make
