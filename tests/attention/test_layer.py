from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from dslearn.attention import AttentionCache, DenseAttention, DynamicSparseAttention, dense_attention, rotate
from tests.attention.plain import changed_at, draw

SELECTORS = pytest.mark.parametrize("selector", ["tree", "flat", "window", "random"])
DIM, HEADS = 16, 2


def sparse_layer(**sizes: object) -> DynamicSparseAttention:
    torch.manual_seed(1)
    sizes = {"block_size": 4, "top_k": 3, "rank": 8, "branching": 2, **sizes}
    return DynamicSparseAttention(DIM, HEADS, **sizes).double()


def dense_twin(layer: DynamicSparseAttention) -> DenseAttention:
    twin = DenseAttention(DIM, HEADS, rope_base=layer.rope_base).double()
    twin.qkv.load_state_dict(layer.qkv.state_dict())
    twin.out.load_state_dict(layer.out.state_dict())
    return twin


@pytest.mark.parametrize("rope_base", [None, 10_000.0, 100.0])
def test_the_dense_layer_is_the_formula(rope_base: float | None) -> None:
    torch.manual_seed(1)
    layer = DenseAttention(DIM, HEADS, rope_base=rope_base).double()
    x = draw(2, 9, DIM)
    wq, wk, wv = layer.qkv.weight.split(DIM)

    def heads(weight: Tensor) -> Tensor:
        return (x @ weight.T).view(2, 9, HEADS, DIM // HEADS).transpose(1, 2)

    q, k = heads(wq), heads(wk)
    if rope_base is not None:
        q, k = rotate(q, base=rope_base), rotate(k, base=rope_base)
    mixed = dense_attention(q, k, heads(wv)).transpose(1, 2).reshape(2, 9, DIM)
    torch.testing.assert_close(layer(x), mixed @ layer.out.weight.T, rtol=0, atol=1e-12)


@SELECTORS
@pytest.mark.parametrize("tokens", [1, 4, 30])
def test_with_every_block_read_it_is_the_dense_layer(selector: str, tokens: int) -> None:
    layer, x = sparse_layer(selector=selector, top_k=8), draw(2, tokens, DIM)
    torch.testing.assert_close(layer(x), dense_twin(layer)(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stage", ["dense", "warmup"])
def test_the_first_two_stages_read_everything(stage: str) -> None:
    layer, x = sparse_layer(top_k=1), draw(2, 30, DIM)
    dense = dense_twin(layer)(x)
    assert not torch.allclose(layer(x), dense, atol=1e-3)
    layer.stage = stage
    assert torch.equal(layer(x), dense)


def test_weights_go_from_the_dense_layer_to_the_sparse_one_and_back() -> None:
    layer = sparse_layer(top_k=8)
    dense = DenseAttention(DIM, HEADS).double()
    result = layer.load_state_dict(dense.state_dict(), strict=False)
    assert sorted(result.missing_keys) == ["index_k.weight", "index_q.weight"]
    assert not result.unexpected_keys
    x = draw(1, 20, DIM)
    torch.testing.assert_close(layer(x), dense(x), rtol=0, atol=1e-12)
    copy = sparse_layer(top_k=3)
    copy.load_state_dict(layer.state_dict())
    layer.top_k = 3
    assert torch.equal(copy(x), layer(x))


@SELECTORS
@pytest.mark.parametrize("training", [True, False])
def test_changing_a_token_changes_no_output_before_it(selector: str, training: bool) -> None:
    layer, x = sparse_layer(selector=selector).train(training), draw(2, 150, DIM)
    before = layer(x)
    for t in (1, 4, 77, 128, 149):
        changed = (layer(changed_at(x, t)) - before).abs().amax(-1) > 1e-9
        assert not changed[:, :t].any()
        assert changed[:, t].all()


@SELECTORS
def test_what_follows_does_not_change_what_came_before(selector: str) -> None:
    layer, x = sparse_layer(selector=selector), draw(1, 150, DIM)
    whole = layer(x)
    for end in (1, 30, 97, 149):
        torch.testing.assert_close(layer(x[:, :end]), whole[:, :end], rtol=0, atol=1e-12)


@torch.no_grad()
@SELECTORS
@pytest.mark.parametrize(
    "pieces", [[1] * 45, [5, 1, 1, 17, 3, 30, 1, 12], [64, 1, 5], [70]], ids=["steps", "mixed", "prompt", "whole"]
)
def test_cached_is_uncached(selector: str, pieces: list[int]) -> None:
    layer, x = sparse_layer(selector=selector, block_size=2, beam=2).eval(), draw(2, sum(pieces), DIM)
    cache = layer.new_cache(2, sum(pieces) + 3)
    outputs = [layer(x[:, cache.length : cache.length + size], cache) for size in pieces]
    assert cache.length == sum(pieces)
    torch.testing.assert_close(torch.cat(outputs, dim=1), layer(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stage", ["dense", "sparse"])
def test_a_dense_layers_cache_and_a_dense_stages_cache_too(stage: str) -> None:
    sparse = sparse_layer(top_k=30).eval()
    sparse.stage = stage
    x = draw(1, 40, DIM)
    for layer in (sparse, dense_twin(sparse)):
        cache = layer.new_cache(1, 40)
        outputs = [layer(x[:, cache.length : cache.length + n], cache) for n in (13, 1, 1, 25)]
        torch.testing.assert_close(torch.cat(outputs, dim=1), dense_twin(sparse)(x), rtol=0, atol=1e-12)


def test_sequences_of_a_batch_do_not_meet() -> None:
    layer, x = sparse_layer(), draw(3, 50, DIM)
    whole = layer(x)
    for row in range(3):
        torch.testing.assert_close(layer(x[row : row + 1])[0], whole[row], rtol=0, atol=1e-12)


def test_the_random_choice_knows_nothing_of_the_content_and_differs_between_queries_and_heads() -> None:
    layer = sparse_layer(selector="random", top_k=4)
    choices = []
    for seed in (0, 1):
        index_q, tree = layer._index(draw(1, 200, DIM, seed=seed), None)
        choices.append(layer.choose(index_q, tree))
    assert torch.equal(*choices)
    chosen = choices[0][0, :, 100:, 1:]
    assert not torch.equal(chosen[0], chosen[1])
    counts = chosen.flatten().bincount(minlength=25)[:25].double()
    assert counts.std() < 0.25 * counts.mean(), "blocks visible to all are drawn unevenly"


def test_the_window_is_the_nearest_blocks() -> None:
    layer = sparse_layer(selector="window")
    chosen = layer.choose(*layer._index(draw(1, 20, DIM), None))
    assert chosen[0, 0, [0, 7, 19]].tolist() == [[0, -1, -1], [1, 0, -1], [4, 3, 2]]


@pytest.mark.parametrize("tokens", [3, 40])
@pytest.mark.parametrize("stage", ["dense", "warmup", "sparse"])
def test_autocast_runs_forward_and_backward_with_full_precision_gradients(stage: str, tokens: int) -> None:
    layer, x = sparse_layer(top_k=20).float(), draw(2, tokens, DIM, dtype=torch.float32)
    layer.stage = stage
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
        loss = out.float().square().mean() + (0 if layer.selector_loss is None else layer.selector_loss)
        loss.backward()
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    gradients = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    assert set(gradients) >= {"qkv.weight", "out.weight"}
    assert all(g.dtype == torch.float32 and bool(g.isfinite().all()) for g in gradients.values())


@SELECTORS
def test_a_layer_all_in_half_precision_trains_and_decodes(selector: str) -> None:
    layer, x = sparse_layer(selector=selector).bfloat16(), draw(1, 30, DIM, dtype=torch.bfloat16)
    out = layer(x)
    out.float().sum().backward()
    assert layer.qkv.weight.grad is not None
    cache = layer.eval().new_cache(1, 30)
    assert cache.keys.dtype == torch.bfloat16
    with torch.no_grad():
        steps = torch.cat([layer(x[:, t : t + 1], cache) for t in range(30)], dim=1)
    assert steps.dtype == torch.bfloat16
    assert bool(steps.isfinite().all())


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_heads": 3}, "num_heads must divide dim=16, both at least 1; got 3"),
        ({"num_heads": 0}, "num_heads must divide dim=16, both at least 1; got 0"),
        ({"dim": 0}, "num_heads must divide dim=0, both at least 1; got 2"),
        ({"block_size": 0}, "must be at least 1, branching at least 2; got 0, 8, 16 and 4"),
        ({"top_k": 0}, "must be at least 1, branching at least 2; got 64, 0, 16 and 4"),
        ({"rank": 0}, "must be at least 1, branching at least 2; got 64, 8, 0 and 4"),
        ({"branching": 1}, "must be at least 1, branching at least 2; got 64, 8, 16 and 1"),
        ({"selector": "best"}, "selector must be 'tree', 'flat', 'window' or 'random'; got 'best'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_sizes_and_names_that_do_not_fit_are_named(sizes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DynamicSparseAttention(**{"dim": 16, "num_heads": 2, **sizes})


@pytest.mark.usefixtures("unchecked")
def test_heads_that_do_not_divide_and_unknown_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads must divide dim=16"):
        DenseAttention(16, 5)
    layer = sparse_layer()
    with pytest.raises(ValueError, match=r"stage must be one of \('dense', 'warmup', 'sparse'\); got 'spares'"):
        layer.stage = "spares"
    assert layer.stage == "sparse"


@SELECTORS
def test_an_empty_sequence_and_nan_are_refused(selector: str) -> None:
    layer = sparse_layer(selector=selector)
    with pytest.raises(ValueError, match="an empty sequence"):
        layer(draw(1, 0, DIM))
    with pytest.raises(ValueError, match="one query and one key; got 0 queries"):
        dense_twin(layer)(draw(1, 0, DIM))
    x = draw(1, 40, DIM)
    x[0, 11, 3] = math.nan
    with pytest.raises(ValueError, match="holds NaN or infinite values"):
        layer(x)


@pytest.mark.usefixtures("unchecked")
def test_a_cache_that_does_not_fit_is_named_and_loses_nothing() -> None:
    layer = sparse_layer().eval()
    x = draw(2, 20, DIM)
    cache = layer.new_cache(2, 20)
    first = layer(x[:, :15], cache)
    for wrong, message in [
        (x[:, :6], "the cache has room for 20 tokens; got 6 more after 15"),
        (x[:1, :1], "the cache holds batch 2, 2 heads of 8; got batch 1, 2 heads of 8"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(wrong, cache)
    with pytest.raises(ValueError, match=r"the cache is torch\.float64 on cpu; got torch\.float32 on cpu"):
        sparse_layer().float().eval()(x.float(), cache)
    rest = layer(x[:, 15:], cache)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), layer(x), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="comes from its own new_cache; this one has no block tree"):
        layer(x, dense_twin(layer).new_cache(2, 20))


def test_a_cache_takes_its_dtype_from_the_layer_unless_told() -> None:
    layer = sparse_layer()
    assert layer.new_cache(1, 4).keys.dtype == torch.float64
    told = layer.new_cache(1, 4, dtype=torch.bfloat16)
    assert told.keys.dtype == told.values.dtype == torch.bfloat16
    assert isinstance(told, AttentionCache)


def test_it_prints_what_it_is() -> None:
    assert "num_heads=2, rope_base=10000.0, block_size=4, top_k=3, selector='tree'" in repr(sparse_layer())


def test_a_layer_can_be_copied_right_after_a_training_step() -> None:
    layer = DynamicSparseAttention(16, 2, block_size=4, top_k=2)
    x = torch.randn(1, 20, 16)
    layer(x)
    assert layer.selector_loss is not None
    other = copy.deepcopy(layer)
    assert other.selector_loss is None
    torch.testing.assert_close(other.eval()(x), layer.eval()(x))
