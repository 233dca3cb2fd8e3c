from __future__ import annotations

import pytest
import torch

from dslearn.attention import dense_attention
from tests.attention.plain import causal, draw_qkv, masked_attention


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 9), (4, 9), (9, 9)])
def test_causal_attention_is_the_formula_with_the_queries_last(queries: int, keys: int) -> None:
    q, k, v = draw_qkv(queries, keys, batch=2)
    expected = masked_attention(q, k, v, causal(queries, keys))
    torch.testing.assert_close(dense_attention(q, k, v), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("queries", "keys"), [(1, 9), (4, 9), (9, 4)])
def test_without_causal_every_query_reads_every_key(queries: int, keys: int) -> None:
    q, k, v = draw_qkv(queries, keys)
    expected = masked_attention(q, k, v, torch.ones(queries, keys, dtype=torch.bool))
    torch.testing.assert_close(dense_attention(q, k, v, causal=False), expected, rtol=0, atol=1e-12)


def test_a_step_of_decoding_is_the_last_rows_of_the_whole() -> None:
    q, k, v = draw_qkv(12, 12)
    whole = dense_attention(q, k, v)
    for queries in (1, 5):
        torch.testing.assert_close(dense_attention(q[:, :, -queries:], k, v), whole[:, :, -queries:])


@pytest.mark.parametrize(
    ("queries", "keys", "message"),
    [
        (0, 4, r"at least one query and one key; got 0 queries and 4 keys"),
        (0, 0, r"at least one query and one key; got 0 queries and 0 keys"),
        (5, 4, r"at least as many keys as queries; got 5 queries, 4 keys"),
    ],
)
def test_sizes_that_cannot_be_causal_are_refused(queries: int, keys: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dense_attention(*draw_qkv(queries, keys))
