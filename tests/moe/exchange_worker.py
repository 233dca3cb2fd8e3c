"""What one process of test_exchange.py does: its part of the mixture, compared with the whole."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from dslearn.moe import ExpertParallel, MoE
from dslearn.moe.exchange import copies_sent


def run(rank: int, processes: int, folder: str, deduplicate: bool, limited: bool) -> None:
    os.environ.update(OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder, "store")), processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes, timeout=timedelta(seconds=60))
    try:
        torch.save(compared(rank, processes, deduplicate, limited), Path(folder, f"{rank}.pt"))
    finally:
        dist.destroy_process_group()


def compared(rank: int, processes: int, deduplicate: bool, limited: bool) -> dict:
    torch.manual_seed(0)
    groups = {"num_groups": processes, "top_groups": processes // 2} if limited else {}
    layer = MoE(10, 6, 4 * processes, 4, num_shared=1, **groups)
    x = torch.randn(processes, 12, 10)[rank].requires_grad_()
    direction = torch.randn(12, 10)
    whole = layer(x)
    (whole * direction).sum().backward()
    expected, x.grad = x.grad, None
    parallel = ExpertParallel(layer, deduplicate=deduplicate)
    out = parallel(x)
    (out * direction).sum().backward()
    copies = copies_sent(layer.routing, processes, own=rank, deduplicate=deduplicate)
    return {
        "output": (out - whole).abs().max().item(),
        "gradient": (x.grad - expected).abs().max().item(),
        "sent": parallel.sent_bytes,
        "copies": copies,
    }
