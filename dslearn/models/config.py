"""The shape of a language model, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from dslearn.moe import Balance, Overflow, Score

AttentionName = Literal["dense", "sparse"]
SelectorName = Literal["tree", "flat", "window", "random"]
FeedForwardName = Literal["dense", "moe"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides a `LanguageModel`'s parameters and its computation.

    With `tied` the head is the embedding itself; without, a matrix of its own. Fields from `block_size` to `branching`
    shape sparse attention and are read only where `attention="sparse"`; those from `num_experts` on shape a mixture of
    experts, as the arguments of `dslearn.moe.MoE` of these names do, and are read only where `feed_forward="moe"`.

    Raises:
        ValueError: a field is out of range; the message says what was given and what is allowed.
    """

    vocab_size: int
    dim: int = 256
    num_layers: int = 4
    num_heads: int = 4
    hidden_dim: int = 640
    rope_base: float = 10_000.0
    tied: bool = True
    attention: AttentionName = "dense"
    block_size: int = 32
    top_k: int = 8
    selector: SelectorName = "tree"
    rank: int = 16
    branching: int = 4
    feed_forward: FeedForwardName = "dense"
    num_experts: int = 16
    experts_top_k: int = 2
    expert_dim: int = 160
    num_shared: int = 0
    score: Score = "sigmoid"
    balance: Balance = "bias"
    capacity_factor: int | float | None = None
    overflow: Overflow = "drop"
    num_groups: int | None = None
    top_groups: int | None = None

    def __post_init__(self) -> None:
        positive = (
            "vocab_size",
            "dim",
            "num_layers",
            "num_heads",
            "hidden_dim",
            "block_size",
            "top_k",
            "rank",
            "num_experts",
            "experts_top_k",
            "expert_dim",
        )
        for name in positive:
            _require_int(name, getattr(self, name), at_least=1)
        _require_int("branching", self.branching, at_least=2)
        _require_one_of("attention", self.attention, get_args(AttentionName))
        _require_one_of("selector", self.selector, get_args(SelectorName))
        _require_one_of("feed_forward", self.feed_forward, get_args(FeedForwardName))
        if self.dim % (2 * self.num_heads):
            raise ValueError(
                f"dim must be a multiple of 2 * num_heads, so that every head has an even width for the rotary "
                f"embedding; got dim={self.dim} with num_heads={self.num_heads}"
            )
        if not self.rope_base > 1:
            raise ValueError(f"rope_base must be greater than 1, got {self.rope_base}")

    @property
    def num_parameters(self) -> int:
        """How many numbers the model learns; a tied head shares the embedding's."""
        return self._count(self.num_experts)

    @property
    def num_active_parameters(self) -> int:
        """How many of them one token uses: of the routed experts only its own."""
        return self._count(self.experts_top_k)

    def _count(self, experts: int) -> int:
        attention = 4 * self.dim * self.dim
        if self.attention == "sparse":
            attention += 2 * self.dim * self.num_heads * self.rank
        feed_forward = 3 * self.dim * self.hidden_dim
        if self.feed_forward == "moe":
            feed_forward = 3 * self.dim * self.expert_dim * (experts + self.num_shared) + self.dim * self.num_experts
        norms = (2 * self.num_layers + 2) * self.dim
        tables = 1 if self.tied else 2
        return tables * self.vocab_size * self.dim + self.num_layers * (attention + feed_forward) + norms

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`; absent fields take their defaults.

        Raises:
            ValueError: a field is unknown, `vocab_size` is absent, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"Unknown fields {', '.join(unknown)} in a model's config; allowed: {', '.join(known)}")
        if "vocab_size" not in values:
            raise ValueError(f"A model's config needs vocab_size; got only {', '.join(values) or 'nothing'}")
        return cls(**values)


def _require_int(name: str, given: object, *, at_least: int) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {given!r}")


def _require_one_of(name: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {given!r}")
