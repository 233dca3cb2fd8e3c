from __future__ import annotations

import pytest
import torch

from dslearn.models import generate, generate_tokens
from dslearn.models.generate import nucleus

KINDS = [("dense", "tree"), ("sparse", "tree"), ("sparse", "flat"), ("sparse", "window"), ("sparse", "random")]


@pytest.mark.parametrize(("attention", "selector"), KINDS)
def test_cached_greedy_writing_equals_uncached(small_model, attention: str, selector: str) -> None:
    model = small_model(attention, selector=selector)
    prompts = torch.randint(0, 50, (2, 11))
    cached = generate(model, prompts, 9, temperature=0.0)
    assert torch.equal(cached, generate(model, prompts, 9, temperature=0.0, cached=False))
    assert torch.equal(cached[:, :11], prompts)
    assert cached.shape == (2, 20)


@pytest.mark.parametrize(("attention", "selector"), KINDS)
def test_cached_logits_equal_uncached_in_pieces_of_any_size(small_model, attention: str, selector: str) -> None:
    model = small_model(attention, selector=selector)
    tokens = torch.randint(0, 50, (2, 31))
    caches = model.new_caches(2, 31)
    pieces = [model(piece, caches) for piece in tokens.split([1, 6, 1, 13, 2, 8], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), atol=1e-4, rtol=1e-4)


def test_each_sequence_of_a_batch_is_written_as_if_alone(small_model) -> None:
    model = small_model("sparse")
    prompts = torch.randint(0, 50, (2, 6))
    together = generate(model, prompts, 8, temperature=0.0)
    alone = [generate(model, prompt[None], 8, temperature=0.0) for prompt in prompts]
    assert torch.equal(together, torch.cat(alone))


def test_streaming_writes_what_generate_returns(small_model) -> None:
    model = small_model()
    prompt = torch.tensor([[5, 6]])
    streamed = list(generate_tokens(model, prompt, 8, temperature=0.8, top_p=0.9, seed=4))
    assert torch.equal(generate(model, prompt, 8, temperature=0.8, top_p=0.9, seed=4)[0, 2:], torch.cat(streamed))


def test_draws_follow_the_seed(small_model) -> None:
    model = small_model()
    prompt = torch.tensor([[5, 6]])
    assert torch.equal(generate(model, prompt, 20, seed=1), generate(model, prompt, 20, seed=1))
    assert not torch.equal(generate(model, prompt, 20, seed=1), generate(model, prompt, 20, seed=2))


def test_temperature_sharpens(small_model) -> None:
    model = small_model()
    prompts = torch.tensor([[5, 6]]).expand(400, -1)
    likeliest = model(prompts[:1])[0, -1].argmax()
    share = [(generate(model, prompts, 1, temperature=t)[:, -1] == likeliest).float().mean() for t in (0.05, 5.0)]
    assert share[0] > share[1] + 0.1


def test_nucleus_keeps_the_fewest_that_reach_top_p() -> None:
    probabilities = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    assert nucleus(probabilities, 0.7).tolist() == [[0.0, 0.5, 0.0, 0.25]]
    assert nucleus(probabilities, 0.01).tolist() == [[0.0, 0.5, 0.0, 0.0]]
    torch.testing.assert_close(nucleus(probabilities, 1.0), probabilities)


def test_nothing_asked_nothing_written(small_model) -> None:
    prompt = torch.tensor([[5, 6]])
    assert torch.equal(generate(small_model(), prompt, 0), prompt)


def test_restores_the_mode_of_the_model(small_model) -> None:
    model = small_model().train()
    generate(model, torch.tensor([[5, 6]]), 2)
    assert model.training


def test_leaves_no_gradients_and_no_inference_tensors_behind(small_model) -> None:
    model = small_model()
    written = generate(model, torch.tensor([[5, 6]]), 3)
    model(written).sum().backward()
    assert model.embedding.weight.grad is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": torch.tensor([[50]])}, "tokens must be in 0…49, got 50…50"),
        ({"tokens": torch.tensor([[-1]])}, "tokens must be in 0…49, got -1…-1"),
        ({"tokens": torch.zeros(1, 0, dtype=torch.long)}, r"at least one token, got \(1, 0\)"),
        ({"max_new_tokens": -1}, "max_new_tokens must be at least 0, got -1"),
        ({"temperature": -0.5}, "temperature must be at least 0, got -0.5"),
        ({"temperature": float("nan")}, "temperature must be at least 0, got nan"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
    ],
)
def test_refuses_what_makes_no_sense(small_model, arguments: dict, message: str) -> None:
    valid = {"tokens": torch.tensor([[1]]), "max_new_tokens": 2}
    with pytest.raises(ValueError, match=message):
        generate(small_model(), **(valid | arguments))
