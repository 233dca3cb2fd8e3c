"""Balancing while a mixture of experts trains, and the recipe of the finished ones, on a small text."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import cast

import pytest
import torch

from dslearn.data import Document
from dslearn.models import LanguageModel, ModelConfig, evaluate_mixture, load_card, load_model
from dslearn.training import (
    BALANCES,
    BiasBalance,
    LanguageModule,
    MixtureRecipe,
    MixtureText,
    balance_loss,
    fit,
    fit_mixture,
    settle_biases,
    split_parameters,
    train_mixtures,
)
from dslearn.training import mixture as mixture_module
from dslearn.training.language import losses_of
from dslearn.training.threads import loss_by_threads

SHAPE = {"dim": 16, "num_layers": 2, "num_heads": 2, "num_experts": 4, "experts_top_k": 2, "expert_dim": 8}
TINY = MixtureRecipe(shape=SHAPE, steps=6, batch_size=2, seq_len=24, settle_steps=3)


def model(balance: str = "bias") -> LanguageModel:
    fields = {"vocab_size": 30, "feed_forward": "moe", "balance": balance, **SHAPE}
    return LanguageModel(ModelConfig.from_dict(fields))


def batch_at(step: int) -> torch.Tensor:
    return torch.randint(0, 30, (4, 25), generator=torch.Generator().manual_seed(step))


def test_the_loss_is_that_of_the_text_and_a_share_of_the_balance() -> None:
    network = model("aux")
    losses = losses_of(network, batch_at(0), balance_weight=0.5)
    expected = losses["cross_entropy"] + 0.5 * cast(torch.Tensor, balance_loss(network))
    torch.testing.assert_close(losses["loss"], expected)
    assert "balance_loss" not in losses_of(model("none"), batch_at(0))


def test_threads_count_every_choice() -> None:
    network = model()
    plain = losses_of(network, batch_at(0))
    shared = loss_by_threads(network, batch_at(0), losses_of, threads=2, pieces=2)
    assert plain["wanted"].sum(dim=1).tolist() == [4 * 24 * 2] * 2
    torch.testing.assert_close(2 * shared["wanted"], plain["wanted"])


def test_the_bias_moves_as_the_layer_itself_would() -> None:
    network, by_hand = model(), model()
    by_hand(batch_at(0)[:, :-1])
    fit(LanguageModule(network, steps=2), batch_at, callbacks=[BiasBalance(0.1, decay=0.5)])
    for layer, expected in zip(network.mixtures, by_hand.mixtures, strict=True):
        expected.update_bias(0.1)
        torch.testing.assert_close(layer.router.bias, expected.router.bias)
        assert layer.router.bias.any()


def test_the_bias_comes_to_rest_with_the_run() -> None:
    network = model()
    fit(LanguageModule(network, steps=1), batch_at, callbacks=[BiasBalance(0.1)])
    assert not any(layer.router.bias.any() for layer in network.mixtures)


@pytest.mark.parametrize(("rate", "decay"), [(-0.1, 0.5), (float("nan"), 0.5), (0.1, 1.5)])
def test_a_rate_that_cannot_be_is_refused(rate: float, decay: float) -> None:
    with pytest.raises(ValueError, match="rate must be at least 0 and decay within 0…1; got rate="):
        BiasBalance(rate, decay=decay)


def test_biases_settle_while_the_weights_stand_still() -> None:
    network, batches = model(), [batch_at(0)] * 60
    before, weights = evaluate_mixture(network, batch_at(0)), [p.clone() for p in network.parameters()]
    settle_biases(network, batches, rate=0.02)
    after = evaluate_mixture(network, batch_at(0))
    for worse, better in zip(before.reports, after.reports, strict=True):
        assert better.utilisation > worse.utilisation + 0.05
    assert all(torch.equal(was, now) for was, now in zip(weights, network.parameters(), strict=True))


def test_the_recipe_ends_with_biases_at_rest() -> None:
    networks = [model(), model()]
    for network, steps in zip(networks, (0, 5), strict=True):
        fit_mixture(network, replace(TINY, settle_steps=steps), batch_at)
    settle_biases(networks[0], [batch_at(TINY.steps + number) for number in range(5)], rate=TINY.bias_rate / 10)
    for settled, by_recipe in zip(networks[0].mixtures, networks[1].mixtures, strict=True):
        torch.testing.assert_close(settled.router.bias, by_recipe.router.bias)


def test_routers_and_stacked_experts_are_no_matrices_to_muon() -> None:
    network = model()
    matrices, others = split_parameters(network)
    for layer in network.mixtures:
        for parameter in (layer.router.weight, layer.experts.gate_up, layer.experts.down):
            assert any(parameter is other for other in others)
    assert all(matrix.ndim == 2 for matrix in matrices)
    assert len(matrices) == 2 * 2  # query, key and value in one, and out, of each layer


def test_evaluation_counts_what_it_reads() -> None:
    network = model()
    use = evaluate_mixture(network, torch.cat([batch_at(0), batch_at(1)]), rows=3)
    assert use.counts.sum(dim=1).tolist() == [8 * 24 * 2] * 2
    assert use.dropped.tolist() == [0, 0]
    assert len(use.reports) == 2
    assert network.training
    with pytest.raises(ValueError, match="only a model with feed_forward='moe'"):
        evaluate_mixture(LanguageModel(ModelConfig(vocab_size=30, dim=16, num_layers=1, num_heads=2)), batch_at(0))


def test_evaluation_counts_what_is_dropped() -> None:
    config = replace(model("none").config, capacity_factor=0.5)
    use = evaluate_mixture(LanguageModel(config), batch_at(0))
    assert (use.counts.sum(dim=1) + use.dropped).tolist() == [4 * 24 * 2] * 2
    assert use.dropped.min() >= 4 * 24


def test_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="must be one of 'none', 'aux', 'bias', 'capacity'; got 'fair'"):
        MixtureRecipe().new_model("fair")


@pytest.fixture
def small_text(monkeypatch, tmp_path_factory) -> None:
    def documents(domain: str, split: str) -> list[Document]:
        return [Document(f"{split}{i}", domain, f"{domain} {split} {i} says: return self.{i}\n" * 8) for i in range(3)]

    monkeypatch.setattr(mixture_module, "load_documents", documents)
    monkeypatch.setenv("DSLEARN_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_held_out_text_is_mixed_and_always_the_same(small_text: None) -> None:
    text = MixtureText(prose_share=0.3)
    held_out = text.held_out(seq_len=20, tokens=200)
    assert held_out.shape == (10, 21)
    assert torch.equal(held_out, text.held_out(seq_len=20, tokens=200))


@pytest.mark.slow
def test_the_recipe_resumes_and_leaves_cards(small_text: None, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(MixtureText, "held_out", lambda self, *, seq_len: self.train(TINY).batch(99))
    train_mixtures(tmp_path, TINY, tell=lambda line: None)
    for name in BALANCES:
        card = load_card(tmp_path / f"mixture_{name}")
        assert card["metrics"]["test_bytes"] == 2 * 24
        assert load_model(tmp_path / f"mixture_{name}").config.balance == BALANCES[name]["balance"]
    told: list[str] = []
    train_mixtures(tmp_path, TINY, tell=told.append)
    assert told == []


def test_an_interrupted_run_ends_with_the_same_weights(small_text: None, tmp_path) -> None:
    batches = MixtureText(prose_share=0.3).train(TINY).batch
    whole = TINY.new_model("bias")
    fit_mixture(whole, TINY, batches)

    def stopped(step: int) -> torch.Tensor:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return batches(step)

    with pytest.raises(KeyboardInterrupt, match="Stopped after step 4 of 6"):
        fit_mixture(TINY.new_model("bias"), TINY, stopped, folder=tmp_path)
    resumed = TINY.new_model("bias")
    fit_mixture(resumed, TINY, batches, folder=tmp_path)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
