from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dslearn.attention import BlockTree, search, split_signs
from tests.attention.plain import block_scores, draw

sizes = st.fixed_dictionaries(
    {"tokens": st.integers(1, 90), "block_size": st.sampled_from([1, 3, 12, 16]), "branching": st.integers(2, 4)}
)


def empty_tree(capacity: int, *, block_size: int = 4, branching: int = 2) -> BlockTree:
    return BlockTree((1, 2, 3), capacity, block_size=block_size, branching=branching, dtype=torch.float64)


def assert_same(a: BlockTree, b: BlockTree) -> None:
    assert a.tokens == b.tokens
    for level in range(min(len(a.levels), len(b.levels))):
        n = a.count(level)
        assert n == b.count(level)
        assert torch.equal(a.levels[level][..., :n, :], b.levels[level][..., :n, :])


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(0, 1000))
def test_a_node_bounds_every_score_below_it(size: dict[str, int], seed: int) -> None:
    k, q = draw(2, 1, size["tokens"], 3, seed=seed), draw(2, 1, 5, 3, seed=seed + 1)
    tree = BlockTree.build(k, block_size=size["block_size"], branching=size["branching"])
    products = q @ k.mT
    for level in range(len(tree.levels)):
        span = size["block_size"] * size["branching"] ** level
        bounds = tree.scores(q, level)
        assert bounds.shape[-1] == tree.count(level) == size["tokens"] // span
        for node in range(bounds.shape[-1]):
            below = products[..., node * span : (node + 1) * span].amax(-1)
            assert bool((bounds[..., node] >= below - 1e-12).all())


