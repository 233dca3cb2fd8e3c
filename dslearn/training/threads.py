"""Data parallelism between the cores of one processor: each thread takes some rows of a batch through the model.

A small model's operations are too short to be shared between cores one by one: the cores would mostly wait for each
other. Sharing the batch instead, they meet once a step, and work that stays in their caches comes for free.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Losses = dict[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)
Task = TypeVar("Task")
Result = TypeVar("Result")


def loss_by_threads(
    model: Network, batch: Tensor, losses_of: Callable[[Network, Tensor], Losses], *, threads: int, pieces: int
) -> Losses:
    """`losses_of(model, batch)`, the mean over pieces of the batch that threads worked on at the same time.

    Gradients come with the losses: calling `backward()` on "loss" hands out what the threads have computed. They are
    added in the order of the pieces, so the sum is the same in every run.

    Args:
        batch: its rows are divided among the pieces.
        losses_of: gives scalars and other tensors by name, the one to minimise under "loss".
        threads: at work at the same time, each with one core.
        pieces: into which the batch is cut; it divides the number of rows.

    Raises:
        ValueError: `pieces` does not divide the rows.
    """
    if pieces < 1 or len(batch) % pieces:
        raise ValueError(f"pieces must divide the batch's {len(batch)} rows, got {pieces}")
    parameters = [p for p in model.parameters() if p.requires_grad]

    def work(rows: Tensor) -> tuple[Losses, list[Tensor | None]]:
        losses = losses_of(share_parameters(model), rows)
        gradients = torch.autograd.grad(losses["loss"], parameters, allow_unused=True)
        return {name: loss.detach() for name, loss in losses.items()}, list(gradients)

    results = side_by_side(work, batch.chunk(pieces), threads=threads)
    losses = {name: torch.stack([part[name] for part, _ in results]).mean(dim=0) for name in results[0][0]}
    gradients = [_mean(parts) for parts in zip(*(gradients for _, gradients in results), strict=True)]
    return {**losses, "loss": _Known.apply(losses["loss"], gradients, *parameters)}


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


@contextmanager
def one_core_a_thread() -> Iterator[None]:
    """Operations of the threads started inside use one core each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share_parameters(model: Network) -> Network:
    """A copy of the modules with the very same parameters, so that what a forward pass leaves behind is its own."""
    twin = copy.copy(model)
    twin._modules = {name: child and share_parameters(child) for name, child in model._modules.items()}
    return twin


def _mean(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return sum(found[1:], found[0]) / len(parts) if found else None


class _Known(torch.autograd.Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (upstream,) = grad_outputs
        return None, None, *(g if g is None else upstream * g for g in ctx.gradients)
