from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dslearn.attention import block_sparse_attention, select_blocks
from dslearn.attention.sparse import block_sparse_attention_with_mass
from tests.attention.plain import draw, draw_qkv, masked_attention, random_blocks, softmax_weights, visible_keys

# queries, keys, block_size, query_block, top_k
CALLS = [
    (37, 37, 4, 1, 3),
    (64, 64, 16, 1, 2),
    (64, 64, 16, 16, 3),
    (50, 50, 16, 4, 3),
    (1, 33, 8, 1, 4),
    (1, 32, 8, 1, 4),
    (5, 37, 8, 1, 3),
    (20, 37, 8, 1, 3),
    (24, 40, 8, 1, 2),
    (12, 28, 8, 4, 2),
    (11, 27, 8, 4, 2),
    (12, 32, 8, 4, 2),
    (9, 29, 8, 2, 3),
    (7, 7, 1, 1, 3),
    (100, 100, 48, 1, 2),
    (97, 97, 48, 24, 2),
    (3, 3, 16, 1, 2),
    (1, 1, 16, 1, 1),
    (16, 16, 16, 16, 1),
    (40, 40, 8, 1, 1),
    (9, 9, 4, 2, 10),
    (9, 9, 4, 1, 10),
]
GRID = pytest.mark.parametrize("call", CALLS, ids=str)
BOTH_KERNELS = pytest.mark.parametrize("query_block", [1, 8])


def sparse(q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, call: tuple[int, ...]) -> Tensor:
    return block_sparse_attention(q, k, v, blocks, block_size=call[2], query_block=call[3])


def plain(q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, call: tuple[int, ...]) -> Tensor:
    return masked_attention(q, k, v, visible_keys(blocks, *call[:4]))


@pytest.mark.parametrize(
    ("chunk", "table", "together"), [(2**19, 2**12, 2**16), (2**11, 8, 1)], ids=["as it is", "few at a time"]
)
@GRID
def test_it_is_masked_dense_attention_forward_and_backward(
    call: tuple[int, ...], chunk: int, table: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dslearn.attention.gather.CHUNK", chunk)
    monkeypatch.setattr("dslearn.attention.dispatch.TABLE", table)
    monkeypatch.setattr("dslearn.attention.dispatch.TOGETHER", together)
    qkv = [x.requires_grad_() for x in draw_qkv(call[0], call[1], batch=2)]
    blocks = random_blocks(*call, batch=2)
    out, expected = sparse(*qkv, blocks, call), plain(*qkv, blocks, call)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    weight = draw(*out.shape, seed=7)
    for got, want in zip(
        torch.autograd.grad((out * weight).sum(), qkv), torch.autograd.grad((expected * weight).sum(), qkv), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("call", [(4, 5, 2, 1, 2), (3, 5, 4, 1, 2), (5, 5, 4, 2, 2)], ids=str)
def test_gradients_are_those_of_finite_differences(call: tuple[int, ...]) -> None:
    qkv = [x.requires_grad_() for x in draw_qkv(call[0], call[1], heads=1, dim=2, value_dim=3)]
    blocks = random_blocks(*call, heads=1)
    assert torch.autograd.gradcheck(lambda q, k, v: sparse(q, k, v, blocks, call), qkv, fast_mode=True)


@pytest.mark.parametrize("call", [(600, 600, 64, 1, 4), (1200, 1200, 64, 64, 8), (1150, 1150, 64, 32, 8)], ids=str)
def test_lengths_worked_off_in_several_parts(call: tuple[int, ...]) -> None:
    qkv = [x.requires_grad_() for x in draw_qkv(call[0], call[1], heads=1, dim=4, value_dim=4)]
    blocks = random_blocks(*call, heads=1)
    out, expected = sparse(*qkv, blocks, call), plain(*qkv, blocks, call)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    for got, want in zip(
        torch.autograd.grad(out.square().sum(), qkv), torch.autograd.grad(expected.square().sum(), qkv), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@BOTH_KERNELS
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 2**-8), (torch.float16, 2**-11)],
)
def test_every_float_dtype_is_as_exact_as_its_output_can_be(
    dtype: torch.dtype, tolerance: float, query_block: int
) -> None:
    call = (61, 61, 8, query_block, 3)
    qkv = [x.to(dtype).requires_grad_() for x in draw_qkv(call[0], call[1])]
    wide = [x.detach().double().requires_grad_() for x in qkv]
    blocks = random_blocks(*call)
    out, expected = sparse(*qkv, blocks, call), plain(*wide, blocks, call)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    grads = torch.autograd.grad(out.sum(), qkv)
    for got, want in zip(grads, torch.autograd.grad(expected.sum(), wide), strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), want, rtol=8 * tolerance, atol=8 * tolerance)


