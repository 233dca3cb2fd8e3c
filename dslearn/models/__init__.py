"""Language models built of the attention room's layers: configuration, network, generation, evaluation, files."""

from __future__ import annotations

from dslearn.models.checkpoints import load_card, load_model, model_names, save_model
from dslearn.models.config import ModelConfig
from dslearn.models.evaluate import evaluate_bits_per_byte, token_nats
from dslearn.models.generate import generate, generate_tokens
from dslearn.models.published import DEEPSEEK_V3, MixtureShape
from dslearn.models.transformer import LanguageModel, with_sparse_attention

__all__ = [
    "DEEPSEEK_V3",
    "LanguageModel",
    "MixtureShape",
    "ModelConfig",
    "evaluate_bits_per_byte",
    "generate",
    "generate_tokens",
    "load_card",
    "load_model",
    "model_names",
    "save_model",
    "token_nats",
    "with_sparse_attention",
]
