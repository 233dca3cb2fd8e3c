"""Trees to descend: of random keys, with groups whose bound promises more than their blocks hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Level = tuple[Float[Tensor, "_ dim"], Float[Tensor, "_ dim"]]
_OWN = (140, 41, 30, 70, 63, 47, 150, 38, 55, 66, 13, 44, 160, 29)
EDGES = tuple((own, 1000 + seed) for seed, own in enumerate(_OWN))
Score = Callable[[list[float], list[float], list[float]], float]


def bound(query: Sequence[float], top: Sequence[float], low: Sequence[float]) -> float:
    return sum(max(q * high, q * deep) for q, high, deep in zip(query, top, low, strict=True))


def scores_of(query: Float[Tensor, " dim"], level: Level, score: Score = bound) -> list[float]:
    top, low = level
    return [score(query.tolist(), *sides) for sides in zip(top.tolist(), low.tolist(), strict=True)]


def reached(query: Float[Tensor, " dim"], levels: list[Level], own: int, top_k: int, branching: int) -> list[int]:
    """The blocks that a descent looks at, best first."""
    candidates = list(range(own // branching ** (len(levels) - 1)))
    for number in reversed(range(len(levels))):
        scores = scores_of(query, levels[number])
        candidates.sort(key=lambda node, scores=scores: -scores[node])
        if number:
            parents = {*candidates[:top_k], own // branching**number}
            candidates = [n for n in range(own // branching ** (number - 1)) if n // branching in parents]
    return candidates


def descend(query: Float[Tensor, " dim"], levels: list[Level], own: int, top_k: int, branching: int) -> list[int]:
    """Own block first, then the best ``top_k - 1`` of those that the descent looks at, best first."""
    return [own, *reached(query, levels, own, top_k, branching)[: top_k - 1]]


def ask(answer: Callable[..., Any], *arguments: Any) -> Any:
    """The answer; an index that is not there gets a hint to the likeliest one."""
    try:
        return answer(*arguments)
    except IndexError as error:
        error.args = (f"{error} (is it the node that is still being filled? That one has no bound)",)
        raise


def build(own: int, seed: int) -> tuple[Float[Tensor, " dim"], list[Level], int, int, int]:
    """The tree of a text that may go on after the own block, and may be cut; no nodes tie but twins among the blocks.

    All but the own block is by ``seed``: drawn one by one, too many parts of a case would be the same as another's.
    The first seeds make small trees, to be shown; those from 1000 on have many levels, many features, or
    huge numbers.
    """
    if seed >= 1000:
        return _unusual(own, seed)
    chance, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    is_small = seed < 250
    blocks = max(1, own + chance.randrange(2 if is_small else 9))
    kind = "decoys" if is_small else chance.choice(("decoys", "decoys", "close", "close", "twins", "noise"))
    top_k, branching = chance.choice((1, 2, 2, 2, 3, 3, 4, 40)), chance.choice((2, 2, 3, 4))
    height = 2 if is_small else chance.choice((1, 2, 3, 3, 4, 5))
    while True:
        query, keys = _drawn(blocks, branching, kind, generator)
        if kind == "twins":
            number = torch.arange(blocks)
            keys = keys[number - number % 2 * (number < own)]
        levels = _tree(keys, branching)[:height]
        if all(_apart(query, level) for level in levels[kind == "twins" :]):
            return query, levels, own, top_k, branching


def _unusual(own: int, seed: int) -> tuple[Float[Tensor, " dim"], list[Level], int, int, int]:
    chance, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    kind = ("deep", "wide", "huge")[seed % 3]
    dim, top_k, branching = {
        "deep": (3, 2, 2),
        "wide": (7, chance.choice((5, 6)), chance.choice((2, 5))),
        "huge": (2, 3, 2),
    }[kind]
    while True:
        signs = 2 * torch.randint(2, (dim,), generator=generator) - 1
        query = signs * torch.randint(4, 9, (dim,), generator=generator) / 4
        keys = (1024 * torch.randn(own + 2, 2, dim, generator=generator)).round() / 1024
        if kind == "deep":
            keys = keys / 4 + signs * _deep_decoys(own + 2, chance.choice((8, 16, 32)), generator)[:, None]
        if kind == "huge":
            keys = (keys - 4 * signs * (seed % 2)) * 2.0**40
        levels = _tree(keys, branching)[: (None, 5, None, 1)[seed % 4]]
        if all(_apart(query, level) for level in levels):
            return query, levels, own, top_k, branching


def _apart(query: Float[Tensor, " dim"], level: Level) -> bool:
    """Whether no two nodes tie, neither by their bound nor by what is easily mistaken for it."""
    top, low = level
    by_top, by_low = top @ query, low @ query
    bounds = torch.maximum(query * top, query * low).sum(dim=-1)
    magnitudes = torch.where(query > 0, query * top, -query * low).sum(dim=-1)
    scores = (bounds, by_top, by_low, by_top + by_low, torch.maximum(by_top, by_low), magnitudes)
    return all(len(row.unique()) == len(row) for row in scores)


def _drawn(
    blocks: int, branching: int, kind: str, generator: torch.Generator
) -> tuple[Float[Tensor, "3"], Float[Tensor, "blocks 2 3"]]:
    """A query and keys in such fractions that single precision makes no error, in whatever order it sums."""
    signs = 2 * torch.randint(2, (3,), generator=generator) - 1
    query = signs * torch.randint(4, 9, (3,), generator=generator) / 4
    keys = (1024 * torch.randn(blocks, 2, 3, generator=generator)).round() / 1024
    decoys = signs * _decoys(blocks, branching, generator)[:, None]
    if kind in ("decoys", "twins"):
        keys = keys / 4 + decoys
    if kind == "close":
        keys = 4 + (256 * (keys + decoys)).round() / 2**16
    return query, keys + 0.0  # no −0 to be shown


def _decoys(blocks: int, branching: int, generator: torch.Generator) -> Float[Tensor, "blocks 3"]:
    """Groups whose blocks match in a feature each, which a bound adds up, and groups where one matches in all."""
    number = torch.arange(blocks)[:, None]
    is_decoy = torch.rand(blocks, 1, generator=generator)[number[:, 0] // branching] < 0.6
    one_each = 3.0 * (number % 3 == torch.arange(3))
    needle = 2.0 * (number % branching == torch.randint(branching, (1,), generator=generator))
    return torch.where(is_decoy, one_each, needle)


def _deep_decoys(blocks: int, group: int, generator: torch.Generator) -> Float[Tensor, "blocks 3"]:
    """Groups of blocks that promise most together and less in halves, and groups with one block that keeps it."""
    number = torch.arange(blocks)[:, None]
    is_decoy = torch.rand(blocks, 1, generator=generator)[number[:, 0] // group] < 0.6
    in_halves = 3.0 * ((number % group < group // 2) == (torch.arange(3) < 1))
    needle = 2.25 * (number % group == torch.randint(group, (1,), generator=generator))
    return torch.where(is_decoy, in_halves, needle)


def _tree(keys: Float[Tensor, "blocks tokens dim"], branching: int) -> list[Level]:
    levels = [(keys.amax(dim=1), keys.amin(dim=1))]
    while len(levels[-1][0]) >= branching:
        whole = len(levels[-1][0]) // branching * branching
        top, low = (side[:whole].unflatten(0, (-1, branching)) for side in levels[-1])
        levels.append((top.amax(dim=1), low.amin(dim=1)))
    return levels
