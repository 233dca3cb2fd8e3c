"""Language models built of the attention room's layers: configuration, network, generation, evaluation, files."""

from __future__ import annotations

from dslearn.models.checkpoints import load_card, load_model, model_names, save_model
from dslearn.models.config import ModelConfig
from dslearn.models.evaluate import MixtureUse, evaluate_bits_per_byte, evaluate_mixture, token_nats
from dslearn.models.generate import generate, generate_tokens
from dslearn.models.published import DEEPSEEK_V3, MixtureShape
from dslearn.models.transformer import LanguageModel, with_sparse_attention

__all__ = [
    "DEEPSEEK_V3",
    "LanguageModel",
    "MixtureShape",
    "MixtureUse",
    "ModelConfig",
    "evaluate_bits_per_byte",
    "evaluate_mixture",
    "generate",
    "generate_tokens",
    "load_card",
    "load_model",
    "model_names",
    "save_model",
    "token_nats",
    "with_sparse_attention",
]
