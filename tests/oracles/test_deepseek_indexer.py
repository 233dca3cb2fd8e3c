"""Our token indexer held against the one in transformers' DeepSeek-V3.2, weight for weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dslearn.attention import TokenIndexer

pytest.importorskip("transformers", reason="the oracle is an extra of the developers")

from transformers.models.deepseek_v32.configuration_deepseek_v32 import DeepseekV32Config
from transformers.models.deepseek_v32.modeling_deepseek_v32 import DeepseekV32Indexer, DeepseekV32RotaryEmbedding

# batch, tokens, dim, query_dim, heads, head_dim, rope_dim, top_k, rope_base
SHAPES = [
    (1, 33, 24, 12, 4, 16, 8, 6, 10_000.0),
    (2, 64, 32, 16, 8, 32, 32, 16, 10_000.0),
    (3, 17, 20, 10, 1, 8, 2, 40, 500.0),
    (1, 1, 16, 8, 2, 8, 4, 3, 10_000.0),
]


class Oracle:
    """Theirs, with the scores from which it chose."""

    def __init__(self, shape: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
        _, _, dim, query_dim, heads, head_dim, rope_dim, top_k, base = shape
        config = DeepseekV32Config(
            hidden_size=dim,
            q_lora_rank=query_dim,
            index_n_heads=heads,
            index_head_dim=head_dim,
            qk_rope_head_dim=rope_dim,
            index_topk=top_k,
            rope_parameters={"rope_type": "default", "rope_theta": base},
        )
        config.head_dim = rope_dim
        self.indexer, self.rotary = DeepseekV32Indexer(config, 0), DeepseekV32RotaryEmbedding(config)
        self.monkeypatch = monkeypatch

    def __call__(self, x: Tensor, compressed: Tensor) -> tuple[Tensor, Tensor]:
        scores: list[Tensor] = []
        topk = torch.Tensor.topk

        def watch(values: Tensor, *args: object, **kwargs: object) -> object:
            scores.append(values)
            return topk(values, *args, **kwargs)

        tokens = x.shape[1]
        position = torch.arange(tokens).expand(len(x), -1)
        mask = torch.ones(tokens, tokens, dtype=torch.bool).tril().expand(len(x), -1, -1)
        with self.monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "topk", watch)
            chosen = self.indexer(x, compressed, self.rotary(x, position), mask, position)
        return chosen, scores[0]


def ours_from(oracle: Oracle, shape: tuple) -> TokenIndexer:
    _, _, dim, query_dim, heads, head_dim, rope_dim, top_k, base = shape
    ours = TokenIndexer(
        dim,
        query_dim=query_dim,
        num_heads=heads,
        head_dim=head_dim,
        rope_dim=rope_dim,
        top_k=top_k,
        rope_base=base,
    )
    theirs = oracle.indexer
    torch.nn.init.normal_(theirs.k_norm.weight)
    torch.nn.init.normal_(theirs.k_norm.bias)
    for mine, their in (
        (ours.query, theirs.wq_b),
        (ours.key, theirs.wk),
        (ours.key_norm, theirs.k_norm),
        (ours.head_weight, theirs.weights_proj),
    ):
        mine.load_state_dict(their.state_dict())
    assert ours.key_norm.eps == theirs.k_norm.eps
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    return ours


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scores_and_choices_are_those_of_deepseek_v32(shape: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(shape, monkeypatch)
    ours = ours_from(oracle, shape)
    batch, tokens, dim, query_dim, *_, top_k, _ = shape
    x, compressed = torch.randn(batch, tokens, dim), torch.randn(batch, tokens, query_dim)
    their_chosen, their_scores = oracle(x, compressed)
    scores, chosen = ours.scores(x, compressed), ours(x, compressed)
    torch.testing.assert_close(scores, their_scores, rtol=1e-5, atol=1e-5)
    assert chosen.shape == (batch, tokens, top_k)
    for b in range(batch):
        for t in range(tokens):
            seen = {s for s in their_chosen[b, t].tolist() if s <= t}  # theirs fills up with later tokens, masked after
            mine = {s for s in chosen[b, t].tolist() if s >= 0}
            assert len(mine) == len(seen) == min(top_k, t + 1)
            worst = min(float(their_scores[b, t, s]) for s in seen)
            assert all(abs(float(their_scores[b, t, s]) - worst) < 1e-5 for s in mine ^ seen), "not even a tie"
