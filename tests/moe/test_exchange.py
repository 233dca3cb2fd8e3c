"""Experts on real processes: the same mixture, and as many bytes as the formula says."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from tests.moe.exchange_worker import run

PROCESSES = 4


@pytest.mark.slow
@pytest.mark.parametrize("limited", [False, True])
def test_parts_make_the_whole_and_bytes_are_as_counted(tmp_path: Path, limited: bool) -> None:
    sent = {}
    for deduplicate in (False, True):
        folder = tmp_path / str(deduplicate)
        folder.mkdir()
        told = run_processes(folder, deduplicate, limited)
        assert max(row["output"] for row in told) < 1e-5
        assert max(row["gradient"] for row in told) < 1e-4
        # There: the features and four weights; back: the features; each of four bytes.
        sent[deduplicate] = sum(row["copies"] for row in told)
        assert sum(row["sent"] for row in told) == sent[deduplicate] * (10 + 4 + 10) * 4
    assert sent[True] < sent[False]
    if limited:
        assert sent[True] <= PROCESSES * 12 * 2, "no token goes to more than two processes"


def run_processes(folder: Path, deduplicate: bool, limited: bool) -> list[dict]:
    context = multiprocessing.get_context("spawn")
    arguments = (PROCESSES, str(folder), deduplicate, limited)
    processes = [context.Process(target=run, args=(rank, *arguments)) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]
