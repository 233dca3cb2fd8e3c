"""A language model whose feed-forward layers are mixtures of experts."""

from __future__ import annotations

import pytest
import torch

from dslearn.models import LanguageModel, ModelConfig, generate

SHAPE = {"vocab_size": 50, "dim": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 24, "feed_forward": "moe"}
KINDS = [
    {"num_experts": 8, "experts_top_k": 2, "expert_dim": 6},
    {"num_experts": 12, "experts_top_k": 4, "expert_dim": 4, "num_shared": 1, "num_groups": 4, "top_groups": 2},
    {"num_experts": 4, "experts_top_k": 1, "expert_dim": 8, "score": "softmax", "balance": "aux"},
]


@pytest.fixture(params=KINDS)
def model(request) -> LanguageModel:
    model = LanguageModel(ModelConfig(**SHAPE, **request.param))
    for name, parameter in model.named_parameters():
        if name.endswith(("down", "out.weight")):
            torch.nn.init.normal_(parameter, std=0.3)  # what writes to the stream starts at zero
    return model


def test_parameters_are_counted_by_formula(model) -> None:
    config = model.config
    assert sum(parameter.numel() for parameter in model.parameters()) == config.num_parameters
    idle = config.num_experts - config.experts_top_k
    expert = model.mixtures[0].experts.gate_up[0].numel() + model.mixtures[0].experts.down[0].numel()
    assert config.num_parameters - config.num_active_parameters == config.num_layers * idle * expert


def test_the_dropless_mixture_is_causal(model) -> None:
    tokens = torch.randint(0, 50, (2, 23))
    before = model(tokens)
    for changed in (0, 7, 22):
        other = tokens.clone()
        other[:, changed] = (other[:, changed] + 1) % 50
        after = model(other)
        torch.testing.assert_close(after[:, :changed], before[:, :changed], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(after[:, changed], before[:, changed], atol=1e-3)


def test_it_writes_the_same_with_a_cache(model) -> None:
    prompt = torch.randint(0, 50, (2, 5))
    cached, plain = (generate(model, prompt, 12, temperature=0.0, cached=cached) for cached in (True, False))
    assert torch.equal(cached, plain)


def test_every_part_learns(model) -> None:
    tokens = torch.randint(0, 50, (4, 32))
    model(tokens).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_its_config_survives_as_plain_data(model) -> None:
    assert ModelConfig.from_dict(model.config.to_dict()) == model.config
    assert LanguageModel(ModelConfig(**{**SHAPE, "feed_forward": "dense"})).mixtures == []


def test_a_mixture_that_cannot_be_is_refused(unchecked) -> None:
    with pytest.raises(ValueError, match=r"top_k must be from 1 to num_experts=4; got 5"):
        LanguageModel(ModelConfig(**SHAPE, num_experts=4, experts_top_k=5))
    with pytest.raises(ValueError, match="feed_forward must be one of 'dense', 'moe'; got 'sparse'"):
        ModelConfig(**{**SHAPE, "feed_forward": "sparse"})
