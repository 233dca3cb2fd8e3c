from __future__ import annotations

import importlib
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dslearn.attention import BlockTree, block_sparse_attention, own_blocks, search, select_blocks
from tests.attention.plain import brute_force_blocks, changed_at, draw

select_module = importlib.import_module("dslearn.attention.select")
METHODS = pytest.mark.parametrize("method", ["tree", "flat"])


@st.composite
def calls(draws: st.DrawFn) -> dict[str, int]:
    block_size = draws(st.sampled_from([1, 2, 6, 16, 48]))
    query_block = draws(st.sampled_from([d for d in range(1, block_size + 1) if block_size % d == 0]))
    before = query_block * draws(st.integers(0, 60 // query_block))
    return {
        "batch": draws(st.integers(1, 2)),
        "heads": draws(st.integers(1, 2)),
        "queries": draws(st.integers(1, 60)),
        "before": before,
        "block_size": block_size,
        "query_block": query_block,
        "top_k": draws(st.integers(1, 6)),
        "seed": draws(st.integers(0, 1000)),
    }


def index_features(call: dict[str, int], rank: int = 3) -> tuple[Tensor, Tensor]:
    shape = (call["batch"], call["heads"])
    tokens = call["before"] + call["queries"]
    return draw(*shape, call["queries"], rank, seed=call["seed"]), draw(*shape, tokens, rank, seed=call["seed"] + 1)


def kwargs(call: dict[str, int]) -> dict[str, int]:
    return {name: call[name] for name in ("block_size", "query_block", "top_k")}


@settings(deadline=None, max_examples=60)
@given(calls())
def test_flat_is_brute_force(call: dict[str, int]) -> None:
    q, k = index_features(call)
    expected = brute_force_blocks(q, k, call["block_size"], call["top_k"], call["query_block"])
    assert torch.equal(select_blocks(q, k, method="flat", **kwargs(call)), expected)


@settings(deadline=None, max_examples=30)
@given(calls())
def test_a_tree_with_a_wide_beam_is_flat(call: dict[str, int]) -> None:
    q, k = index_features(call)
    flat = select_blocks(q, k, method="flat", **kwargs(call))
    assert torch.equal(select_blocks(q, k, method="tree", branching=2, beam=200, **kwargs(call)), flat)


@settings(deadline=None, max_examples=60)
@given(calls(), st.integers(2, 4))
def test_a_tree_chooses_own_first_only_visible_blocks_none_twice_and_as_many_as_there_are(
    call: dict[str, int], branching: int
) -> None:
    q, k = index_features(call)
    chosen = select_blocks(q, k, method="tree", branching=branching, **kwargs(call))
    units = -(-call["queries"] // call["query_block"])
    assert chosen.shape == (call["batch"], call["heads"], units, call["top_k"])
    for unit in range(units):
        own = (call["before"] + unit * call["query_block"]) // call["block_size"]
        for row in chosen[:, :, unit].flatten(0, 1).tolist():
            visible = [block for block in row if block >= 0]
            assert row[0] == own
            assert max(visible) == own
            assert len(set(visible)) == len(visible) == min(call["top_k"], own + 1)
            assert row[len(visible) :] == [-1] * (call["top_k"] - len(visible))


def test_a_narrow_tree_really_descends_and_still_finds_most_of_what_flat_finds() -> None:
    q, k = draw(1, 2, 600, 4), draw(1, 2, 600, 4, seed=1)
    flat = select_blocks(q, k, block_size=2, top_k=4, method="flat")
    tree = select_blocks(q, k, block_size=2, top_k=4, method="tree", branching=2)
    assert not torch.equal(tree, flat)
    found = (tree[..., :, None] == flat[..., None, :]).any(-1)[:, :, 64:].double().mean()
    assert found > 0.7


def test_chosen_blocks_come_best_first_and_the_tree_scores_them_as_flat_does() -> None:
    q, k = draw(1, 2, 300, 4), draw(1, 2, 300, 4, seed=1)
    scores = BlockTree.build(k, block_size=2).scores(q)
    for method in ("tree", "flat"):
        chosen = select_blocks(q, k, block_size=2, top_k=5, method=method, branching=2)[:, :, 20:, 1:]
        theirs = scores[:, :, 20:].gather(-1, chosen)
        assert bool((theirs[..., 1:] <= theirs[..., :-1]).all())


@METHODS
@pytest.mark.parametrize("tokens", [256, 203])
def test_the_choice_of_single_queries_is_causal_when_tokens_change(method: str, tokens: int) -> None:
    q, k = draw(2, 2, tokens, 4), draw(2, 2, tokens, 4, seed=1)
    sizes = {"block_size": 2, "top_k": 3, "branching": 2, "method": method}
    before = select_blocks(q, k, **sizes)
    later_changes = 0
    for t in (0, 1, 2, 63, 64, 65, 128, 150, tokens - 2, tokens - 1):
        after = select_blocks(changed_at(q, t), changed_at(k, t), **sizes)
        assert torch.equal(after[:, :, :t], before[:, :, :t]), f"token {t} changed a choice before it"
        later_changes += int((after[:, :, t:] != before[:, :, t:]).any())
    assert later_changes >= 6, "the choices hardly depend on the tokens: the test proves nothing"


@METHODS
def test_a_shared_choice_is_not_causal_a_later_query_moves_an_earlier_ones_keys(method: str) -> None:
    east, north = torch.eye(2, dtype=torch.float64)
    k = torch.stack([east] * 4 + [north] * 4 + [0 * east] * 4).view(1, 1, 12, 2)
    q = torch.zeros(1, 1, 12, 2, dtype=torch.float64)
    q[0, 0, 8] = east
    q[0, 0, 11] = 9 * north
    other = q.clone()
    other[0, 0, 11] = 9 * east  # the last query of the unit
    shared = {"block_size": 4, "top_k": 2, "query_block": 4, "method": method}
    chosen, chosen_after = select_blocks(q, k, **shared), select_blocks(other, k, **shared)
    assert chosen[0, 0, 2].tolist() == [2, 1]
    assert chosen_after[0, 0, 2].tolist() == [2, 0]
    v = draw(1, 1, 12, 2)
    first, first_after = (
        block_sparse_attention(q, k, v, blocks, block_size=4, query_block=4)[0, 0, 8]
        for blocks in (chosen, chosen_after)
    )
    assert not torch.allclose(first, first_after, atol=1e-3)
    single = {**shared, "query_block": 1}
    assert torch.equal(select_blocks(q, k, **single)[:, :, :11], select_blocks(other, k, **single)[:, :, :11])


@METHODS
@pytest.mark.parametrize("tokens", [130, 128, 65, 64, 5, 1])
def test_decoding_against_a_tree_is_the_last_row_of_the_whole(method: str, tokens: int) -> None:
    q, k = draw(2, 2, tokens, 4), draw(2, 2, tokens, 4, seed=1)
    sizes = {"block_size": 4, "top_k": 3, "method": method}
    whole = select_blocks(q, k, branching=2, **sizes)
    tree = BlockTree((2, 2, 4), 500, block_size=4, branching=2, dtype=torch.float64)
    tree.append(k)
    for queries in {1, min(tokens, 7)}:
        assert torch.equal(select_blocks(q[:, :, -queries:], tree, **sizes), whole[:, :, -queries:])


@METHODS
def test_a_choice_made_step_by_step_is_the_choice_of_the_whole(method: str) -> None:
    q, k = draw(1, 2, 90, 4), draw(1, 2, 90, 4, seed=1)
    sizes = {"block_size": 2, "top_k": 3, "method": method, "beam": 2}
    tree = BlockTree((1, 2, 4), 90, block_size=2, branching=2, dtype=torch.float64)
    steps = []
    for t in range(90):
        tree.append(k[:, :, t : t + 1])
        steps.append(select_blocks(q[:, :, t : t + 1], tree, **sizes))
    assert torch.equal(torch.cat(steps, dim=2), select_blocks(q, k, branching=2, **sizes))


@METHODS
def test_long_inputs_are_chosen_in_parts_as_each_sequence_and_head_alone(method: str) -> None:
    q, k = draw(2, 3, 500, 16), draw(2, 3, 500, 16, seed=1)
    sizes = {"block_size": 4, "top_k": 5, "method": method, "branching": 2}
    together = select_blocks(q, k, **sizes)
    for b, h in ((0, 0), (1, 2)):
        alone = select_blocks(q[b : b + 1, h : h + 1], k[b : b + 1, h : h + 1], **sizes)
        assert torch.equal(together[b, h], alone[0, 0])


def test_half_precision_chooses_and_no_gradient_is_kept() -> None:
    q, k = draw(1, 1, 40, 4, dtype=torch.bfloat16), draw(1, 1, 40, 4, seed=1, dtype=torch.bfloat16)
    chosen = select_blocks(q.requires_grad_(), k.requires_grad_(), block_size=4, top_k=3)
    assert not chosen.requires_grad
    assert torch.equal(chosen[..., 0], (torch.arange(40) // 4).expand(1, 1, -1))


def test_own_blocks_are_those_the_units_stand_in() -> None:
    assert own_blocks(10, 10, 4, 1).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert own_blocks(6, 10, 4, 2).tolist() == [1, 1, 2]


def counted(monkeypatch: pytest.MonkeyPatch, blocks: int, method: str, top_k: int) -> tuple[int, Tensor]:
    """Scores computed by a strict choice, one query a block."""
    total = 0

    def counting(*args: object, **kwargs: object) -> Iterator[object]:
        nonlocal total
        for visit in search(*args, **kwargs):
            total += int(visit.scores.isfinite().sum())
            yield visit

    monkeypatch.setattr(select_module, "search", counting)
    q, k = draw(1, 1, blocks, 4), draw(1, 1, blocks, 4, seed=1)
    chosen = select_blocks(q, k, block_size=1, top_k=top_k, method=method)
    return total, chosen


def test_tree_scorings_grow_as_n_log_n_and_are_a_quarter_of_flats_at_1024_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    top_k, branching = 8, 4
    flat, _ = counted(monkeypatch, 1024, "flat", top_k)
    assert flat == 1024 * 1023 // 2
    for blocks in (256, 1024):
        tree, _ = counted(monkeypatch, blocks, "tree", top_k)
        n_log_n = sum(top_k * branching * math.log(max(own, 1), branching) for own in range(blocks))
        assert tree <= 1.15 * n_log_n
    assert tree <= flat / 4


def test_a_wider_beam_scores_more_and_finds_more(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = draw(1, 1, 600, 4), draw(1, 1, 600, 4, seed=1)
    sizes = {"block_size": 2, "top_k": 4, "branching": 2}
    flat = select_blocks(q, k, method="flat", **sizes)
    missed = [
        int((select_blocks(q, k, method="tree", beam=beam, **sizes)[..., :, None] != flat[..., None, :]).all(-1).sum())
        for beam in (3, 8, 16, 300)
    ]
    assert missed == sorted(missed, reverse=True)
    assert missed[0] > 2 * missed[2]
    assert missed[-1] == 0


GOOD = {"block_size": 4, "top_k": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "forest"}, "method must be 'tree' or 'flat'; got 'forest'"),
        ({"top_k": 0}, "top_k must be at least 1, the query's own block; got 0"),
        ({"block_size": 0}, "block_size >= 1"),
        ({"branching": 1}, "branching >= 2"),
        ({"query_block": 3}, "query_block must divide block_size=4; got 3"),
        ({"query_block": 8}, "query_block must divide block_size=4; got 8"),
        ({"query_block": 0}, "query_block must divide block_size=4; got 0"),
        ({"top_k": 5, "beam": 3}, r"a beam of 3 cannot end in top_k - 1 = 4 past blocks"),
        ({"q": draw(1, 2, 17, 3)}, "queries are the last of the keys: got 17 queries and 16 keys"),
        ({"q": draw(1, 2, 0, 3)}, "got 0 queries and 16 keys"),
        ({"k": draw(1, 2, 0, 3)}, "got an empty sequence"),
        ({"q": draw(1, 2, 3, 3), "query_block": 2}, "the first query, token 13, must begin a unit of query_block=2"),
        ({"q": draw(1, 2, 16, 5)}, r"q and k disagree: q is \(1, 2, 16, 5\), k has \(1, 2\) heads of 3"),
        ({"q": draw(2, 2, 16, 3)}, r"q and k disagree: q is \(2, 2, 16, 3\)"),
        ({"q": draw(1, 1, 16, 3)}, r"q and k disagree: q is \(1, 1, 16, 3\)"),
        ({"q": draw(1, 2, 16, 3, dtype=torch.float32)}, "q is torch.float32 on cpu, k is torch.float64 on cpu"),
        ({"q": draw(1, 2, 16, 3).to("meta")}, "q is torch.float64 on meta, k is torch.float64 on cpu"),
        ({"q": torch.full((1, 2, 16, 3), math.nan, dtype=torch.float64)}, "a block's score is NaN"),
        ({"k": torch.full((1, 2, 16, 3), math.nan, dtype=torch.float64)}, "a block's score is NaN"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named(changes: dict, message: str) -> None:
    call = {"q": draw(1, 2, 16, 3), "k": draw(1, 2, 16, 3), **GOOD, **changes}
    with pytest.raises(ValueError, match=message):
        select_blocks(call.pop("q"), call.pop("k"), **call)


def test_a_tree_of_other_blocks_is_refused() -> None:
    k = draw(1, 2, 16, 3)
    with pytest.raises(ValueError, match="built over blocks of 8 keys, not block_size=4"):
        select_blocks(k, BlockTree.build(k, block_size=8), block_size=4, top_k=2)


def test_one_nan_among_many_tokens_is_found_by_every_method() -> None:
    q, k = draw(1, 2, 64, 3), draw(1, 2, 64, 3, seed=1)
    k[0, 1, 5, 2] = math.nan
    for method in ("tree", "flat"):
        with pytest.raises(ValueError, match="NaN"):
            select_blocks(q, k, block_size=4, top_k=3, method=method)
