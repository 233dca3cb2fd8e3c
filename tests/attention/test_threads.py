from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch

from dslearn.attention import block_sparse_attention, select_blocks
from dslearn.attention.threads import side_by_side
from tests.attention.plain import draw


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_task_is_done_and_the_threads_are_as_before(threads: int) -> None:
    done = torch.zeros(7)
    assert side_by_side(lambda i: done[i].add_(1) and i, range(7), threads=threads) == list(range(7))
    assert done.tolist() == [1] * 7
    assert torch.get_num_threads() == threads
    side_by_side(lambda i: done[i].add_(1), [], threads=threads)


def test_an_error_is_raised_and_the_threads_are_as_before(threads: int) -> None:
    def fail(i: int) -> None:
        if i == 3:
            raise ValueError("the third")

    with pytest.raises(ValueError, match="the third"):
        side_by_side(fail, range(7), threads=threads)
    assert torch.get_num_threads() == threads


def bf16() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad, bf16])
def test_tasks_run_in_the_callers_modes(threads: int, mode: Callable[[], AbstractContextManager]) -> None:
    def modes(_: int) -> tuple[bool, bool, bool]:
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")

    with mode():
        assert side_by_side(modes, range(4), threads=threads) == [modes(0)] * 4


def test_long_texts_give_the_same_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dslearn.attention.dispatch.SHARED", 1)
    monkeypatch.setattr("dslearn.attention.select.CHUNK", 2**12)
    results, before = [], torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        q, k, v = (draw(1, 3, 200, 4, seed=seed, dtype=torch.float32).requires_grad_() for seed in range(3))
        blocks = select_blocks(q, k, block_size=8, top_k=3)
        out = block_sparse_attention(q, k, v, blocks, block_size=8)
        out.square().sum().backward()
        results.append([blocks, out.detach(), q.grad, k.grad, v.grad])
        with torch.inference_mode():
            results[-1].append(block_sparse_attention(q, k, v, blocks, block_size=8))
    torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)
