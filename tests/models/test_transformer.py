from __future__ import annotations

import pytest
import torch

from dslearn.attention import DenseAttention, DynamicSparseAttention
from dslearn.models import LanguageModel, ModelConfig, with_sparse_attention

KINDS = [("dense", "tree"), ("sparse", "tree"), ("sparse", "flat"), ("sparse", "window"), ("sparse", "random")]


@pytest.mark.parametrize(("attention", "selector"), KINDS)
def test_a_changed_token_changes_no_logits_before_it(small_model, attention: str, selector: str) -> None:
    model = small_model(attention, selector=selector)
    tokens = torch.randint(0, 50, (2, 23))
    before = model(tokens)
    for changed in (0, 7, 8, 15, 22):
        other = tokens.clone()
        other[:, changed] = (other[:, changed] + 1) % 50
        after = model(other)
        # Not bit for bit: what is computed together, and so rounded together, may differ.
        torch.testing.assert_close(after[:, :changed], before[:, :changed], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(after[:, changed], before[:, changed], atol=1e-3)


def test_logits_depend_on_the_order_of_what_came_before(small_model) -> None:
    model = small_model()
    forward, swapped = torch.tensor([[3, 9, 4]]), torch.tensor([[9, 3, 4]])
    assert not torch.allclose(model(forward)[:, -1], model(swapped)[:, -1], atol=1e-3)


def test_the_embedding_is_the_head(small_model) -> None:
    model = small_model()
    tokens = torch.tensor([[1, 2, 3]])
    before = model(tokens)
    with torch.no_grad():
        model.embedding.weight[40] += 1.0  # read by no input
    changed = (model(tokens) - before).abs().amax(dim=(0, 1)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [40]


def test_sparse_with_room_for_every_block_is_dense(small_model) -> None:
    dense = small_model()
    sparse = with_sparse_attention(dense, block_size=4, top_k=8)
    tokens = torch.randint(0, 50, (2, 30))
    torch.testing.assert_close(sparse.eval()(tokens), dense(tokens), atol=1e-4, rtol=1e-4)


def test_sparse_copy_keeps_the_dense_weights_and_leaves_the_model_alone(small_model) -> None:
    dense = small_model()
    sparse = with_sparse_attention(dense, block_size=8, top_k=1, selector="flat")
    assert all(isinstance(layer, DynamicSparseAttention) for layer in sparse.attention_layers)
    assert all(type(layer) is DenseAttention for layer in dense.attention_layers)
    weights = sparse.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in dense.state_dict().items())
    with torch.no_grad():
        sparse.embedding.weight.zero_()
    assert dense.embedding.weight.abs().sum() > 0
    with pytest.raises(ValueError, match="sparse attention already"):
        with_sparse_attention(sparse)


def test_stages_reach_every_layer(small_model, unchecked) -> None:
    model = small_model("sparse")
    tokens = torch.randint(0, 50, (1, 40))
    model.set_stage("dense")
    dense = model(tokens)
    model.set_stage("sparse")
    assert not torch.allclose(model(tokens), dense, atol=1e-3)
    with pytest.raises(ValueError, match="stage must be one of 'dense', 'warmup', 'sparse'; got 'cold'"):
        model.set_stage("cold")


def test_starts_at_chance_and_the_same_for_the_same_seed() -> None:
    config = ModelConfig(vocab_size=97, dim=32, num_layers=2, num_heads=2, hidden_dim=48)
    first, again, other = (LanguageModel(config, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    tokens = torch.randint(0, 97, (4, 33))
    loss = torch.nn.functional.cross_entropy(first(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(loss.item() - torch.tensor(97.0).log().item()) < 0.1


def test_refuses_what_it_cannot_read(small_model) -> None:
    model = small_model()
    with pytest.raises(ValueError, match=r"at least one token a sequence, got shape \(2, 0\)"):
        model(torch.zeros(2, 0, dtype=torch.long))
    with pytest.raises(ValueError, match="2 layers need as many caches, got 1"):
        model(torch.tensor([[1]]), model.new_caches(1, 4)[:1])


def test_says_what_it_is(small_model) -> None:
    text = repr(small_model("sparse"))
    assert "sparse attention" in text
    assert "top_k=2" in text
