from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dslearn.data import ByteTokenizer
from dslearn.demos.moe.routing import Networks, fair_use, route_text
from dslearn.models import LanguageModel, ModelConfig

TEXT = "def mean(values):\n    return sum(values) / len(values)\n" * 3


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Tiny ones that have learned nothing; the second has no room for all."""
    shape = {"vocab_size": 257, "dim": 16, "num_layers": 2, "num_heads": 2, "feed_forward": "moe"}
    experts = {"num_experts": 16, "experts_top_k": 2, "expert_dim": 4}
    kinds = {"bias": {"balance": "bias"}, "capacity 1.2": {"balance": "none", "capacity_factor": 1.2}}
    models = {
        name: LanguageModel(ModelConfig.from_dict({**shape, **experts, **kind}), seed=1).eval()
        for name, kind in kinds.items()
    }
    return Networks(models, window=64)


def test_choices_and_weights_are_those_of_the_layers(networks: Networks) -> None:
    text = TEXT[:40]
    routed = route_text(networks, "bias", text)
    model = networks.models["bias"]
    with torch.no_grad():
        logits = model(torch.tensor([[256, *text.encode()]]))
    for layer, mixture in enumerate(model.mixtures):
        assert mixture.routing is not None
        assert torch.equal(routed.experts[layer].flatten(), mixture.routing.expert.view(-1, 2)[1:].flatten())
        torch.testing.assert_close(routed.weights[layer].flatten(), mixture.routing.weight.view(-1, 2)[1:].flatten())
    expected = F.cross_entropy(logits[0, :-1], torch.tensor(list(text.encode()))).item()
    assert routed.nats == pytest.approx(expected, rel=1e-5)


def test_every_byte_of_a_longer_text_is_routed_once(networks: Networks) -> None:
    routed = route_text(networks, "bias", TEXT)
    assert routed.experts.shape == routed.weights.shape == (2, len(TEXT), 2)
    assert routed.loads(0).sum() == 2 * len(TEXT)
    assert torch.equal(routed.experts[:, :63], route_text(networks, "bias", TEXT[:63]).experts)
    model = networks.models["bias"]
    with torch.no_grad():
        model(torch.tensor([list(TEXT[62:126].encode())]))  # the second piece begins with the byte before it
    for layer, mixture in enumerate(model.mixtures):
        assert mixture.routing is not None
        assert torch.equal(routed.experts[layer, 63:126], mixture.routing.expert.view(-1, 2)[1:])


def test_what_finds_no_room_is_dropped_and_counted(networks: Networks) -> None:
    routed = route_text(networks, "capacity 1.2", TEXT)
    dropped = int((routed.weights[1] == 0).sum())
    assert dropped > 0
    assert routed.loads(1).sum() + dropped == 2 * len(TEXT)
    assert routed.report(1).drop_rate == pytest.approx(dropped / (2 * len(TEXT)))


def test_a_character_stands_for_its_first_byte(networks: Networks) -> None:
    routed = route_text(networks, "bias", "aä😀b")
    assert routed.characters == "aä😀b"
    assert routed.first_byte.tolist() == [0, 1, 3, 7]
    assert routed.experts.shape[1] == len(ByteTokenizer().encode("aä😀b"))


def test_long_texts_are_cut_between_characters(networks: Networks) -> None:
    routed = route_text(networks, "bias", "x" + "ä" * 5000)
    assert routed.shortened
    assert routed.characters == "x" + "ä" * 1023
    assert not route_text(networks, "bias", "ä" * 1024).shortened


def test_lots_are_fairer_the_more_are_drawn() -> None:
    few, many = (fair_use(count, 16, 2) for count in (50, 2000))
    assert 0.3 < few < many < 1
