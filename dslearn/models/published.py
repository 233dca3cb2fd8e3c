"""How large a published mixture of experts is: its parameters by formula, all of them and those that one token uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MixtureShape:
    """The numbers of a DeepSeek-V3-like model that decide its parameters.

    Attributes:
        vocab_size: rows of the embedding, and of a head of its own.
        dim: features a token.
        num_layers: layers in all, the first ``dense_layers`` of which have one feed-forward layer of ``dense_dim``.
        num_experts, experts_top_k, num_shared, expert_dim: routed experts, those a token uses, shared ones, and the
            features inside each.
        num_heads: attention heads.
        query_rank, key_value_rank: features that queries, and keys and values, are compressed to.
        head_dim, rope_dim, value_dim: a head's features without position, with position, and of its values.
    """

    vocab_size: int
    dim: int
    num_layers: int
    dense_layers: int
    dense_dim: int
    num_experts: int
    experts_top_k: int
    num_shared: int
    expert_dim: int
    num_heads: int
    query_rank: int
    key_value_rank: int
    head_dim: int
    rope_dim: int
    value_dim: int

    @property
    def num_parameters(self) -> int:
        """Numbers that are learned, the modules that predict further tokens left out."""
        return self._count(self.num_experts, tables=2)

    @property
    def num_active_parameters(self) -> int:
        """Numbers that one token multiplies: of the routed experts only its own, and not the embedding, where it is
        looked up."""
        return self._count(self.experts_top_k, tables=1)

    def _count(self, experts: int, *, tables: int) -> int:
        mixtures = self.num_layers - self.dense_layers
        mixture = (experts + self.num_shared) * 3 * self.dim * self.expert_dim + self.num_experts * self.dim
        feed_forward = self.dense_layers * 3 * self.dim * self.dense_dim + mixtures * mixture
        norms = (2 * self.num_layers + 1) * self.dim
        return tables * self.vocab_size * self.dim + self.num_layers * self._attention() + feed_forward + norms

    def _attention(self) -> int:
        """Multi-head latent attention: queries through one bottleneck, keys and values through another."""
        queries = self.dim * self.query_rank + self.query_rank * self.num_heads * (self.head_dim + self.rope_dim)
        latent = self.dim * (self.key_value_rank + self.rope_dim)
        keys_values = self.key_value_rank * self.num_heads * (self.head_dim + self.value_dim)
        out = self.num_heads * self.value_dim * self.dim
        return queries + latent + keys_values + out + self.query_rank + self.key_value_rank


# arXiv 2412.19437, section 4.2, and the published configuration of deepseek-ai/DeepSeek-V3 (vocab_size).
DEEPSEEK_V3 = MixtureShape(
    vocab_size=129_280,
    dim=7168,
    num_layers=61,
    dense_layers=3,
    dense_dim=18_432,
    num_experts=256,
    experts_top_k=8,
    num_shared=1,
    expert_dim=2048,
    num_heads=128,
    query_rank=1536,
    key_value_rank=512,
    head_dim=128,
    rope_dim=64,
    value_dim=128,
)
