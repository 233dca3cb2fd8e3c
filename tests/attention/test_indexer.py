from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dslearn.attention import TokenIndexer
from tests.attention.plain import changed_at, draw

SIZES = {"query_dim": 6, "num_heads": 3, "head_dim": 8, "rope_dim": 4, "top_k": 5}


def indexer(**sizes: int) -> TokenIndexer:
    torch.manual_seed(2)
    return TokenIndexer(10, **{**SIZES, **sizes}).double().requires_grad_(False)


def inputs(batch: int = 2, tokens: int = 20) -> tuple[Tensor, Tensor]:
    return draw(batch, tokens, 10), draw(batch, tokens, 6, seed=1)


def test_a_score_is_the_weighted_sum_of_the_heads_positive_products() -> None:
    layer, (x, c) = indexer(rope_dim=0), inputs(batch=1)
    scores = layer.scores(x, c)
    q = layer.query(c).view(20, 3, 8)
    k, w = layer.key_norm(layer.key(x))[0], layer.head_weight(x)[0]
    for t, s in ((0, 0), (7, 3), (19, 19), (19, 0)):
        products = [float(w[t, j] * max(float(q[t, j] @ k[s]), 0.0)) for j in range(3)]
        assert float(scores[0, t, s]) == pytest.approx(sum(products) / (3 * 8) ** 0.5)
    assert bool((scores[0].triu(1)[torch.ones(20, 20).triu(1).bool()] == -torch.inf).all())


def test_each_query_keeps_its_best_earlier_tokens_and_itself_is_one_of_them() -> None:
    layer, (x, c) = indexer(), inputs()
    chosen, scores = layer(x, c), layer.scores(x, c)
    assert chosen.shape == (2, 20, 5)
    for t in range(20):
        best = sorted(range(t + 1), key=lambda s: -float(scores[1, t, s]))[:5]
        kept = [float(scores[1, t, s]) for s in best]
        row = chosen[1, t].tolist()
        seen = [s for s in row if s >= 0]
        assert len(set(seen)) == len(seen) == min(5, t + 1)
        assert max(seen) <= t
        assert row[len(seen) :] == [-1] * (5 - len(seen))
        assert [float(scores[1, t, s]) for s in seen] == pytest.approx(kept)


def test_the_choice_is_causal_when_tokens_change() -> None:
    layer, (x, c) = indexer(), inputs()
    before = layer(x, c)
    for t in (1, 8, 19):
        after = layer(changed_at(x, t), changed_at(c, t))
        assert torch.equal(after[:, :t], before[:, :t])
        assert not torch.equal(after[:, t:], before[:, t:])


def test_scores_depend_on_the_distance_when_features_turn() -> None:
    x, c = draw(1, 1, 10).expand(1, 12, 10), draw(1, 1, 6, seed=1).expand(1, 12, 6)
    turning, still = (indexer(rope_dim=rope_dim).scores(x, c)[0] for rope_dim in (8, 0))
    assert len({round(float(still[t, s]), 9) for t in range(12) for s in range(t + 1)}) == 1
    assert float(turning[9, 4]) == pytest.approx(float(turning[6, 1]), abs=1e-6)
    assert float(turning[9, 4]) != pytest.approx(float(turning[9, 9]), abs=1e-3)


def test_fewer_tokens_than_it_would_keep() -> None:
    assert indexer()(*inputs(batch=1, tokens=2)).tolist()[0][0] == [0, -1, -1, -1, -1]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"rope_dim": 9}, "rope_dim must be within head_dim=8 and top_k at least 1; got 9 and 5"),
        ({"rope_dim": -2}, "got -2 and 5"),
        ({"top_k": 0}, "got 4 and 0"),
    ],
)
def test_sizes_that_do_not_fit_are_named(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        indexer(**sizes)
