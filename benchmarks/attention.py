"""Sparse against dense attention on this machine's CPU: time, memory, operations, fidelity, quality.

fp32, two threads, 8 heads of 64, blocks of 64 keys, 8 blocks a query (a budget of 512 keys), index features of rank
16, selection included unless a row says otherwise. Peers are timed in turns with ours. "GEMM" is fp32 2048³ `mm`, timed
in the same turns. For all of them alike, memory lies in huge pages and is kept once it was used; see `allocator`.

Rows with a bar:
  prefill-speedup-N      dense SDPA / ours, 64 queries choosing together       ≥ 4, 8, 16 at N = 8192, 16384, 32768
  prefill-gemm-ratio-N   ours / time of its kept multiply-adds at GEMM rate    ≤ 1.8
  prefill-over-flex-N    compiled flex_attention on the same blocks, without its mask's construction, / ours  ≥ 1
  strict-speedup-N       dense SDPA / ours, every query choosing alone         ≥ 1.8, 3.5, 6.5
  decode-speedup-32768   tokens one by one against the cache, dense / ours     ≥ 8
  backward-speedup-prefill-16384, backward-speedup-strict-16384   forward + backward, dense / ours   ≥ 3
  memory-prefill-32768   peak over the inputs, output included, MB             ≤ 300
  slope-prefill          log–log slope of time from 4,096 to 65,536            ≤ 1.15
  scorings-over-nlogn-N  counted tree scorings / n·beam·branching·log(blocks)  ≤ 1.15
  scorings-over-flat-65536   counted tree scorings / flat's                    ≤ .25
  fidelity-mass-text, fidelity-mass-recall   attention mass the tree's blocks hold / flat's   ≥ .9
  recall-learned         recall accuracy / dense's, worst of three seeds       ≥ .99
  recall-gap-untrained   points between learned and untrained, lowest against highest of three seeds   ≥ 10
  text-learned           bits per byte at 2,048 tokens / dense's, worst of three seeds   ≤ 1.01
Rows without: the shorter lengths, at which dense attention wins where a speedup is below 1; memory-strict-32768,
slope-strict, the local window beside text-learned, and decode-speedup-flat, which scores every block for the one token.
Networks trained on text are kept in work/benchmarks/attention, so that an interrupted run of the same code goes on.
"""

from __future__ import annotations

import math
import statistics
import sys
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from benchmarks import fidelity, memory, quality
from benchmarks.flex import flex_on_blocks
from benchmarks.report import Bar, Report, run
from dslearn.attention import BlockTree, block_sparse_attention, dense_attention, search, select_blocks, split_signs
from dslearn.attention.select import search_parts
from dslearn.course.measure import time_interleaved

HEADS, DIM, RANK, BLOCK, TOP_K = 8, 64, 16, 64, 8
GEMM = 2048

BARS = {
    **{f"prefill-speedup-{n}": Bar(">=", bar) for n, bar in ((8192, 4), (16384, 8), (32768, 16))},
    **{f"prefill-gemm-ratio-{n}": Bar("<=", 1.8) for n in (8192, 16384, 32768)},
    **{f"prefill-over-flex-{n}": Bar(">=", 1) for n in (4096, 8192, 16384)},
    **{f"strict-speedup-{n}": Bar(">=", bar) for n, bar in ((8192, 1.8), (16384, 3.5), (32768, 6.5))},
    "decode-speedup-32768": Bar(">=", 8),
    "backward-speedup-prefill-16384": Bar(">=", 3),
    "backward-speedup-strict-16384": Bar(">=", 3),
    "memory-prefill-32768": Bar("<=", 300),
    "slope-prefill": Bar("<=", 1.15),
    **{f"scorings-over-nlogn-{n}": Bar("<=", 1.15) for n in (4096, 16384, 65536)},
    "scorings-over-flat-65536": Bar("<=", 0.25),
    "fidelity-mass-text": Bar(">=", 0.9),
    "fidelity-mass-recall": Bar(">=", 0.9),
    "recall-learned": Bar(">=", 0.99),
    "recall-gap-untrained": Bar(">=", 10),
    "text-learned": Bar("<=", 1.01),
}


