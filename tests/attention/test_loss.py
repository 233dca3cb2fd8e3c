"""How a selector learns: what the loss is, whom it moves, and that it finds what was planted."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dslearn.attention import BlockTree, DynamicSparseAttention, dense_block_mass, selector_loss
from tests.attention.plain import block_scores, causal, draw, softmax_weights

STAGES = pytest.mark.parametrize("stage", ["warmup", "sparse"])
LEARNED = pytest.mark.parametrize("selector", ["tree", "flat"])


def small_layer(**sizes: object) -> DynamicSparseAttention:
    torch.manual_seed(1)
    sizes = {"block_size": 4, "top_k": 3, "rank": 8, "branching": 2, **sizes}
    return DynamicSparseAttention(16, 2, **sizes).double()


def plain_loss(
    q: Tensor, k: Tensor, mass: Tensor, block_size: int, branching: int, considered: Tensor | None = None
) -> list[float]:
    """Each level's KL divergence, query by query, in nats, weighted by the attention in the past."""
    q, k, mass = q.detach(), k.detach(), mass.detach()
    levels = []
    span = 1
    while k.shape[2] // (block_size * span):
        scores = block_scores(q, k, block_size * span) / q.shape[-1] ** 0.5
        rows = []
        for b, h, t in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
            own = t // block_size // span
            nodes = [
                n
                for n in range(min(own, scores.shape[-1]))
                if considered is None or considered[b, h, t, n * span : (n + 1) * span].any()
            ]
            target = torch.stack([mass[b, h, t, n * span : (n + 1) * span].sum() for n in nodes]) if nodes else None
            if target is None or target.sum() == 0:
                rows.append(0.0)
                continue
            p, predicted = target / target.sum(), scores[b, h, t, nodes].softmax(0)
            terms = [float(a * (a / c).log()) for a, c in zip(p, predicted, strict=True) if a > 0]
            rows.append(float(target.sum()) * sum(terms))
        levels.append(sum(rows) / len(rows))
        span *= branching
    return levels


