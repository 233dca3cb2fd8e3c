"""What the four finished mixtures of experts do with a text: who takes which byte, and how well they predict it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dslearn.data import ByteTokenizer
from dslearn.models import LanguageModel, load_card, load_model
from dslearn.moe import LoadReport, MoE, load_report

BALANCES = {"nothing": "none", "Switch loss": "aux", "bias": "bias", "capacity 1.2": "capacity"}
MOST_BYTES = 2048
_LOTS = 9


@dataclass(frozen=True)
class Networks:
    """The same recipe, balanced in different ways.

    Args:
        models: by what balances them.
        window: tokens of the texts that they have learned on; longer ones are read in pieces.
    """

    models: Mapping[str, LanguageModel]
    window: int

    @property
    def num_layers(self) -> int:
        """Mixtures of each network."""
        return len(self._any.mixtures)

    @property
    def num_experts(self) -> int:
        """Experts of each mixture."""
        return self._any.config.num_experts

    @property
    def top_k(self) -> int:
        """Experts of each token."""
        return self._any.config.experts_top_k

    @property
    def _any(self) -> LanguageModel:
        return next(iter(self.models.values()))


def load_networks() -> Networks:
    """The finished mixtures.

    Raises:
        FileNotFoundError, ValueError: one is missing or damaged.
    """
    models = {told: load_model(f"mixture_{name}").eval() for told, name in BALANCES.items()}
    return Networks(models, load_card("mixture_bias")["recipe"]["seq_len"])


@dataclass(frozen=True)
class Routed:
    """Who took which byte of a text in one network.

    Attributes:
        characters: of the text; each stands for its first byte.
        first_byte: where that is.
        shortened: whether this is only the beginning of what was given.
        experts: chosen for each byte, best first.
        weights: of these choices, 0 for one that found no room.
        nats: mean −ln p of a byte, given those before it in its piece.
    """

    characters: str
    first_byte: Int[Tensor, " characters"]
    shortened: bool
    experts: Int[Tensor, "layers bytes top_k"]
    weights: Float[Tensor, "layers bytes top_k"]
    nats: float
    num_experts: int

    def loads(self, layer: int) -> Int[Tensor, " experts"]:
        """Bytes of each expert, dropped choices left out."""
        return torch.bincount(self.experts[layer][self.weights[layer] > 0], minlength=self.num_experts)

    def report(self, layer: int) -> LoadReport:
        """How even these are."""
        return load_report(self.loads(layer), dropped=int((self.weights[layer] == 0).sum()))


@torch.no_grad()
def route_text(networks: Networks, balance: str, text: str) -> Routed:
    """Read a text's first ``MOST_BYTES`` bytes with one network, in pieces of its window, each without the ones before.

    A piece begins with the byte before it, the first one with the end-of-document token, so every byte is predicted.
    """
    kept = text.encode()[:MOST_BYTES].decode(errors="ignore")
    tokenizer, model = ByteTokenizer(), networks.models[balance]
    ids = torch.tensor([tokenizer.eod, *tokenizer.encode(kept)])
    experts, weights, nats = [], [], 0.0
    for start in range(0, len(ids) - 1, networks.window - 1):
        piece = ids[start : start + networks.window]
        logits = model(piece[None])[0, :-1]
        nats += F.cross_entropy(logits.float(), piece[1:], reduction="sum").item()
        choices = [_choices(layer) for layer in model.mixtures]
        experts.append(torch.stack([chosen[1:] for chosen, _ in choices]))
        weights.append(torch.stack([weight[1:] for _, weight in choices]))
    lengths = torch.tensor([len(character.encode()) for character in kept])
    return Routed(
        kept,
        lengths.cumsum(0) - lengths,
        len(kept) < len(text),
        torch.cat(experts, dim=1),
        torch.cat(weights, dim=1),
        nats / (len(ids) - 1),
        networks.num_experts,
    )


def _choices(layer: MoE) -> tuple[Int[Tensor, "tokens top_k"], Float[Tensor, "tokens top_k"]]:
    """A mixture's last choices, best first, and their weights; 0 for those that found no room."""
    routing = layer.routing
    assert routing is not None
    chosen = (routing.scores + layer.router.bias).topk(layer.top_k).indices
    weights = torch.zeros_like(routing.scores).index_put((routing.token, routing.expert), routing.weight)
    return chosen, weights.gather(1, chosen)


def fair_use(num_bytes: int, num_experts: int, top_k: int) -> float:
    """Mean over highest load if lots are drawn: median of some draws. So far a perfectly fair router gets."""
    draws = torch.rand(_LOTS, num_bytes, num_experts, generator=torch.Generator().manual_seed(0)).topk(top_k).indices
    uses = [load_report(torch.bincount(drawn.flatten(), minlength=num_experts)).utilisation for drawn in draws]
    return sorted(uses)[_LOTS // 2]