def measure(report: Report) -> None:
    """All rows; with ``report.quick`` at small sizes."""
    torch.set_num_threads(2)
    # Longest first: the shorter ones use its memory.
    for n in (2048, 1024) if report.quick else (32768, 16384, 8192, 4096, 2048, 1024):
        forward(report, n, repeats=3 if report.quick else max(5, min(45, 2**18 // n)))
    slopes(report, (1024, 4096) if report.quick else (4096, 8192, 16384, 32768, 65536))
    decode(report, 2048 if report.quick else 32768)
    backward(report, 1024 if report.quick else 16384)
    memory.measure(report, 2048 if report.quick else 32768)
    for n in (4096,) if report.quick else (4096, 16384, 65536):
        scorings(report, n)
    fidelity.measure(report)
    quality.measure(report)


def inputs(n: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k, v and index features of a prompt, by seed."""
    generator = torch.Generator().manual_seed(n)
    q, k, v = (torch.randn(1, HEADS, n, DIM, generator=generator) for _ in range(3))
    index_q, index_k = (torch.randn(1, HEADS, n, RANK, generator=generator) for _ in range(2))
    return q, k, v, index_q, index_k


def sparse(q: Tensor, k: Tensor, v: Tensor, index_q: Tensor, index_k: Tensor, *, query_block: int) -> Tensor:
    """Selection and attention, as a layer runs them."""
    chosen = select_blocks(index_q, index_k, block_size=BLOCK, top_k=TOP_K, query_block=query_block)
    return block_sparse_attention(q, k, v, chosen, block_size=BLOCK, query_block=query_block)


def forward(report: Report, n: int, *, repeats: int) -> None:
    """Dense, prefill, strict, flex and GEMM in turns, at one length."""
    q, k, v, index_q, index_k = given = inputs(n)
    a, b = torch.randn(GEMM, GEMM), torch.randn(GEMM, GEMM)
    works = {
        "dense": lambda: dense_attention(q, k, v),
        "gemm": lambda: a @ b,
        "prefill": lambda: sparse(*given, query_block=BLOCK),
        "strict": lambda: sparse(*given, query_block=1),
    }
    chosen = select_blocks(index_q, index_k, block_size=BLOCK, top_k=TOP_K, query_block=BLOCK)
    wanted = report.quick or f"prefill-over-flex-{n}" in BARS
    flex = flex_on_blocks(q, k, v, chosen, block_size=BLOCK) if wanted else None
    if flex is not None:
        works["flex"] = flex
        works["prefill-kernel"] = lambda: block_sparse_attention(q, k, v, chosen, block_size=BLOCK, query_block=BLOCK)
    ms = time_interleaved(works, repeats=repeats)
    kept = int((chosen >= 0).sum()) * BLOCK * BLOCK  # pairs of query and key, the own block counted whole
    rate = 2 * GEMM**3 / statistics.median(ms["gemm"])
    limit = 4 * kept * DIM / rate
    report.add_ratio(f"prefill-speedup-{n}", ms["dense"], ms["prefill"], "causal SDPA, same run")
    report.add_ratio(f"strict-speedup-{n}", ms["dense"], ms["strict"], "causal SDPA, same run")
    report.add(
        f"prefill-gemm-ratio-{n}",
        statistics.median(ms["prefill"]) / limit,
        "×",
        f"{limit:.0f} ms for the kept multiply-adds at {rate / 1e6:.0f} GFLOP/s",
        prefill_ms=ms["prefill"],
        gemm_ms=ms["gemm"],
    )
    if flex is not None:
        report.add_ratio(f"prefill-over-flex-{n}", ms["flex"], ms["prefill-kernel"], "compiled flex, kernels alone")
    elif wanted:
        report.add(f"prefill-over-flex-{n}", None, "×", "flex_attention could not be compiled here (no C++ compiler?)")


def slopes(report: Report, lengths: tuple[int, ...]) -> None:
    """Time against length for both ways of choosing, and the fitted log–log slope."""
    for name, query_block in (("prefill", BLOCK), ("strict", 1)):
        given = {n: inputs(n) for n in lengths}
        works = {str(n): partial(sparse, *given[n], query_block=query_block) for n in lengths}
        ms = {int(n): statistics.median(times) for n, times in time_interleaved(works, repeats=3).items()}
        slope = statistics.linear_regression([math.log(n) for n in ms], [math.log(t) for t in ms.values()]).slope
        report.add(f"slope-{name}", slope, "", f"from {lengths[0]:,} to {lengths[-1]:,}; dense is 2", median_ms=ms)


@torch.inference_mode()
def decode(report: Report, n: int) -> None:
    """Sixteen tokens in a row, each with a query of its own, against n cached keys and their block tree.

    In inference mode, all contenders, as ``generate`` decodes.
    """
    q, k, v, index_q, index_k = inputs(n)
    tree = BlockTree.build(index_k, block_size=BLOCK)
    tokens = [(q[:, :, i : i + 1].contiguous(), index_q[:, :, i : i + 1].contiguous()) for i in range(16)]

    def dense() -> None:
        for query, _ in tokens:
            dense_attention(query, k, v)

    def sparse_tokens(method: Literal["tree", "flat"]) -> None:
        for query, index in tokens:
            chosen = select_blocks(index, tree, block_size=BLOCK, top_k=TOP_K, method=method)
            block_sparse_attention(query, k, v, chosen, block_size=BLOCK)

    ways: dict[Literal["tree", "flat"], tuple[str, str]] = {
        "tree": ("", "blocks found by the tree"),
        "flat": ("-flat", "every block scored"),
    }
    for method, (name, how) in ways.items():
        # Two at a time: what one way to choose has read, the other would find in the processor's cache.
        works = {"dense": dense, "sparse": partial(sparse_tokens, method)}
        ms = time_interleaved(works, repeats=3 if report.quick else 15)
        beside = f"SDPA of one query, 16 tokens in a row, inference mode; {how}"
        report.add_ratio(f"decode-speedup{name}-{n}", ms["dense"], ms["sparse"], beside)


def backward(report: Report, n: int) -> None:
    """Forward and backward through attention."""
    q, k, v, index_q, index_k = inputs(n)
    for x in (q, k, v):
        x.requires_grad_(True)
    weight = torch.randn(q.shape)

    def step(attend) -> None:
        torch.autograd.grad((attend() * weight).sum(), (q, k, v))

    works = {
        "dense": lambda: step(lambda: dense_attention(q, k, v)),
        "prefill": lambda: step(lambda: sparse(q, k, v, index_q, index_k, query_block=BLOCK)),
        "strict": lambda: step(lambda: sparse(q, k, v, index_q, index_k, query_block=1)),
    }
    ms = time_interleaved(works, repeats=3)
    for name in ("prefill", "strict"):
        report.add_ratio(f"backward-speedup-{name}-{n}", ms["dense"], ms[name], "causal SDPA, same run")


def scorings(report: Report, n: int) -> None:
    """Products of a query with a node, counted as the search makes them, for every query of one head."""
    _, _, _, index_q, index_k = inputs(n)
    tree = BlockTree.build(index_k[:, :1], block_size=BLOCK)
    made = count_scorings(index_q[:, :1], tree)
    flat = sum(token // BLOCK for token in range(n))
    n_log_n = n * TOP_K * tree.branching * math.log(n / BLOCK, tree.branching)
    report.add(f"scorings-over-nlogn-{n}", made / n_log_n, "×", f"{made:,} counted, n log n is {n_log_n:,.0f}")
    report.add(f"scorings-over-flat-{n}", made / flat, "×", f"{made:,} counted, flat makes {flat:,}")


def count_scorings(index_q: Tensor, tree: BlockTree) -> int:
    """How many nodes before its own a search scores, over all queries; it begins where `select_blocks` does."""

    units = split_signs(index_q).flatten(0, 1)
    tokens = range(tree.tokens)
    made = 0
    for part, first in search_parts(tokens, tree, 4096, beam=TOP_K):
        for visit in search(tree, units[:, part], tokens[part], first=first, beam=TOP_K):
            made += int((visit.scores.isfinite()).sum())
    return made


if __name__ == "__main__":
    sys.exit(run("attention", __doc__ or "", BARS, measure))
