"""Which keys a token reads in every layer and head, and how much of its dense attention falls on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.data import Tokenizer
from dslearn.demos.attention.pair import Pair
from dslearn.models.transformer import LanguageModel

_LONGEST_WAIT = 16  # tokens; characters of several tokens rarely chain longer


@dataclass(frozen=True)
class Readings:
    """What every token of one text reads.

    Args:
        pieces: the text that each token adds; joined, they are the text.
        shortened: whether this is only the end of what was given.
        blocks: chosen key blocks, −1 for none.
        mass: share of a token's dense attention on each block.
        block_size: keys a block.
    """

    pieces: list[str]
    shortened: bool
    blocks: Int[Tensor, "layers heads tokens top_k"]
    mass: Float[Tensor, "layers heads tokens blocks"]
    block_size: int

    def at(self, token: int, layer: int, head: int) -> Reading:
        """One token's reading in one head; all three count from 0."""
        chosen = self.blocks[layer, head, token]
        return Reading(token, sorted(chosen[chosen >= 0].tolist()), self.mass[layer, head, token], self.block_size)


@dataclass(frozen=True)
class Reading:
    """What one token reads in one head, and where it would look if it read everything."""

    token: int
    blocks: list[int]
    mass: Float[Tensor, " blocks"]
    block_size: int

    @property
    def keys_read(self) -> int:
        """Keys of the chosen blocks up to the token itself."""
        return sum(min(self.block_size, self.token + 1 - block * self.block_size) for block in self.blocks)

    @property
    def keys(self) -> int:
        """Keys up to the token itself."""
        return self.token + 1

    @property
    def share(self) -> float:
        """How much of the token's dense attention falls on what it reads."""
        return self.mass[self.blocks].sum().item()


def read_text(pair: Pair, text: str) -> Readings:
    """Read a text, or as much of its end as fits the context, with the sparse model."""
    tokens, shortened = pair.encode(text, pair.context)
    blocks, mass = read_tokens(pair.sparse, tokens)
    return Readings(pieces(pair.tokenizer, tokens.tolist()), shortened, blocks, mass, pair.sparse.config.block_size)


@torch.no_grad()
def read_tokens(
    model: LanguageModel, tokens: Int[Tensor, " tokens"]
) -> tuple[Int[Tensor, "layers heads tokens top_k"], Float[Tensor, "layers heads tokens blocks"]]:
    """Chosen blocks and dense attention on blocks, in every layer, on the CPU."""
    x = model.embedding_norm(model.embedding(tokens[None].to(model.device)))
    read = []
    for block in model.blocks:
        chosen, mass = block.attention.reading(block.attention_norm(x))  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        read.append((chosen[0].cpu(), mass[0].cpu()))
        x = block(x)
    chosen, mass = (torch.stack(parts) for parts in zip(*read, strict=True))
    return chosen, mass


def pieces(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    """The text that each token adds; a character made of several tokens belongs to its last."""
    told: list[str] = []
    waiting: list[int] = []
    for token in tokens:
        waiting.append(token)
        text = tokenizer.decode(waiting)
        unfinished = text.endswith("\ufffd") and len(waiting) < _LONGEST_WAIT
        told.append("" if unfinished else text)
        waiting = waiting if unfinished else []
    return [*told[:-1], tokenizer.decode(waiting)] if waiting else told
