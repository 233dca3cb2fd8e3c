"""Independent pieces of work on several cores of a processor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Task = TypeVar("Task")


def side_by_side(
    work: Callable[[Task], None], tasks: Sequence[Task], device: torch.device, *, worthwhile: bool = True
) -> None:
    """``work(task)`` for every task; on a processor as many at a time as PyTorch has threads, each on one core.

    For tasks made of short operations: shared between cores one by one, these would leave the cores waiting for each
    other. An error in one of them is raised.

    Args:
        worthwhile: False if the tasks are too small to start threads for; they then run one after the other.
    """
    threads = min(torch.get_num_threads(), len(tasks)) if worthwhile and device.type == "cpu" else 1
    if threads <= 1:
        for task in tasks:
            work(task)
        return
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def run(task: Task) -> None:
        # Both are settings of a thread, and new threads have the defaults.
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            work(task)

    with one_core_a_thread(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, tasks))


@contextmanager
def one_core_a_thread() -> Iterator[None]:
    """Operations of the threads started inside use one core each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
