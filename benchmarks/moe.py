"""A mixture of experts on this machine's CPU: time against peers and against its arithmetic, balance and its price.

fp32, two threads. "limit" is the time that the chosen experts' multiply-adds need at the GEMM rate: that of fp32 2048³
`mm`, timed in the same turns. Peers get the same tokens, those of transformers the same weights. What st-moe-pytorch
and mixture-of-experts compute differs (a capacity; experts of other matrices), and the latter knows two choices only;
they are timed where they are installed.

A = 2,048 tokens, 256 features, 16 experts of 256, two a token. B = 2,048, 512, 64 experts of 256, six a token.

Rows with a bar:
  forward-limit-A, -B            ours / limit                                            ≤ 1.5, 1.2
  forward-over-PEER-A, -B        a peer's forward / ours                                 ≥ 1
  backward-over-PEER-A, -B       a peer's forward + backward / ours                      ≥ 1
  text-use-bias                  mean / highest load, worst layer, lowest of three seeds, held-out text   ≥ .92
  text-dropped-bias              share of its choices that are dropped                   ≤ 0
  text-loss-bias                 held-out loss / the unbalanced network's, worst of three seeds   ≤ 1.005
  dispatch-saved-limited         % fewer bytes than one send an expert; 64 experts, top-8, four of eight nodes   ≥ 40
  dispatch-loss-limited          held-out loss / that without a limit, worst of three seeds   ≤ 1.01
Rows without: the other ways to balance, what a perfectly fair router reaches, sends shared within a node alone.
Networks are kept in work/benchmarks/moe, so that an interrupted run of the same code goes on.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import mixtures
from benchmarks.report import Bar, Report, run
from dslearn.course.measure import time_interleaved
from dslearn.moe import MoE, from_transformers

GEMM = 2048
SHAPES = {"A": (2048, 256, 256, 16, 2), "B": (2048, 512, 256, 64, 6)}  # tokens, dim, hidden, experts, top_k
PEERS = ("transformers-eager", "transformers-grouped", "st-moe-pytorch", "mixture-of-experts")

BARS = {
    "forward-limit-A": Bar("<=", 1.5),
    "forward-limit-B": Bar("<=", 1.2),
    **{
        f"{way}-over-{peer}-{shape}": Bar(">=", 1)
        for way in ("forward", "backward")
        for peer in PEERS
        for shape in SHAPES
        if (peer, shape) != ("mixture-of-experts", "B")
    },
    "text-use-bias": Bar(">=", 0.92),
    "text-dropped-bias": Bar("<=", 0),
    "text-loss-bias": Bar("<=", 1.005),
    "dispatch-saved-limited": Bar(">=", 40),
    "dispatch-loss-limited": Bar("<=", 1.01),
}


def measure(report: Report) -> None:
    """All rows; with ``report.quick`` at small sizes."""
    torch.set_num_threads(2)
    for name, shape in SHAPES.items():
        speed(report, name, (128, 32, 32, 8, 2) if report.quick else shape, repeats=3 if report.quick else 25)
    mixtures.measure(report)


def speed(report: Report, name: str, shape: tuple[int, int, int, int, int], *, repeats: int) -> None:
    """Ours and the peers in turns, forward alone and with backward."""
    tokens, dim, hidden, experts, top_k = shape
    x = torch.randn(1, tokens, dim, generator=torch.Generator().manual_seed(0))
    a, b = torch.randn(GEMM, GEMM), torch.randn(GEMM, GEMM)
    peers = contenders(dim, hidden, experts, top_k)
    ours = from_transformers(peers["transformers-eager"]) if peers["transformers-eager"] else MoE(*shape[1:])
    present: dict[str, nn.Module] = {"ours": ours, **{peer: layer for peer, layer in peers.items() if layer}}
    forward: dict[str, Callable[[], object]] = {peer: _forward(layer, x) for peer, layer in present.items()}
    ms = time_interleaved({"gemm": lambda: a @ b, **forward}, repeats=repeats)
    both = time_interleaved(
        {peer: _backward(layer, x) for peer, layer in present.items()}, repeats=max(3, repeats // 2)
    )
    rate = 2 * GEMM**3 / statistics.median(ms["gemm"])
    limit = 2 * 3 * tokens * top_k * dim * hidden / rate
    beside = f"{limit:.1f} ms for the chosen experts at {rate / 1e6:.0f} GFLOP/s"
    value = statistics.median(ms["ours"]) / limit
    report.add(f"forward-limit-{name}", value, "×", beside, ours_ms=ms["ours"], gemm_ms=ms["gemm"])
    for peer in PEERS:
        if (peer, name) == ("mixture-of-experts", "B"):
            continue
        for way, times in (("forward", ms), ("backward", both)):
            if peer in times:
                report.add_ratio(f"{way}-over-{peer}-{name}", times[peer], times["ours"], f"{peer}, same run")
            else:
                report.add(f"{way}-over-{peer}-{name}", None, "×", f"{peer} is not installed")


def contenders(dim: int, hidden: int, experts: int, top_k: int) -> dict[str, nn.Module | None]:
    """The peers' layers, those of transformers with the same weights; None where one is not installed."""
    eager, grouped = (_mixtral(dim, hidden, experts, top_k, how) for how in ("eager", "grouped_mm"))
    if eager is not None and grouped is not None:
        for parameter in eager.parameters():
            nn.init.normal_(parameter, std=0.05)
        grouped.load_state_dict(eager.state_dict())
    return {
        "transformers-eager": eager,
        "transformers-grouped": grouped,
        "st-moe-pytorch": _st_moe(dim, hidden, experts, top_k),
        "mixture-of-experts": _mixture_of_experts(dim, hidden, experts) if top_k == 2 else None,
    }


def _mixtral(dim: int, hidden: int, experts: int, top_k: int, implementation: str) -> nn.Module | None:
    try:
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
    except ImportError:
        return None
    config = MixtralConfig(
        hidden_size=dim, intermediate_size=hidden, num_local_experts=experts, num_experts_per_tok=top_k
    )
    config._experts_implementation = implementation
    return MixtralSparseMoeBlock(config)


def _st_moe(dim: int, hidden: int, experts: int, top_k: int) -> nn.Module | None:
    try:
        from st_moe_pytorch import MoE as Theirs  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return Theirs(dim=dim, num_experts=experts, gating_top_n=top_k, expert_hidden_mult=hidden / dim)


def _mixture_of_experts(dim: int, hidden: int, experts: int) -> nn.Module | None:
    try:
        from mixture_of_experts import MoE as Theirs  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return Theirs(dim=dim, num_experts=experts, hidden_dim=hidden)


def _forward(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    def work() -> object:
        with torch.no_grad():
            return layer(x)

    return work


def _backward(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    def work() -> None:
        given = x.clone().requires_grad_()
        _first(layer(given)).sum().backward()
        layer.zero_grad()

    return work


def _first(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]


if __name__ == "__main__":
    sys.exit(run("moe", __doc__ or "", BARS, measure))