@BOTH_KERNELS
def test_with_every_block_chosen_it_is_causal_sdpa(query_block: int) -> None:
    q, k, v = draw_qkv(75, 75, batch=2)
    blocks = select_blocks(q, k, block_size=8, top_k=10, query_block=query_block)
    out = block_sparse_attention(q, k, v, blocks, block_size=8, query_block=query_block)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, is_causal=True), rtol=0, atol=1e-12)


@BOTH_KERNELS
def test_keys_that_were_not_chosen_or_are_later_have_no_influence(query_block: int) -> None:
    call = (40, 40, 8, query_block, 2)
    q, k, v = draw_qkv(40, 40)
    blocks = random_blocks(*call)
    out = sparse(q, k, v, blocks, call)
    visible = visible_keys(blocks, *call[:4])
    for key in (0, 13, 39):
        other = k.clone(), v.clone()
        for x in other:
            x[:, :, key] += 5
        changed = (sparse(q, *other, blocks, call) - out).abs().amax(-1) > 1e-9
        assert torch.equal(changed, visible[..., key])


@BOTH_KERNELS
@pytest.mark.parametrize("height", [30.0, 300.0, 2000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_hundreds_above_or_below_the_own_blocks(height: float, dtype: torch.dtype, query_block: int) -> None:
    call = (48, 48, 8, query_block, 3)
    q, k, v = draw_qkv(48, 48, dim=4)
    q[..., 0] = 2.0  # scores in units of q₀k₀/√4 = k₀
    k[..., 0] = torch.tensor([0.0, height, -height, height / 2, 0.0, -height]).repeat_interleave(8)
    qkv = [x.to(dtype).requires_grad_() for x in (q, k, v)]
    wide = [x.detach().double().requires_grad_() for x in qkv]
    blocks = random_blocks(*call)
    out, expected = sparse(*qkv, blocks, call), plain(*wide, blocks, call)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-11  # a score of 2,000 has a rounding error of 1e-4 in float32
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance)
    grads = torch.autograd.grad(out.square().sum(), qkv)
    for got, want in zip(grads, torch.autograd.grad(expected.square().sum(), wide), strict=True):
        scale = 1 + want.abs().amax()
        torch.testing.assert_close(got.double() / scale, want / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("call", [c for c in CALLS if c[3] == 1], ids=str)
def test_masses_are_the_softmax_on_each_block_and_sum_to_one(call: tuple[int, ...]) -> None:
    queries, keys, block_size = call[:3]
    q, k, v = (x.requires_grad_() for x in draw_qkv(queries, keys, batch=2))
    blocks = random_blocks(*call, batch=2)
    out, mass = block_sparse_attention_with_mass(q, k, v, blocks, block_size=block_size)
    weights = softmax_weights(q, k, visible_keys(blocks, *call[:4]))
    by_block = F.pad(weights, (0, -keys % block_size)).unflatten(-1, (-1, block_size)).sum(-1)
    expected = by_block.gather(-1, blocks.clamp(min=0)).masked_fill(blocks < 0, 0)
    torch.testing.assert_close(mass, expected.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(mass.sum(-1), torch.ones_like(mass[..., 0]))
    assert not mass.requires_grad
    torch.testing.assert_close(out, sparse(q, k, v, blocks, call), rtol=0, atol=1e-12)
    (grad,) = torch.autograd.grad(out.sum(), q)
    torch.testing.assert_close(grad, torch.autograd.grad(sparse(q, k, v, blocks, call).sum(), q)[0])


@BOTH_KERNELS
def test_no_graph_under_no_grad_and_only_numbers_a_token_kept_for_one(query_block: int) -> None:
    call = (256, 256, 8, query_block, 4)
    qkv = [x.requires_grad_() for x in draw_qkv(256, 256)]
    blocks = random_blocks(*call)
    with torch.no_grad():
        assert sparse(*qkv, blocks, call).grad_fn is None
    kept: list[int] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = sparse(*qkv, blocks, call)
    of_inputs = sum(x.numel() for x in (*qkv, blocks))
    assert of_inputs <= sum(kept) <= of_inputs + out.numel() + 2 * 256
    assert sum(kept) < 256 * 4 * 8 * 2, "the weights would be more than all that was kept"


@BOTH_KERNELS
def test_autocast_changes_neither_values_nor_gradients(query_block: int) -> None:
    call = (40, 40, 8, query_block, 3)
    qkv = [x.float().requires_grad_() for x in draw_qkv(40, 40)]
    blocks = random_blocks(*call)
    expected = sparse(*qkv, blocks, call)
    grads = torch.autograd.grad(expected.sum(), qkv)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = sparse(*qkv, blocks, call)
        grads_within = torch.autograd.grad(out.sum(), qkv)
    assert torch.equal(out, expected)
    assert all(torch.equal(a, b) for a, b in zip(grads, grads_within, strict=True))


def test_inputs_are_not_written_to_and_need_not_be_contiguous() -> None:
    call = (40, 40, 8, 1, 3)
    q, k, v = (x.mT.contiguous().mT for x in draw_qkv(40, 40))
    assert not q.is_contiguous()
    blocks = random_blocks(*call)
    kept = [x.clone() for x in (q, k, v, blocks)]
    for query_block, chosen in ((1, blocks), (8, blocks[:, :, ::8])):
        out = block_sparse_attention(q, k, v, chosen, block_size=8, query_block=query_block)
        torch.testing.assert_close(out, plain(q, k, v, chosen, (*call[:3], query_block)))
    assert all(torch.equal(a, b) for a, b in zip((q, k, v, blocks), kept, strict=True))


Q = draw(1, 2, 16, 4)
BLOCKS = random_blocks(16, 16, 8, 1, 3)


def blocks_with(row: list[int]) -> Tensor:
    blocks = BLOCKS.clone()
    blocks[0, 1, 15] = torch.tensor(row)
    return blocks


BAD = [
    ({"k": Q.float()}, "one dtype and one device; got q torch.float64 on cpu, k torch.float32 on cpu"),
    ({"v": Q.to("meta")}, "one dtype and one device; got .* v torch.float64 on meta"),
    ({x: Q.long() for x in "qkv"}, "attention needs floating-point tensors; got torch.int64"),
    ({"k": draw(1, 2, 16, 5)}, r"q, k and v disagree: \(1, 2, 16, 4\), \(1, 2, 16, 5\) and \(1, 2, 16, 4\)"),
    ({"v": draw(1, 2, 15, 4)}, "q, k and v disagree"),
    ({"q": draw(2, 2, 16, 4)}, "q, k and v disagree"),
    ({"q": draw(1, 2, 17, 4)}, "queries are the last of the keys: got 17 queries and 16 keys"),
    ({x: draw(1, 2, 0, 4) for x in "qkv"}, "got 0 queries and 0 keys"),
    ({"block_size": 0}, "query_block must divide block_size=0; got 1"),
    ({"query_block": 3}, "query_block must divide block_size=8; got 3"),
    ({"query_block": 0}, "query_block must divide block_size=8; got 0"),
    ({"q": Q[:, :, 3:], "query_block": 2}, "the first query, token 3, must begin a unit of query_block=2"),
    ({"blocks": BLOCKS.int()}, "blocks must be int64 on cpu; got torch.int32 on cpu"),
    ({"blocks": BLOCKS.to("meta")}, "blocks must be int64 on cpu; got torch.int64 on meta"),
    ({"blocks": BLOCKS[:, :, 1:]}, r"blocks must be \(1, 2, 16, 'top_k'\); got \(1, 2, 15, 3\)"),
    ({"blocks": BLOCKS[..., :0]}, r"blocks must be \(1, 2, 16, 'top_k'\); got \(1, 2, 16, 0\)"),
    ({"blocks": BLOCKS, "query_block": 2}, r"blocks must be \(1, 2, 8, 'top_k'\)"),
    ({"blocks": blocks_with([0, 1, -1])}, r"blocks\[..., 0\] must be each query's own block"),
    ({"blocks": blocks_with([-1, 0, -1])}, r"blocks\[..., 0\] must be each query's own block"),
    ({"blocks": blocks_with([1, 2, -1])}, "must be earlier than the own block, or -1 for none"),
    ({"blocks": blocks_with([1, 1, -1])}, "must be earlier than the own block, or -1 for none"),
    ({"blocks": blocks_with([1, -2, 0])}, "must be earlier than the own block, or -1 for none"),
    ({"blocks": blocks_with([1, 0, 0])}, "a block stands twice"),
]


def call_with(function: Callable[..., object], changes: dict) -> None:
    call = {"q": Q, "k": Q, "v": Q, "blocks": BLOCKS, "block_size": 8, **changes}
    function(call.pop("q"), call.pop("k"), call.pop("v"), call.pop("blocks"), **call)


@pytest.mark.parametrize(("changes", "message"), BAD)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call_with(block_sparse_attention, changes)


@pytest.mark.parametrize(("changes", "message"), [bad for bad in BAD if "query_block" not in bad[0]])
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named_beside_the_masses_too(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call_with(block_sparse_attention_with_mass, changes)


@pytest.mark.parametrize(
    ("name", "value"), [("q", math.nan), ("k", math.nan), ("v", math.nan), ("q", math.inf), ("v", -math.inf)]
)
@pytest.mark.parametrize("call", [(40, 40, 8, 1, 3), (40, 40, 8, 8, 3), (1, 40, 8, 1, 3)], ids=str)
def test_numbers_that_are_not_finite_are_refused(call: tuple[int, ...], name: str, value: float) -> None:
    tensors = dict(zip("qkv", draw_qkv(call[0], call[1]), strict=True))
    tensors[name][0, 1, -1, 2] = value
    blocks = random_blocks(*call)
    with pytest.raises(ValueError, match="attention is not finite: q, k or v holds NaN or infinite values"):
        sparse(*tensors.values(), blocks, call)
    if call[3] == 1:
        with pytest.raises(ValueError, match="attention is not finite"):
            block_sparse_attention_with_mass(*tensors.values(), blocks, block_size=8)


@pytest.mark.parametrize("query_block", [1, 4])
def test_an_empty_batch_gives_an_empty_result(query_block: int) -> None:
    q, k, v = draw_qkv(20, 20, batch=0)
    blocks = select_blocks(q, k, block_size=4, top_k=2, query_block=query_block)
    out = block_sparse_attention(q, k, v, blocks, block_size=4, query_block=query_block)
    assert out.shape == (0, 2, 20, 5)


def test_decoding_reads_keys_that_all_heads_share() -> None:
    q, k, v = draw_qkv(1, 20, heads=4)
    k, v = (x[:, :1].expand(1, 4, 20, -1) for x in (k, v))
    blocks = select_blocks(q, k, block_size=4, top_k=2)
    shared = block_sparse_attention(q, k, v, blocks, block_size=4)
    torch.testing.assert_close(shared, block_sparse_attention(q, k.clone(), v.clone(), blocks, block_size=4))
