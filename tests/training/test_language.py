from __future__ import annotations

import math

import pytest
import torch

from dslearn.models import LanguageModel, ModelConfig
from dslearn.training import LanguageModule, SelectorStages, StepBatches, fit, mix_domains, next_token_loss
from dslearn.training.language import losses_of
from dslearn.training.threads import loss_by_threads, share_parameters


def model(attention: str = "dense") -> LanguageModel:
    shape = {"dim": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 24, "block_size": 4, "top_k": 2}
    network = LanguageModel(ModelConfig(vocab_size=30, attention=attention, **shape))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def gradients(network: LanguageModel) -> dict[str, torch.Tensor | None]:
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def test_loss_is_the_mean_surprise_at_the_next_token() -> None:
    network = model()
    batch = torch.randint(0, 30, (2, 5))
    surprise = 0.0
    for row in batch:
        for t in range(4):
            surprise -= network(row[None, : t + 1])[0, -1].log_softmax(-1)[row[t + 1]].item()
    assert next_token_loss(network, batch).item() == pytest.approx(surprise / 8, rel=1e-5)


@pytest.mark.parametrize("attention", ["dense", "sparse"])
@pytest.mark.parametrize("pieces", [1, 2, 6])
def test_threads_give_the_losses_and_gradients_of_one(attention: str, pieces: int) -> None:
    network = model(attention)
    batch = torch.randint(0, 30, (6, 21))
    plain = losses_of(network, batch)
    plain["loss"].backward()
    expected = gradients(network)
    network.zero_grad()
    shared = loss_by_threads(network, batch, losses_of, threads=2, pieces=pieces)
    shared["loss"].backward()
    assert shared.keys() == plain.keys()
    for name in plain:
        torch.testing.assert_close(shared[name], plain[name])
    for name, gradient in gradients(network).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def test_threads_refuse_a_batch_they_cannot_cut() -> None:
    with pytest.raises(ValueError, match="pieces must divide the batch's 6 rows, got 4"):
        loss_by_threads(model(), torch.zeros(6, 3, dtype=torch.long), losses_of, threads=2, pieces=4)


def test_a_copy_shares_parameters_and_keeps_its_own_notes() -> None:
    network = model("sparse")
    other = share_parameters(network)
    assert all(a is b for a, b in zip(network.parameters(), other.parameters(), strict=True))
    other.set_stage("warmup")
    assert network.attention_layers[0].stage == "sparse"


def test_warmup_trains_the_selectors_alone_then_everything_learns() -> None:
    tokens = torch.randint(0, 30, (4, 21))
    network = model("sparse")
    start = {name: value.clone() for name, value in network.state_dict().items()}

    def changed() -> set[str]:
        return {name for name, value in network.state_dict().items() if not torch.equal(value, start[name])}

    selectors = {name for name in start if "index_" in name}
    stages = SelectorStages(dense_steps=0, warmup_steps=3)
    curve = fit(LanguageModule(network, steps=3), lambda _: tokens, callbacks=[stages])
    assert changed() == selectors
    assert len(curve.steps["selector_loss"]) == 3
    assert all(parameter.requires_grad for parameter in network.parameters())

    start = {name: value.clone() for name, value in network.state_dict().items()}
    fit(LanguageModule(network, steps=2), lambda _: tokens, callbacks=[SelectorStages(dense_steps=2, warmup_steps=0)])
    assert changed() == set(start) - selectors

    start = {name: value.clone() for name, value in network.state_dict().items()}
    fit(LanguageModule(network, steps=2), lambda _: tokens, callbacks=[SelectorStages(dense_steps=0, warmup_steps=0)])
    assert changed() == set(start)


def test_warmup_lowers_the_selector_loss() -> None:
    tokens = torch.randint(0, 30, (4, 25))
    stages = SelectorStages(dense_steps=0, warmup_steps=25)
    losses = fit(LanguageModule(model("sparse"), steps=25), lambda _: tokens, callbacks=[stages]).steps["selector_loss"]
    assert losses[-1] < losses[0]


def test_stages_follow_one_another() -> None:
    stages = SelectorStages(dense_steps=2, warmup_steps=1)
    assert [stages.stage_at(step) for step in range(5)] == ["dense", "dense", "warmup", "sparse", "sparse"]
    with pytest.raises(ValueError, match="negative lengths, got dense_steps=-1, warmup_steps=0"):
        SelectorStages(dense_steps=-1, warmup_steps=0)


def test_step_batches_begin_where_they_are_told_every_time() -> None:
    batches = StepBatches(torch.tensor, 3, 6)
    assert [int(batch) for batch in batches] == [3, 4, 5]
    assert [int(batch) for batch in batches] == [3, 4, 5]


def test_the_smaller_domain_repeats_until_it_has_its_share() -> None:
    mixed = mix_domains(torch.zeros(900, dtype=torch.int32), torch.ones(10, dtype=torch.int32), minor_share=0.1)
    assert math.isclose((mixed == 1).float().mean().item(), 0.1, abs_tol=0.005)
    assert (mixed == 0).sum() == 900
    zeros = torch.zeros(9, dtype=torch.int32)
    assert len(mix_domains(zeros, zeros, minor_share=0.01)) == 18
    with pytest.raises(ValueError, match="minor_share must be between 0 and 1, got 1"):
        mix_domains(zeros, zeros, minor_share=1.0)
    with pytest.raises(ValueError, match="Both domains need tokens, got 9 and 0"):
        mix_domains(zeros, zeros[:0], minor_share=0.5)
