from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch

from dslearn.training.threads import side_by_side


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
