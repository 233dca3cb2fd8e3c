from __future__ import annotations

import json

import pytest

from dslearn.models import LanguageModel, ModelConfig


@pytest.mark.parametrize("attention", ["dense", "sparse"])
def test_formula_counts_every_parameter_once(attention: str) -> None:
    config = ModelConfig(vocab_size=101, dim=24, num_layers=3, num_heads=3, hidden_dim=40, rank=8, attention=attention)
    assert config.num_parameters == sum(parameter.numel() for parameter in LanguageModel(config).parameters())


def test_survives_json() -> None:
    config = ModelConfig(vocab_size=300, attention="sparse", block_size=16, top_k=3, selector="flat")
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"dim": 0}, "dim must be an integer of at least 1, got 0"),
        ({"top_k": 0}, "top_k must be an integer of at least 1, got 0"),
        ({"num_layers": True}, "num_layers must be an integer of at least 1, got True"),
        ({"branching": 1}, "branching must be an integer of at least 2, got 1"),
        ({"dim": 250, "num_heads": 4}, "got dim=250 with num_heads=4"),
        ({"attention": "linear"}, "attention must be one of 'dense', 'sparse'; got 'linear'"),
        ({"selector": "oracle"}, "selector must be one of 'tree', 'flat', 'window', 'random'; got 'oracle'"),
        ({"rope_base": 0.5}, "rope_base must be greater than 1, got 0.5"),
    ],
)
def test_says_what_was_given_and_what_is_allowed(unchecked, field: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict({"vocab_size": 10, **field})


def test_refuses_unknown_and_absent_fields() -> None:
    with pytest.raises(ValueError, match=r"Unknown fields depth in a model's config; allowed: vocab_size, dim"):
        ModelConfig.from_dict({"vocab_size": 10, "depth": 3})
    with pytest.raises(ValueError, match="needs vocab_size; got only dim"):
        ModelConfig.from_dict({"dim": 32})
