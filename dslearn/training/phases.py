"""The parts that a language recipe is made of: stretches of training, and the text they read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Int
from torch import Tensor

from dslearn.data import Tokenizer, TokenStream, encode_documents, load_documents
from dslearn.training.batches import mix_domains
from dslearn.training.optimizer import OptimizerConfig

VALID_TOKENS = 8192  # of each domain, whenever a run looks at held-out text


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training with one kind of batch, one stage of attention and one schedule.

    Args:
        name: of the folder that keeps the phase's result.
        stage: "dense" and "sparse" train everything, "warmup" the selectors alone.
        seq_len: tokens of context.
    """

    name: str
    stage: Literal["dense", "warmup", "sparse"]
    steps: int
    batch_size: int
    seq_len: int
    optimizer: OptimizerConfig

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "seq_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of phase {self.name!r} must be at least 1, got {getattr(self, name)}")

    @property
    def tokens(self) -> int:
        """Tokens predicted in the phase."""
        return self.steps * self.batch_size * self.seq_len

    @property
    def rows_a_thread(self) -> int:
        """Rows of a batch that one thread takes through the model at once: about a thousand tokens fit its cache."""
        return max(1, 1024 // self.seq_len)


class LanguageStreams:
    """Token streams of code and prose: mixed for training, apart for validation.

    Args:
        prose_share: of the training tokens; the prose repeats until it has it, since there is much more code.
    """

    def __init__(self, tokenizer: Tokenizer, *, prose_share: float) -> None:
        def encode(domain: Any, split: Any) -> Int[Tensor, " tokens"]:
            return encode_documents(load_documents(domain, split), tokenizer, shuffle_seed=0)

        self.tokens = mix_domains(encode("code", "train"), encode("prose", "train"), minor_share=prose_share)
        self.digest = hashlib.sha256(self.tokens.numpy().tobytes()).hexdigest()
        self._valid = {domain: encode(domain, "valid") for domain in ("code", "prose")}

    def train(self, phase: Phase, *, seed: int) -> TokenStream:
        """Training windows of a phase."""
        return TokenStream(self.tokens, batch_size=phase.batch_size, seq_len=phase.seq_len, seed=seed)

    def valid(self, phase: Phase) -> dict[str, Int[Tensor, "batch window"]]:
        """One fixed batch of each domain at the context of a phase."""
        rows = max(1, VALID_TOKENS // phase.seq_len)
        return {
            domain: TokenStream(tokens, batch_size=rows, seq_len=phase.seq_len, seed=0).batch(0)
            for domain, tokens in self._valid.items()
        }
