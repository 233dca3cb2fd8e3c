"""Independent pieces of work on several cores of a processor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Task], Result], tasks: Sequence[Task], *, threads: int) -> list[Result]:
    """``work(task)`` for every task, ``threads`` of them at a time, each on one core; results in the tasks' order.

    For tasks made of short operations: shared between cores one by one, these would leave the cores waiting for each
    other. The caller's modes (gradients, inference, autocast) hold in the tasks; an error in one of them is raised.
    """
    threads = min(threads, len(tasks))
    if threads <= 1:
        return [work(task) for task in tasks]
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    autocast = {"enabled": torch.is_autocast_enabled("cpu"), "dtype": torch.get_autocast_dtype("cpu")}

    def run(task: Task) -> Result:
        # A mode belongs to a thread; new ones begin with the defaults.
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", **autocast),
        ):
            return work(task)

    with one_core_a_thread(), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, tasks))


def threads_for(device: torch.device, *, worthwhile: bool) -> int:
    """As many as PyTorch has on a processor; one elsewhere, or if the tasks are too small to start threads for."""
    return torch.get_num_threads() if worthwhile and device.type == "cpu" else 1


@contextmanager
def one_core_a_thread() -> Iterator[None]:
    """Operations of the threads started inside use one core each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
