"""Writing with a language model, one token after another."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.models.transformer import LanguageModel


@torch.inference_mode()
def generate_tokens(
    model: LanguageModel,
    tokens: Int[Tensor, "batch tokens"],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    cached: bool = True,
) -> Iterator[Int[Tensor, " batch"]]:
    """The continuation of each sequence of a batch, a token at a time, as it is written.

    Args:
        tokens: the prompts, all of one length of at least one token.
        max_new_tokens: how many tokens are written.
        temperature: divides the logits; 0 takes the likeliest token.
        top_p: draw among the likeliest tokens that together have this probability; 1 draws among all.
            Source: nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751.
        seed: of the draws.
        cached: keep keys and values, so that each token costs one pass over one token. The same tokens come out
            without, at the price of a pass over everything for each.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """
    _require_valid(model, tokens, max_new_tokens, temperature, top_p)
    generator = torch.Generator(device=model.device).manual_seed(seed)
    batch, prompt = tokens.shape
    written = unread = tokens.to(model.device)
    caches = model.new_caches(batch, prompt + max_new_tokens) if cached else None
    training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            logits = model(unread if cached else written, caches)[:, -1]
            drawn = draw(logits, temperature=temperature, top_p=top_p, generator=generator)
            yield drawn
            unread = drawn[:, None]
            written = torch.cat([written, unread], dim=1)
    finally:
        model.train(training)


def generate(
    model: LanguageModel,
    tokens: Int[Tensor, "batch tokens"],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    cached: bool = True,
) -> Int[Tensor, "batch longer"]:
    """The prompts with `max_new_tokens` tokens written after each; arguments and errors as `generate_tokens`."""
    new = generate_tokens(model, tokens, max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, cached=cached)
    return torch.cat([tokens.to(model.device), *(drawn[:, None] for drawn in new)], dim=1)


def draw(
    logits: Float[Tensor, "batch vocab"], *, temperature: float, top_p: float, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """One token for each row of logits."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = (logits.float() / temperature).softmax(dim=-1)
    if top_p < 1:
        probabilities = nucleus(probabilities, top_p)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def nucleus(probabilities: Float[Tensor, "batch vocab"], top_p: float) -> Float[Tensor, "batch vocab"]:
    """The fewest likeliest tokens whose probabilities reach `top_p`, the rest zero; not normalised again."""
    ordered, tokens = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered  # the likeliest has nothing before it and always stays
    return torch.zeros_like(ordered).scatter(-1, tokens, ordered.where(before < top_p, 0.0))


def _require_valid(model: LanguageModel, tokens: Tensor, max_new_tokens: int, temperature: float, top_p: float) -> None:
    if tokens.ndim != 2 or tokens.numel() == 0:
        raise ValueError(f"tokens must be (batch, tokens) with at least one token, got {tuple(tokens.shape)}")
    vocab_size = model.config.vocab_size
    if tokens.min() < 0 or tokens.max() >= vocab_size:
        raise ValueError(f"tokens must be in 0…{vocab_size - 1}, got {tokens.min().item()}…{tokens.max().item()}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, got {max_new_tokens}")
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
