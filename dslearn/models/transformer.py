"""A causal language model: pre-norm transformer with rotary positions, SwiGLU and, unless told, a tied head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dslearn.attention import AttentionCache, DenseAttention, DynamicSparseAttention
from dslearn.models.config import ModelConfig
from dslearn.moe import MoE

Stage = Literal["dense", "warmup", "sparse"]


class SwiGLU(nn.Module):
    """W_down (SiLU(W_gate x) ⊙ W_up x): the gated feed-forward layer.

    Source: Shazeer 2020, arXiv 2002.05202, equation 6.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """One layer: attention, then feed-forward, each added to the stream and each reading it normalised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim)
        self.attention = make_attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.dim)
        self.feed_forward = make_feed_forward(config)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], cache: AttentionCache | None = None
    ) -> Float[Tensor, "batch tokens dim"]:
        x = x + self.attention(self.attention_norm(x), cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class LanguageModel(nn.Module):
    """Next-token logits for every position of a batch of token sequences.

    Position t reads the tokens up to t alone, so one forward pass trains every position at once. The head is by default
    the embedding itself (Press and Wolf 2017, arXiv 1608.05859); norms are RMSNorm (arXiv 1910.07467).

    Args:
        config: the shape; `config.attention` chooses dense or dynamic sparse attention.
        seed: of the initial weights.
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.embedding_norm = nn.RMSNorm(config.dim)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.num_layers)])
        self.norm = nn.RMSNorm(config.dim)
        if not config.tied:
            self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        initialize(self, seed)

    def forward(
        self, tokens: Int[Tensor, "batch tokens"], caches: Sequence[AttentionCache] | None = None
    ) -> Float[Tensor, "batch tokens vocab"]:
        """Logits of the token after each given one.

        Args:
            tokens: ids in 0…vocab_size−1, at least one a sequence.
            caches: from `new_caches`; the tokens then continue those already in the caches, which grow by them.

        Raises:
            ValueError: there are no tokens, or the number of caches is not the number of layers.
        """
        if tokens.numel() == 0:
            raise ValueError(f"A language model needs at least one token a sequence, got shape {tuple(tokens.shape)}")
        x = self.embedding_norm(self.embedding(tokens))
        for block, cache in zip(self.blocks, self._each_cache(caches), strict=True):
            x = block(x, cache)
        return F.linear(self.norm(x), self.embedding.weight if self.config.tied else self.head.weight)

    def new_caches(self, batch_size: int, max_tokens: int) -> list[AttentionCache]:
        """Empty key-value caches, one a layer, with room for `max_tokens` tokens a sequence."""
        weight = self.embedding.weight
        return [
            layer.new_cache(batch_size, max_tokens, dtype=weight.dtype, device=weight.device)
            for layer in self.attention_layers
        ]

    @property
    def mixtures(self) -> list[MoE]:
        """The mixtures of experts, from the first layer to the last; empty where feed-forward is dense."""
        layers = (block.feed_forward for block in self.blocks)
        return [layer for layer in layers if isinstance(layer, MoE)]

    @property
    def attention_layers(self) -> list[DenseAttention | DynamicSparseAttention]:
        """The attention layers, from the first to the last."""
        return [block.attention for block in self.blocks]  # pyright: ignore[reportReturnType]

    def set_stage(self, stage: Stage) -> None:
        """Put every sparse layer into a stage of its training; dense layers have none.

        Raises:
            ValueError: the stage is unknown.
        """
        if stage not in get_args(Stage):
            raise ValueError(f"stage must be one of {', '.join(map(repr, get_args(Stage)))}; got {stage!r}")
        for layer in self.attention_layers:
            if isinstance(layer, DynamicSparseAttention):
                layer.stage = stage

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.weight.device

    def extra_repr(self) -> str:
        return f"{self.config.attention} attention, {self.config.num_parameters:,} parameters"

    def _each_cache(self, caches: Sequence[AttentionCache] | None) -> Sequence[AttentionCache | None]:
        if caches is None:
            return [None] * len(self.blocks)
        if len(caches) != len(self.blocks):
            raise ValueError(f"{len(self.blocks)} layers need as many caches, got {len(caches)}")
        return caches


def make_attention(config: ModelConfig) -> DenseAttention | DynamicSparseAttention:
    """The attention layer that a configuration names."""
    if config.attention == "dense":
        return DenseAttention(config.dim, config.num_heads, rope_base=config.rope_base)
    return DynamicSparseAttention(
        config.dim,
        config.num_heads,
        block_size=config.block_size,
        top_k=config.top_k,
        selector=config.selector,
        rank=config.rank,
        branching=config.branching,
        rope_base=config.rope_base,
    )


def make_feed_forward(config: ModelConfig) -> SwiGLU | MoE:
    """The feed-forward layer that a configuration names."""
    if config.feed_forward == "dense":
        return SwiGLU(config.dim, config.hidden_dim)
    return MoE(
        config.dim,
        config.expert_dim,
        config.num_experts,
        config.experts_top_k,
        num_shared=config.num_shared,
        score=config.score,
        balance=config.balance,
        capacity_factor=config.capacity_factor,
        overflow=config.overflow,
        num_groups=config.num_groups,
        top_groups=config.top_groups,
    )


def with_sparse_attention(model: LanguageModel, *, seed: int = 0, **shape: int | str) -> LanguageModel:
    """A copy of a trained dense model whose layers choose what they read; the selectors are new, all else is kept.

    Args:
        seed: of the selectors' weights.
        shape: fields of `ModelConfig` such as `block_size`, `top_k`, `selector`.

    Raises:
        ValueError: the model is sparse already, or a field is unknown.
    """
    if model.config.attention == "sparse":
        raise ValueError("The model has sparse attention already")
    config = ModelConfig.from_dict({**model.config.to_dict(), "attention": "sparse", **shape})
    sparse = LanguageModel(config, seed=seed).to(device=model.device, dtype=model.embedding.weight.dtype)
    missing, unexpected = sparse.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert all("index_" in name for name in missing)
    return sparse


@torch.no_grad()
def initialize(model: LanguageModel, seed: int) -> None:
    """Draw the weights anew: N(0, .02²) for the embedding, uniform of variance 1/(3·fan-in) for the other matrices.

    The two matrices that write to the stream (attention.out, feed_forward.down, an expert's too) start at zero, so that
    every layer begins as the identity and depth does not change the size of the first steps.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0)
        elif name == "embedding.weight":
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
        elif name.endswith(("attention.out.weight", "down.weight", ".down")):
            parameter.zero_()
        else:
            uniform = torch.rand(parameter.shape, generator=generator) * 2 - 1
            parameter.copy_(uniform * parameter.shape[-1] ** -0.5)
