"""The formula of a published model's size: what its authors say, and what transformers' own network holds."""

from __future__ import annotations

from dataclasses import replace

import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from dslearn.models import DEEPSEEK_V3, MixtureShape


def test_deepseek_v3_is_as_large_as_published() -> None:
    """671 billion parameters, 37 billion of them active: arXiv 2412.19437, abstract."""
    assert round(DEEPSEEK_V3.num_parameters / 1e9) == 671
    assert round(DEEPSEEK_V3.num_active_parameters / 1e9) == 37


def test_the_formula_counts_what_transformers_builds() -> None:
    small = replace(DEEPSEEK_V3, dim=32, vocab_size=64, num_layers=3, dense_layers=1, dense_dim=48, num_experts=8)
    small = replace(small, experts_top_k=2, expert_dim=16, num_heads=4, query_rank=12, key_value_rank=10)
    small = replace(small, head_dim=6, rope_dim=4, value_dim=5)
    with torch.device("meta"):
        network = DeepseekV3ForCausalLM(as_transformers(small))
    assert sum(parameter.numel() for parameter in network.parameters()) == small.num_parameters


def as_transformers(shape: MixtureShape) -> DeepseekV3Config:
    return DeepseekV3Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.dim,
        num_hidden_layers=shape.num_layers,
        first_k_dense_replace=shape.dense_layers,
        intermediate_size=shape.dense_dim,
        n_routed_experts=shape.num_experts,
        num_experts_per_tok=shape.experts_top_k,
        n_shared_experts=shape.num_shared,
        moe_intermediate_size=shape.expert_dim,
        n_group=1,
        topk_group=1,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        q_lora_rank=shape.query_rank,
        kv_lora_rank=shape.key_value_rank,
        qk_nope_head_dim=shape.head_dim,
        qk_rope_head_dim=shape.rope_dim,
        v_head_dim=shape.value_dim,
        tie_word_embeddings=False,
    )
