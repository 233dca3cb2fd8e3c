"""The finished language model twice, on the same weights: once it reads everything, once what its heads choose."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from dslearn.data import Tokenizer, load_bpe
from dslearn.models import LanguageModel, load_card, load_model

_LONGEST_TOKEN = 64  # characters; a longer one would only shorten a text that is too long anyway
EXAMPLE_LENGTH = 5000  # characters: more than the budget of keys, less than the context


@dataclass(frozen=True)
class Pair:
    """Two views of one model that differ in their stage alone, so that neither has to be switched.

    Args:
        dense, sparse: share every parameter.
        tokenizer: of both.
        context: tokens of the longest text that the model has learned on.
    """

    dense: LanguageModel
    sparse: LanguageModel
    tokenizer: Tokenizer
    context: int

    @classmethod
    def of(cls, model: LanguageModel, tokenizer: Tokenizer, context: int) -> Pair:
        """Both views of a model with sparse layers.

        Raises:
            ValueError: it has none.
        """
        if model.config.attention != "sparse":
            raise ValueError(f"the demo compares both ways of one sparse model; got {model.config.attention} attention")
        dense, sparse = (copy.deepcopy(model, {id(weight): weight for weight in model.parameters()}) for _ in range(2))
        dense.set_stage("dense")
        sparse.set_stage("sparse")
        return cls(dense, sparse, tokenizer, context)

    @property
    def views(self) -> dict[str, LanguageModel]:
        """Both by name."""
        return {"dense": self.dense, "sparse": self.sparse}

    @property
    def budget(self) -> int:
        """Keys that a token reads at most."""
        return self.sparse.config.block_size * self.sparse.config.top_k

    def encode(self, text: str, room: int) -> tuple[Int[Tensor, " tokens"], bool]:
        """The last ``room`` tokens of a text, and whether that is less than all of it.

        The first is the end-of-document token, after which every text began when the model learned.
        """
        end = text[-_LONGEST_TOKEN * room :]
        tokens = self.tokenizer.encode(end)
        kept = [self.tokenizer.eod, *tokens[-(room - 1) :]]
        return torch.tensor(kept), len(end) < len(text) or len(tokens) >= room

    def warm_up(self) -> None:
        """Run both once on a full context: first calls allocate memory and start threads."""
        tokens = torch.zeros(1, self.context, dtype=torch.long, device=self.sparse.device)
        with torch.inference_mode():
            for view in self.views.values():
                view(tokens)


def load_pair(folder_or_name: str = "language") -> Pair:
    """The finished model's two views, warm.

    Raises:
        FileNotFoundError, ValueError: there is no such model, or it is damaged.
    """
    model = load_model(folder_or_name)
    pair = Pair.of(model, load_bpe(), load_card(folder_or_name)["metrics"]["context"])
    pair.warm_up()
    return pair
