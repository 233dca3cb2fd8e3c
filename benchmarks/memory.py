"""Peak memory of one call, in a process of its own."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from benchmarks.report import Report


def measure(report: Report, n: int) -> None:
    """Peak over the inputs, output included, of prefill, strict and dense."""
    for name in ("prefill", "strict", "dense"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak = pool.apply(peak_megabytes, (name, n))
        report.add(f"memory-{name}-{n}", peak, "MB", "peak of a fresh process over its inputs")


def peak_megabytes(name: str, n: int) -> float | None:
    """Highest resident memory of one call less what stood before it; None where the system does not tell."""
    import torch

    from benchmarks import attention

    torch.set_num_threads(2)
    works = {
        "prefill": lambda given: attention.sparse(*given, query_block=attention.BLOCK),
        "strict": lambda given: attention.sparse(*given, query_block=1),
        "dense": lambda given: attention.dense_attention(*given[:3]),
    }
    works[name](attention.inputs(4 * attention.BLOCK))  # libraries and thread pools are loaded
    given = attention.inputs(n)
    if not (status := Path("/proc/self/status")).exists():
        return None
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _kilobytes(status, "VmRSS")
    output = works[name](given)
    peak = _kilobytes(status, "VmHWM")
    assert output.isfinite().all()
    return (peak - before) / 1e3


def _kilobytes(status: Path, key: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key))
