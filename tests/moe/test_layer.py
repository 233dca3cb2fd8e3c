"""The mixture against the formula written out, its corner cases and its words for what cannot be."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from dslearn.moe import MoE

SHAPES = [
    {"score": "sigmoid", "balance": "bias"},
    {"score": "softmax", "balance": "none", "renormalize": False},
    {"score": "sigmoid", "num_groups": 4, "top_groups": 2, "routed_scale": 2.5},
    {"score": "sigmoid", "num_shared": 2},
    {"score": "softmax", "top_k": 1, "renormalize": False},
]


def plainly(layer: MoE, x: torch.Tensor) -> torch.Tensor:
    """Σ w_i expert_i(x), token by token."""
    rows = []
    for token in x.reshape(-1, x.shape[-1]):
        logits = layer.router.weight @ token
        scores = logits.sigmoid() if layer.router.score == "sigmoid" else logits.softmax(0)
        preference = scores + layer.router.bias
        if layer.num_groups:
            groups = preference.view(layer.num_groups, -1)
            judged = groups.sort(descending=True).values[:, : layer.top_k // layer.top_groups].sum(1)
            keep = judged.argsort(descending=True)[: layer.top_groups]
            preference = torch.full_like(groups, -9).index_copy(0, keep, groups[keep]).flatten()
        experts = preference.argsort(descending=True)[: layer.top_k]
        weights = scores[experts]
        weights = layer.routed_scale * (weights / weights.sum() if layer.renormalize else weights)
        row = sum(w * swiglu(token, layer.experts, e) for w, e in zip(weights, experts, strict=True))
        rows.append(row + swiglu(token, layer.shared, 0) if layer.shared is not None else row)
    return torch.stack(rows).view_as(x)


def swiglu(x: torch.Tensor, experts, number) -> torch.Tensor:
    gate, up = (experts.gate_up[number] @ x).chunk(2)
    return experts.down[number] @ (F.silu(gate) * up)


def made(**shape) -> MoE:
    layer = MoE(12, 6, 16, **{"top_k": 4, **shape})
    layer.router.bias.normal_(std=0.1)
    return layer


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_are_the_formulas(shape) -> None:
    layer = made(**shape)
    other = copy.deepcopy(layer)
    x, direction = torch.randn(2, 2, 9, 12)
    y, expected = layer(x), plainly(other, x)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)
    (y * direction).sum().backward()
    (expected * direction).sum().backward()
    for (name, mine), theirs in zip(layer.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_dropless_unless_told() -> None:
    layer = made()
    layer.router.bias[3] += 100  # everybody wants it
    layer(torch.randn(64, 12))
    assert layer.routing.counts[3] == 64 and layer.routing.dropped == 0
    assert int(layer.routing.counts.sum()) == 64 * 4


def test_a_dropped_choice_adds_nothing_and_the_rest_keeps_its_weight() -> None:
    layer = made(capacity_factor=0.5, routed_scale=2.0)
    x = torch.randn(64, 12)
    y = layer(x)
    routing = layer.routing
    assert routing.dropped > 0 and int(routing.counts.max()) <= 8
    assert len(routing.token) + routing.dropped == 64 * 4
    expected = torch.zeros_like(y)
    for token, expert, weight in zip(routing.token, routing.expert, routing.weight, strict=True):
        expected[token] += weight * swiglu(x[token], layer.experts, expert)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)
    lost = torch.bincount(routing.token, minlength=64) < 4
    sums = torch.zeros(64).index_add(0, routing.token, routing.weight)
    torch.testing.assert_close(sums[~lost], torch.full((int((~lost).sum()),), 2.0))
    assert (sums[lost] < 2.0).all()


def test_rerouting_places_what_dropping_loses() -> None:
    layer, x = made(capacity_factor=1.25, overflow="reroute"), torch.randn(64, 12)
    layer.router.bias[:4] += 100
    layer(x)
    routing = layer.routing
    assert routing.dropped == 0 and int(routing.counts.max()) <= 20
    pairs = set(zip(routing.token.tolist(), routing.expert.tolist(), strict=True))
    assert len(pairs) == 64 * 4, "no token has an expert twice"
    first = routing.token < 20  # while there is room, the first choices hold
    assert set(routing.expert[first].tolist()) == {0, 1, 2, 3}
    layer.overflow = "drop"
    layer(x)
    assert layer.routing.dropped == 4 * (64 - 20)


def test_experts_that_choose_are_evenly_loaded_and_look_ahead() -> None:
    layer = made(routing="expert")
    x = torch.randn(32, 12)
    y = layer(x)
    routing = layer.routing
    assert routing.counts.tolist() == [8] * 16
    torch.testing.assert_close(routing.weight, routing.scores.detach()[routing.token, routing.expert])
    best = [set(column.topk(8).indices.tolist()) for column in routing.scores.detach().T]
    assert [set(routing.token[routing.expert == expert].tolist()) for expert in range(16)] == best
    later = x.clone()
    later[16:] = torch.randn(16, 12)
    assert not torch.allclose(layer(later)[:16], y[:16]), "an earlier token's experts depend on later tokens"
    chosen_by_tokens = made()
    torch.testing.assert_close(chosen_by_tokens(later)[:16], chosen_by_tokens(x)[:16])


def test_the_bias_evens_the_loads_and_never_weighs() -> None:
    layer, x = MoE(12, 6, 16, 4), torch.randn(512, 12) + 1
    layer(x)
    before = layer.report().utilisation
    weights = layer.router.weight.clone()
    for _ in range(400):
        layer(x)
        layer.update_bias(rate=0.005)
    layer(x)
    assert layer.report().utilisation > max(0.9, before + 0.2)
    assert torch.equal(layer.router.weight, weights)
    scores = layer.routing.scores[layer.routing.token, layer.routing.expert]
    sums = torch.zeros(512).index_add(0, layer.routing.token, scores)
    torch.testing.assert_close(layer.routing.weight, scores / sums[layer.routing.token])


@pytest.mark.parametrize("balance", ["aux", "sequence"])
def test_the_losses_even_the_loads_too(balance: str) -> None:
    layer, x = MoE(12, 6, 16, 4, balance=balance), torch.randn(4, 128, 12) + 1
    layer(x)
    before = layer.report().utilisation
    optimizer = torch.optim.Adam([layer.router.weight], lr=0.02)
    for _ in range(100):
        layer(x)
        optimizer.zero_grad()
        layer.balance_loss.backward()
        optimizer.step()
    layer(x)
    assert layer.report().utilisation > before + 0.2
    layer.eval()(x)
    assert layer.balance_loss is None


@pytest.mark.parametrize("tokens", [1, 2])
def test_one_token_and_idle_experts(tokens: int) -> None:
    layer = made(num_shared=1)
    layer(torch.randn(tokens, 12)).square().sum().backward()
    assert (layer.routing.counts == 0).any()
    assert layer.experts.down.grad.isfinite().all()


def test_half_precision_stays_itself() -> None:
    layer = made(num_shared=1)
    exact = layer(x := torch.randn(32, 12))
    half = layer.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.05, rtol=0.1)


def test_it_can_be_copied_and_stored_after_a_pass() -> None:
    layer = made(balance="aux")
    layer(torch.randn(8, 12))
    other = copy.deepcopy(layer)
    other.load_state_dict(layer.state_dict())
    assert "router.bias" in layer.state_dict()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"top_k": 17}, "top_k must be from 1 to num_experts=16; got 17"),
        ({"top_k": 0}, "top_k must be from 1"),
        ({"num_groups": 3, "top_groups": 2}, "num_groups must divide num_experts=16; got 3"),
        ({"num_groups": 4}, "belong together"),
        ({"num_groups": 8, "top_groups": 1}, "hold top_k=4 experts; got 1"),
        ({"capacity_factor": 0}, "capacity_factor must be above 0"),
        ({"capacity_factor": float("nan")}, "capacity_factor must be above 0"),
        ({"score": "relu"}, "score must be 'sigmoid' or 'softmax'; got 'relu'"),
        ({"balance": "even"}, "balance must be one of 'bias', 'aux', 'sequence', 'none'; got 'even'"),
        ({"num_shared": -1}, "num_shared at least 0"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change, says: str, unchecked) -> None:
    with pytest.raises(ValueError, match=says):
        made(**change)


def test_tokens_that_cannot_be_routed_are_refused() -> None:
    layer = made(balance="none")
    with pytest.raises(ValueError, match="a router's score is NaN"):
        layer(torch.full((3, 12), torch.nan))
    with pytest.raises(ValueError, match=r"at least one token; got the shape \(0, 12\)"):
        layer(torch.randn(0, 12))
    with pytest.raises(RuntimeError, match="nothing was routed yet"):
        made().report()
    with pytest.raises(ValueError, match="only a layer with balance='bias'"):
        layer.update_bias()