@pytest.mark.parametrize(("tokens", "block_size"), [(30, 4), (33, 8), (5, 8), (600, 64)])
def test_dense_mass_is_the_softmax_on_each_block(tokens: int, block_size: int) -> None:
    q, k = draw(1, 2, tokens, 4), draw(1, 2, tokens, 4, seed=1)
    weights = softmax_weights(q, k, causal(tokens, tokens))
    expected = F.pad(weights, (0, -tokens % block_size)).unflatten(-1, (-1, block_size)).sum(-1)
    mass = dense_block_mass(q, k, block_size=block_size)
    torch.testing.assert_close(mass, expected.float(), rtol=0, atol=1e-6)
    assert mass.shape[-1] == -(-tokens // block_size)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_loss_is_the_mean_of_the_levels_divergences(sparse: bool) -> None:
    q, k = draw(1, 2, 37, 4), draw(1, 2, 37, 4, seed=1)
    mass = dense_block_mass(draw(1, 2, 37, 4, seed=2), draw(1, 2, 37, 4, seed=3), block_size=4)
    considered = draw(*mass.shape, seed=4) > 0.3 if sparse else None
    if considered is not None:
        mass = mass * considered
    tree = BlockTree.build(k, block_size=4, branching=2)
    levels = plain_loss(q, k, mass, 4, 2, considered)
    assert len(levels) == 4
    assert min(levels[:3]) > 0
    loss = selector_loss(q, tree, mass, considered)
    assert float(loss) == pytest.approx(sum(levels) / 4, rel=1e-5)


def test_every_level_of_the_tree_is_trained() -> None:
    """Two keys that only a coarse node tells from others still get a gradient: levels differ from blocks alone."""
    q, k = draw(1, 1, 64, 4).requires_grad_(), draw(1, 1, 64, 4, seed=1).requires_grad_()
    mass = dense_block_mass(draw(1, 1, 64, 4, seed=2), draw(1, 1, 64, 4, seed=3), block_size=4)
    gradients = []
    for branching in (2, 100):  # a branching of 100 leaves the blocks alone
        tree = BlockTree.build(k, block_size=4, branching=branching)
        gradients.append(torch.autograd.grad(selector_loss(q, tree, mass) * len(tree.levels), (q, k)))
    assert [len(BlockTree.build(k, block_size=4, branching=b).levels) for b in (2, 100)] == [5, 1]
    for many, one in zip(*gradients, strict=True):
        assert bool(many.isfinite().all())
        assert (many - one).norm() > 0.1 * one.norm()


def test_the_loss_is_never_negative_and_zero_where_the_selector_is_right() -> None:
    q, k = draw(2, 2, 40, 4), draw(2, 2, 40, 4, seed=1)
    tree = BlockTree.build(k, block_size=4, branching=100)
    past = torch.arange(10) < (torch.arange(40) // 4)[:, None]
    right = (tree.scores(q) / 4**0.5).masked_fill(~past, -torch.inf).softmax(-1).nan_to_num(0.0)
    assert float(selector_loss(q, tree, 0.7 * right.float())) == pytest.approx(0, abs=1e-6)
    for seed in range(5):
        other = dense_block_mass(draw(2, 2, 40, 4, seed=seed), draw(2, 2, 40, 4, seed=seed + 9), block_size=4)
        assert float(selector_loss(q, tree, other)) > 1e-3


def test_a_selector_without_opinion_is_right_about_even_attention_on_every_level() -> None:
    mass = (torch.arange(16) < (torch.arange(64) // 4)[:, None]).float().expand(1, 1, -1, -1) / 16
    tree = BlockTree.build(draw(1, 1, 64, 4), block_size=4, branching=2)
    assert float(selector_loss(torch.zeros(1, 1, 64, 4, dtype=torch.float64), tree, mass)) == pytest.approx(0, abs=1e-6)
    assert float(selector_loss(draw(1, 1, 64, 4, seed=1), tree, mass)) > 0.01


def test_no_past_no_loss_but_a_graph() -> None:
    q = draw(1, 1, 3, 4).requires_grad_()
    loss = selector_loss(q, BlockTree.build(draw(1, 1, 3, 4), block_size=4), torch.ones(1, 1, 3, 1))
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(q.grad, torch.zeros_like(q))


@STAGES
@LEARNED
def test_the_loss_moves_the_selector_and_nothing_else(stage: str, selector: str) -> None:
    layer = small_layer(selector=selector)
    layer.stage = stage
    x = draw(2, 50, 16).requires_grad_()
    layer(x)
    assert layer.selector_loss.item() > 0
    layer.selector_loss.backward()
    assert x.grad is None
    moved = {name for name, p in layer.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved == {"index_q.weight", "index_k.weight"}


@STAGES
def test_the_output_moves_everything_but_the_selector(stage: str) -> None:
    layer = small_layer()
    layer.stage = stage
    x = draw(2, 50, 16).requires_grad_()
    layer(x).square().sum().backward()
    assert bool(x.grad.any())
    moved = {name for name, p in layer.named_parameters() if p.grad is not None}
    assert moved == {"qkv.weight", "out.weight"}


def test_the_sparse_stage_compares_over_the_chosen_blocks() -> None:
    layer = small_layer(top_k=2)
    x = draw(1, 50, 16)
    layer(x)
    index_q, tree = layer._index(x, None)
    chosen = layer.choose(index_q, tree)
    q, k, _ = layer._project(x, None)
    read = (chosen[..., None] == torch.arange(13)).any(-2)
    visible = read.repeat_interleave(4, dim=-1)[..., :50] & causal(50, 50)
    mass = F.pad(softmax_weights(q, k, visible), (0, 2)).unflatten(-1, (13, 4)).sum(-1)
    index_k = layer._rotate_half(layer.index_k(x).view(1, 50, 2, 8).transpose(1, 2), 0)
    levels = plain_loss(index_q, index_k, mass, 4, 2, read)
    assert float(layer.selector_loss) == pytest.approx(sum(levels) / len(levels), rel=1e-5)


def test_only_a_learning_layer_has_a_loss() -> None:
    x = draw(1, 40, 16)
    layer = small_layer()
    layer(x)
    assert layer.selector_loss is not None
    layer.eval()(x)
    assert layer.selector_loss is None
    layer.train()(x)
    layer.stage = "dense"
    layer(x)
    assert layer.selector_loss is None
    layer.stage = "warmup"
    layer(x, layer.new_cache(1, 40))
    assert layer.selector_loss is None
    layer.eval()(x)
    assert layer.selector_loss is None
    for selector in ("window", "random"):
        for stage in ("warmup", "sparse"):
            baseline = small_layer(selector=selector)
            baseline.stage = stage
            baseline(x)
            assert baseline.selector_loss is None


TOPICS, BLOCK = 8, 4


def planted(seed: int, batch: int = 8) -> tuple[Tensor, Tensor]:
    """Sequences of eight blocks of a topic each and eight that ask for one of them; what each later token asks for."""
    generator = torch.Generator().manual_seed(seed)
    topics = torch.stack([torch.randperm(TOPICS, generator=generator) for _ in range(batch)])
    asked = torch.randint(TOPICS, (batch, TOPICS * BLOCK), generator=generator)
    content = F.one_hot(topics.repeat_interleave(BLOCK, dim=1), TOPICS)
    early = torch.cat([content, torch.zeros_like(content)], dim=-1)
    late = torch.cat([torch.zeros_like(content), F.one_hot(topics.gather(1, asked), TOPICS)], dim=-1)
    noise = 0.1 * torch.randn(batch, 2 * TOPICS * BLOCK, 2 * TOPICS, generator=generator)
    return torch.cat([early, late], dim=1) + noise, asked


def planted_layer(selector: str) -> DynamicSparseAttention:
    """Its attention looks where the question points: queries read the second half of the features, keys the first."""
    torch.manual_seed(3)
    layer = DynamicSparseAttention(
        2 * TOPICS, 2, block_size=BLOCK, top_k=2, selector=selector, rank=16, branching=2, beam=1, rope_base=None
    )
    with torch.no_grad():
        eye = torch.eye(TOPICS)
        none = torch.zeros(TOPICS, TOPICS)
        q, k = torch.cat([none, 12 * eye], dim=1), torch.cat([eye, none], dim=1)
        layer.qkv.weight[: 4 * TOPICS] = torch.cat([q, q, k, k])
    return layer


def share_found(layer: DynamicSparseAttention) -> float:
    x, asked = planted(seed=1000)
    with torch.no_grad():
        chosen = layer.choose(*layer._index(x, None))[:, :, TOPICS * BLOCK :]
    return float((chosen == asked[:, None, :, None]).any(-1).float().mean())


@LEARNED
def test_warmed_up_a_selector_finds_the_block_that_was_planted(selector: str) -> None:
    layer = planted_layer(selector)
    layer.stage = "warmup"
    untrained = share_found(layer)
    optimizer = torch.optim.Adam([*layer.index_q.parameters(), *layer.index_k.parameters()], lr=0.02)
    losses = []
    for step in range(80):
        layer(planted(seed=step)[0])
        optimizer.zero_grad()
        layer.selector_loss.backward()
        optimizer.step()
        losses.append(layer.selector_loss.item())
    assert sum(losses[-5:]) < 0.25 * sum(losses[:5])
    assert untrained < 0.4
    assert share_found(layer) > 0.95
