from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from dslearn.models import LanguageModel, ModelConfig
from dslearn.training import MuonAdamW, OptimizerConfig, split_parameters
from dslearn.training.optimizer import SinglePrecisionMuon, orthogonal


def model(*, tied: bool = True) -> LanguageModel:
    return LanguageModel(ModelConfig(vocab_size=30, dim=16, num_layers=1, num_heads=2, hidden_dim=24, tied=tied))


def step(network: LanguageModel, optimizer: torch.optim.Optimizer, seed: int) -> None:
    tokens = torch.randint(0, 30, (2, 9), generator=torch.Generator().manual_seed(seed))
    network.zero_grad()
    F.cross_entropy(network(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    optimizer.step()


@pytest.mark.parametrize("tied", [True, False])
def test_hidden_matrices_go_to_muon_and_the_rest_to_adamw(tied: bool) -> None:
    network = model(tied=tied)
    matrices, others = split_parameters(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(p)].split(".")[-2] for p in matrices} == {"qkv", "out", "gate_up", "down"}
    assert "embedding.weight" in {names[id(p)] for p in others}
    assert len(matrices) + len(others) == len(names)


def test_equals_the_two_optimizers_apart() -> None:
    one, two = model(), model()
    both = MuonAdamW(*split_parameters(one), matrix_lr=0.03, other_lr=0.002, weight_decay=0.1)
    matrices, others = split_parameters(two)
    muon = SinglePrecisionMuon(matrices, lr=0.03, weight_decay=0.1)
    adamw = torch.optim.AdamW(others, lr=0.002, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for seed in range(3):
        step(one, both, seed)
        step(two, muon, seed)
        adamw.step()
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_muon_is_pytorchs_up_to_its_bfloat16(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(shape, generator=generator)
    ours, theirs = (torch.nn.Parameter(first.clone()) for _ in range(2))
    kinds = {SinglePrecisionMuon: ours, torch.optim.Muon: theirs}
    optimizers = [kind([matrix], lr=0.1, weight_decay=0.1) for kind, matrix in kinds.items()]
    for _ in range(4):
        gradient = torch.randn(shape, generator=generator)
        for matrix, optimizer in zip(kinds.values(), optimizers, strict=True):
            matrix.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - first).norm()
    assert (ours - theirs).norm() < 0.02 * moved
    assert not torch.equal(ours, theirs)


def test_orthogonal_has_singular_values_near_one() -> None:
    matrix = torch.randn(20, 50, generator=torch.Generator().manual_seed(1)).double()
    values = torch.linalg.svdvals(orthogonal(matrix, (3.4445, -4.775, 2.0315)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_state_and_learning_rates_survive_saving() -> None:
    one = model()
    optimizer = OptimizerConfig().make(one)
    step(one, optimizer, 0)
    other = copy.deepcopy(one)
    restored = OptimizerConfig().make(other)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for both in (optimizer, restored):
        for group in both.param_groups:
            group["lr"] *= 0.5  # as a schedule does: it must reach the optimizers inside
    step(one, optimizer, 1)
    step(other, restored, 1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_learning_rate_of_zero_from_a_schedule_stops_everything() -> None:
    network = model()
    optimizer = OptimizerConfig().make(network)
    before = copy.deepcopy(network.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    step(network, optimizer, 0)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_schedule_rises_stays_and_falls() -> None:
    config = OptimizerConfig(warmup=0.1, decay=0.5)
    factors = [config.factor(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10:51] == [1.0] * 41
    assert factors[75] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.02)
    assert config.factor(200, 100) == 0.0


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"matrix_lr": -0.1}, "matrix_lr must be at least 0, got -0.1"),
        ({"decay": float("nan")}, "decay must be at least 0, got nan"),
        ({"warmup": 0.6, "decay": 0.6}, r"warmup \+ decay must be at most 1, got 0.6 \+ 0.6"),
    ],
)
def test_refuses_impossible_settings(field: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**field)