@settings(deadline=None, max_examples=20)
@given(sizes)
def test_a_node_is_the_bound_over_its_box_and_above_it_none_is_tighter(size: dict[str, int]) -> None:
    k, q = draw(1, 2, size["tokens"], 3), draw(1, 2, 4, 3, seed=1)
    tree = BlockTree.build(k, block_size=size["block_size"], branching=size["branching"])
    for level in range(len(tree.levels)):
        span = size["block_size"] * size["branching"] ** level
        torch.testing.assert_close(tree.scores(q, level), block_scores(q, k, span), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(sizes, st.data())
def test_appending_in_any_pieces_builds_the_same_tree(size: dict[str, int], data: st.DataObject) -> None:
    k = draw(1, 2, size["tokens"], 3)
    whole = BlockTree.build(k, block_size=size["block_size"], branching=size["branching"])
    grown = empty_tree(size["tokens"] + 7, block_size=size["block_size"], branching=size["branching"])
    while grown.tokens < size["tokens"]:
        piece = data.draw(st.integers(0, size["tokens"] - grown.tokens))
        grown.append(k[:, :, grown.tokens : grown.tokens + max(piece, 1)])
    assert_same(grown, whole)


def test_only_complete_nodes_count_and_an_incomplete_one_changes_nothing() -> None:
    k = draw(1, 2, 31, 3)
    tree = BlockTree.build(k, block_size=4, branching=2)
    assert [tree.count(level) for level in range(len(tree.levels))] == [7, 3, 1]
    k[:, :, 28:] = 1e6
    assert_same(tree, BlockTree.build(k, block_size=4, branching=2))


def test_appending_never_touches_the_keys_it_was_given_nor_earlier_nodes() -> None:
    k = draw(1, 2, 24, 3)
    kept = k.clone()
    tree = empty_tree(24)
    tree.append(k[:, :, :10])
    first = tree.levels[0][..., :2, :].clone()
    tree.append(k[:, :, 10:])
    assert torch.equal(k, kept)
    assert torch.equal(tree.levels[0][..., :2, :], first)


def test_no_room_is_an_error_and_nothing_is_lost() -> None:
    k = draw(1, 2, 13, 3)
    tree = empty_tree(12)
    tree.append(k[:, :, :9])
    with pytest.raises(ValueError, match="room for 12 tokens; got 4 after 9"):
        tree.append(k[:, :, 9:])
    tree.append(k[:, :, 9:12])
    assert_same(tree, BlockTree.build(k[:, :, :12], block_size=4, branching=2))


@pytest.mark.parametrize(
    ("sizes", "given_"),
    [
        ({"block_size": 0}, "got 0, 4 and 8"),
        ({"block_size": 4, "branching": 1}, "got 4, 1 and 8"),
        ({"block_size": 4, "capacity": 0}, "got 4, 4 and 0"),
    ],
)
def test_sizes_that_make_no_tree_are_refused(sizes: dict[str, int], given_: str) -> None:
    with pytest.raises(ValueError, match=f"block_size >= 1, branching >= 2 and capacity >= 1; {given_}"):
        BlockTree((1, 1, 2), **{"capacity": 8, **sizes})


def test_no_tree_over_an_empty_sequence() -> None:
    with pytest.raises(ValueError, match="at least one token; got an empty sequence"):
        BlockTree.build(draw(1, 1, 0, 2), block_size=4)


def test_the_gradient_of_every_level_reaches_the_keys_that_set_the_bound() -> None:
    k = draw(1, 1, 16, 2).requires_grad_()
    q = torch.ones(1, 1, 1, 2, dtype=torch.float64)  # positive: only the maxima count
    tree = BlockTree.build(k, block_size=4, branching=2)
    for level, span in enumerate((4, 8, 16)):
        (grad,) = torch.autograd.grad(tree.scores(q, level).sum(), k, retain_graph=True)
        expected = torch.zeros_like(k)
        for node in range(16 // span):
            best = k[0, 0, node * span : (node + 1) * span].argmax(0) + node * span
            expected[0, 0, best, torch.arange(2)] = 1
        assert torch.equal(grad, expected)


def test_split_signs_make_a_product_with_a_node_its_bound() -> None:
    q, top, low = draw(4, 3), draw(4, 3, seed=1).abs(), -draw(4, 3, seed=2).abs()
    bound = (split_signs(q) * torch.cat([top, low], -1)).sum(-1)
    torch.testing.assert_close(bound, torch.maximum(q * top, q * low).sum(-1))


def test_a_search_with_a_wide_beam_sees_every_visible_block_once_from_any_level() -> None:
    k, q = draw(1, 2, 70, 3), draw(1, 2, 70, 3, seed=1)
    tree = BlockTree.build(k, block_size=2, branching=2)
    flat = tree.scores(q)[0]
    for first in range(len(tree.levels)):
        *_, leaves = search(tree, split_signs(q)[0], range(70), first=first, beam=64)
        assert leaves.level == 0
        for head, query in ((0, 0), (0, 41), (1, 68), (1, 69)):
            scores = leaves.scores[head, query]
            nodes = leaves.nodes.expand_as(leaves.scores)[head, query]
            seen = {int(n): float(s) for n, s in zip(nodes, scores, strict=True) if s.isfinite()}
            assert len(seen) == int(scores.isfinite().sum()), "a block was scored twice"
            assert sorted(seen) == list(range(query // 2))
            for block, score in seen.items():
                assert score == pytest.approx(float(flat[head, query, block]), abs=1e-12)


def test_a_search_follows_the_node_that_is_being_filled_and_none_after_it() -> None:
    k, q = draw(1, 1, 64, 3), draw(1, 1, 64, 3, seed=1)
    tree = BlockTree.build(k, block_size=2, branching=2)
    own = torch.arange(64) // 2
    for visit in search(tree, split_signs(q)[0], range(64), first=3, beam=1):
        nodes = visit.nodes.expand_as(visit.scores)
        filling = (own // 2**visit.level)[None, :, None]
        assert torch.equal(visit.scores == torch.inf, nodes == filling)
        assert bool((visit.scores[nodes > filling] == -torch.inf).all())
        assert bool((visit.scores == torch.inf).sum(-1).eq(1).all())
