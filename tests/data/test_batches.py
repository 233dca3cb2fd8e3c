from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dslearn.data.batches import TokenStream, step_generator


def stream(tokens: int = 1000, **changed: int) -> TokenStream:
    return TokenStream(torch.arange(tokens), **{"batch_size": 8, "seq_len": 16, "seed": 0} | changed)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_batch_depends_on_seed_and_step_alone(seed: int, step: int) -> None:
    used, fresh = stream(seed=seed), stream(seed=seed)
    used.batch(step + 1)
    torch.manual_seed(step % 1000)
    assert torch.equal(used.batch(step), fresh.batch(step))
    assert not torch.equal(used.batch(step), used.batch(step + 1))
    assert not torch.equal(used.batch(step), stream(seed=seed + 1).batch(step))


def test_seed_and_step_do_not_stand_for_one_another() -> None:
    assert not torch.equal(stream(seed=1).batch(2), stream(seed=2).batch(1))


@given(st.integers(2, 60), st.integers(1, 70), st.integers(1, 5))
def test_windows_are_unbroken_runs_of_the_tokens(tokens: int, seq_len: int, batch_size: int) -> None:
    if tokens < seq_len + 1:
        with pytest.raises(ValueError, match=rf"seq_len {seq_len} needs at least {seq_len + 1} tokens, got {tokens}"):
            stream(tokens, seq_len=seq_len)
        return
    batch = stream(tokens, seq_len=seq_len, batch_size=batch_size).batch(3)
    assert batch.shape == (batch_size, seq_len + 1)
    assert batch.dtype == torch.int64
    assert torch.equal(batch - batch[:, :1], torch.arange(seq_len + 1).expand_as(batch))
    assert int(batch.max()) < tokens


def test_every_start_is_drawn_first_and_last_included() -> None:
    starts = torch.cat([stream(20, seq_len=16).batch(step)[:, 0] for step in range(50)])
    assert starts.unique().tolist() == [0, 1, 2, 3]
    assert starts.bincount().min() > 60  # of 400


def test_the_corpus_is_not_copied() -> None:
    tokens = torch.zeros(1000, dtype=torch.int32)
    watched = TokenStream(tokens, batch_size=2, seq_len=4, seed=0)
    tokens.fill_(7)
    assert watched.batch(0).unique().tolist() == [7]


@pytest.mark.parametrize("name", ["batch_size", "seq_len"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        stream(**{name: 0})


def test_bad_tokens_seeds_and_steps_are_named() -> None:
    with pytest.raises(ValueError, match=r"1-D integers, got shape \(2, 3\) of torch.int64"):
        TokenStream(torch.zeros(2, 3, dtype=torch.int64), batch_size=1, seq_len=1, seed=0)
    with pytest.raises(ValueError, match=r"1-D integers, got shape \(9,\) of torch.float32"):
        TokenStream(torch.zeros(9), batch_size=1, seq_len=1, seed=0)
    with pytest.raises(ValueError, match=r"seed must be in 0…2\*\*64 - 1, got -1"):
        stream(seed=-1)
    with pytest.raises(ValueError, match=r"step must be in .*, got -5"):
        stream().batch(-5)
    assert step_generator(2**64 - 1, 0).integers(10) in range(10)
