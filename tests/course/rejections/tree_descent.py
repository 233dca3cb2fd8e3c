from __future__ import annotations

import heapq

import torch
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("01.5")


def bounds(query, side):
    top, low = side
    return top @ query.clamp(min=0) + low @ query.clamp(max=0)


def descent(query, levels, own, top_k, branching, *, score=bounds, keep=None, late=None, follow=None, order=1):
    """A descent whose parts can be spoilt one at a time."""
    keep = keep or (lambda level: top_k if level else top_k - 1)
    late, follow = late or (lambda level: 0), follow or (lambda level: True)
    level = len(levels) - 1
    nodes = list(range(own // branching**level + 1))
    while True:
        filling = own // branching**level
        values = score(query, levels[level]).tolist()
        complete = [node for node in nodes if node < min(filling + late(level), len(values))]
        kept = sorted(complete, key=lambda node: -order * values[node])[: keep(level)]
        if level == 0:
            return [own, *kept]
        followed = dict.fromkeys([*kept, filling] if follow(level) else kept)
        level -= 1
        nodes = [branching * node + child for node in followed for child in range(branching)]


@ANSWERS.refused("no descent", "flat choice", first=True)
def scores_every_block(query, levels, own, top_k, branching):
    return [own, *bounds(query, levels[0])[:own].argsort(descending=True)[: top_k - 1].tolist()]


@ANSWERS.refused("lost on the way", "own // branching**l", first=True)
def forgets_the_node_being_filled(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, follow=lambda level: False)


@ANSWERS.refused("future leak", "holds tokens that come later", first=True)
def scores_the_node_being_filled(query, levels, own, top_k, branching):
    found = descent(query, levels, own, top_k, branching, late=lambda level: 1)
    return [own, *[block for block in found[1:] if block != own]]


@ANSWERS.refused("future leak", "before", first=True)
def no_mask_at_all(query, levels, own, top_k, branching):
    nodes = range(len(levels[-1][0]))
    for level in range(len(levels) - 1, -1, -1):
        values = bounds(query, levels[level])
        complete = [node for node in nodes if node < len(values) and (level or node != own)]
        kept = sorted(complete, key=lambda node: -values[node])[: top_k if level else top_k - 1]
        nodes = [branching * node + child for node in kept for child in range(branching)]
    return [own, *kept]


@ANSWERS.refused("half the bound", "`low`", first=True)
def largest_values_only(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, score=lambda query, side: side[0] @ query)


@ANSWERS.refused("average", "average", first=True)
def middle_of_the_two(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, score=lambda query, side: (side[0] + side[1]) @ query)


@ANSWERS.refused("off by one", "one more", first=True)
def top_k_besides_the_own(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, keep=lambda level: top_k)


@ANSWERS.refused("off by one", "narrower", first=True)
def one_less_on_every_level(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, keep=lambda level: top_k - 1)


@ANSWERS.refused("wrong order", "lowest", first=True)
def worst_first(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, order=-1)


@ANSWERS.refused("padding", "you fill it up with −1", first=True)
def filled_up_with_minus_one(query, levels, own, top_k, branching):
    found = descent(query, levels, own, top_k, branching)
    return found + [-1] * (top_k - len(found))


@ANSWERS.refused("own block twice", "the own block scored again", first=True)
def own_block_competes(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, late=lambda level: level == 0)


@ANSWERS.accepted
def as_in_the_chapter(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching)


@ANSWERS.accepted
def masked_rows_of_every_level(query, levels, own, top_k, branching):
    """Marks what may be looked at, level by level, in tensors as wide as the level."""
    allowed = torch.ones(own // branching ** (len(levels) - 1), dtype=torch.bool)
    for level in range(len(levels) - 1, -1, -1):
        before = own // branching**level
        top, low = levels[level]
        scores = torch.maximum(query * top, query * low).sum(dim=-1)[:before].masked_fill(~allowed, -torch.inf)
        best = scores.topk(min(top_k if level else top_k - 1, int(allowed.sum()))).indices
        if level:
            followed = torch.zeros(before + 1, dtype=torch.bool)
            followed[best] = followed[before] = True
            allowed = followed.repeat_interleave(branching)[: own // branching ** (level - 1)]
    return torch.cat([torch.tensor([own]), best])


@ANSWERS.accepted
def by_recursion(query, levels, own, top_k, branching):
    def candidates(level):
        """The nodes of a level that the descent looks at."""
        if level == len(levels) - 1:
            return range(own // branching**level)
        followed = [*best(level + 1, top_k), own // branching ** (level + 1)]
        children = (range(branching * node, branching * (node + 1)) for node in followed)
        return [node for nodes in children for node in nodes if node < own // branching**level]

    def best(level, many):
        top, low = levels[level]
        return heapq.nlargest(many, candidates(level), key=lambda n: float(bounds(query, (top[n], low[n]))))

    return (own, *best(0, top_k - 1))


class Descent(nn.Module):
    def forward(self, query, levels, own, top_k, branching):
        nodes = None
        for level, (top, low) in reversed(list(enumerate(levels))):
            filling = own // branching**level
            nodes = torch.arange(filling) if nodes is None else nodes[nodes < filling]
            scores = torch.einsum("d,nd->n", query.relu(), top[nodes]) - torch.einsum(
                "d,nd->n", (-query).relu(), low[nodes]
            )
            nodes = nodes[scores.argsort(descending=True)][:top_k]
            if level:
                parents = torch.cat([nodes, torch.tensor([filling])])
                nodes = (branching * parents[:, None] + torch.arange(branching)).flatten()
        return torch.cat([torch.tensor([own]), nodes[: top_k - 1]])


ANSWERS.accepted(Descent)


@ANSWERS.accepted
def from_the_first_level_with_anything_before(query, levels, own, top_k, branching):
    """Leaves out levels on which every complete node comes after the query."""
    useful = [level for level in levels if own // branching ** next(i for i, x in enumerate(levels) if x is level)]
    return descent(query.double(), [(a.double(), b.double()) for a, b in useful or levels[:1]], own, top_k, branching)


@ANSWERS.refused("lost on the way", "finds every block")
def begins_with_the_first_nodes_only(query, levels, own, top_k, branching):
    """Takes the coarsest level for one that has no more than `branching` nodes."""
    cut = [
        (top[:branching], low[:branching]) if number == len(levels) - 1 else (top, low)
        for number, (top, low) in enumerate(levels)
    ]
    return descent(query, cut, own, top_k, branching)


@ANSWERS.refused("lost on the way", "finds every block")
def one_child_missing(query, levels, own, top_k, branching):
    level = len(levels) - 1
    nodes = list(range(own // branching**level))
    while level:
        values = bounds(query, levels[level])
        kept = sorted(nodes, key=lambda node: -values[node])[:top_k]
        level -= 1
        children = [branching * node + child for node in kept for child in range(branching - 1)]
        filling = own // branching ** (level + 1)
        nodes = children + list(range(branching * filling, own // branching**level))
    values = bounds(query, levels[0])
    return [own, *sorted(nodes, key=lambda node: -values[node])[: top_k - 1]]


@ANSWERS.refused("wider beam", "looks only at children of the best")
def one_more_on_the_upper_levels(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, keep=lambda level: top_k + 1 if level else top_k - 1)


@ANSWERS.refused("wider beam", "looks only at children of the best")
def skips_a_level(query, levels, own, top_k, branching):
    """Goes from the coarsest level to the blocks, to all that lie below the best."""
    if len(levels) < 2:
        return descent(query, levels, own, top_k, branching)
    return descent(query, [levels[0], levels[-1]], own, top_k, branching ** (len(levels) - 1))


@ANSWERS.refused("half the bound", "`low` alone")
def smallest_values_only(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, score=lambda query, side: side[1] @ query)


@ANSWERS.refused("maximum too late", "for each feature")
def larger_of_the_two_products(query, levels, own, top_k, branching):
    def score(query, side):
        return torch.maximum(side[0] @ query, side[1] @ query)

    return descent(query, levels, own, top_k, branching, score=score)


@ANSWERS.refused("wrong order", "best first")
def in_order_of_position(query, levels, own, top_k, branching):
    return [own, *sorted(descent(query, levels, own, top_k, branching)[1:])]


@ANSWERS.refused("off by one", "own block first")
def numbers_from_one(query, levels, own, top_k, branching):
    return [block + 1 for block in descent(query, levels, own, top_k, branching)]


@ANSWERS.refused("off by one", "something is missing")
def one_less_at_the_blocks(query, levels, own, top_k, branching):
    found = descent(query, levels, own, top_k, branching)
    return found[:-1] if len(found) > 2 else found


@ANSWERS.refused("ignores an argument", "top_k")
def always_three(query, levels, own, top_k, branching):
    return descent(query, levels, own, 3, branching)


@ANSWERS.refused("ignores an argument", "raised IndexError")
def always_four_children(query, levels, own, top_k, branching):
    level, nodes = len(levels) - 1, list(range(own // branching ** (len(levels) - 1)))
    for level in range(len(levels) - 1, -1, -1):
        top, low = (side[nodes] for side in levels[level])
        values = dict(zip(nodes, bounds(query, (top, low)).tolist(), strict=True))
        kept = sorted(nodes, key=lambda node: -values[node])[: top_k if level else top_k - 1]
        nodes = [4 * node + child for node in [*kept, own // 4**level] for child in range(4)]
    return [own, *kept]


@ANSWERS.refused("ignores an argument", "whole bound")
def any_query(query, levels, own, top_k, branching):
    return descent(torch.ones_like(query), levels, own, top_k, branching)


@ANSWERS.refused("ties", "returns no block twice")
def looked_up_by_score(query, levels, own, top_k, branching):
    """Finds blocks again by their score, so that of two equal ones the first is taken twice."""
    found = descent(query, levels, own, top_k, branching)
    scores = bounds(query, levels[0]).tolist()
    return [own, *[scores.index(scores[block]) for block in found[1:]]]


@ANSWERS.refused("right kind, zeros", "puts the own block first")
def zeros(query, levels, own, top_k, branching):
    return [0] * top_k


@ANSWERS.refused("shown example only", "own block first")
def the_shown_answer(query, levels, own, top_k, branching):
    return [11, 5, 10]


@ANSWERS.refused("mutated input", "changes its second argument")
def takes_the_levels_away(query, levels, own, top_k, branching):
    found = descent(query, levels, own, top_k, branching)
    while levels:
        levels.pop()
    return found


@ANSWERS.refused("wrong sign", "magnitude", first=True)
def minus_the_magnitude(query, levels, own, top_k, branching):
    """Takes query⁻ for the magnitudes of the negative entries."""

    def score(query, side):
        top, low = side
        return top @ query.clamp(min=0) + low @ (-query).clamp(min=0)

    return descent(query, levels, own, top_k, branching, score=score)


@ANSWERS.refused("future leak", "has no bound", first=True)
def asks_for_the_node_being_filled(query, levels, own, top_k, branching):
    """Scores the node that is being filled, which need not be there."""
    nodes = list(range(own // branching ** (len(levels) - 1) + 1))
    for level in reversed(range(len(levels))):
        top, low = levels[level]
        values = {node: float(bounds(query, (top[node], low[node]))) for node in nodes}
        kept = sorted(nodes, key=lambda node: -values[node])[:top_k]
        before = own // branching ** (level - 1) + 1 if level else 0
        nodes = [n for node in kept for n in range(branching * node, branching * (node + 1)) if n < before]
    return [own, *[node for node in kept if node != own][: top_k - 1]]


@ANSWERS.refused("padding", "stands there already", first=True)
def last_block_fills_up(query, levels, own, top_k, branching):
    found = descent(query, levels, own, top_k, branching)
    return found + found[-1:] * (top_k - len(found))


@ANSWERS.refused("precision", "half precision")
def in_half_precision(query, levels, own, top_k, branching):
    levels = [(top.half(), low.half()) for top, low in levels]
    return descent(query.half(), levels, own, top_k, branching)


@ANSWERS.refused("wrong dtype", "whole")
def as_numbers_with_a_point(query, levels, own, top_k, branching):
    return [float(block) for block in descent(query, levels, own, top_k, branching)]


@ANSWERS.refused("wrong type", "returns a tensor of shape")
def as_a_column(query, levels, own, top_k, branching):
    return torch.tensor(descent(query, levels, own, top_k, branching))[:, None]


@ANSWERS.refused("no answer", "Is a `return` missing?")
def prints_instead_of_returning(query, levels, own, top_k, branching):
    print(descent(query, levels, own, top_k, branching))


@ANSWERS.refused("NaN", "holds NaN")
def nan_where_nothing_is_left(query, levels, own, top_k, branching):
    found = descent(query, levels, own, top_k, branching)
    return [float("nan")] * len(found)


@ANSWERS.refused("padding", "stands there already")
def own_block_fills_up(query, levels, own, top_k, branching):
    found = descent(query, levels, own, top_k, branching)
    return found + [own] * (top_k - len(found))


@ANSWERS.refused("narrow beam", "best `top_k` of every level", first=True)
def narrow_on_the_upper_levels(query, levels, own, top_k, branching):
    def keep(level):
        return top_k if 0 < level < 3 else top_k - 1

    return descent(query, levels, own, top_k, branching, keep=keep)


@ANSWERS.refused("no beam", "looks only at children of the best", first=True)
def follows_everything_on_the_upper_levels(query, levels, own, top_k, branching):
    return descent(query, levels, own, top_k, branching, keep=lambda level: 10**9 if level > 2 else top_k - (not level))


@ANSWERS.refused("no beam", "looks only at children of the best", first=True)
def begins_on_the_third_level_at_most(query, levels, own, top_k, branching):
    return descent(query, levels[:3], own, top_k, branching)


@ANSWERS.refused("half the bound", "looks only at children of the best", first=True)
def first_three_features_only(query, levels, own, top_k, branching):
    return descent(query[:3], [(top[:, :3], low[:, :3]) for top, low in levels], own, top_k, branching)


def scored_by(change):
    """A descent by bounds that are changed."""

    def answer(query, levels, own, top_k, branching):
        def score(query, side):
            return change(bounds(query, side))

        return descent(query, levels, own, top_k, branching, score=score)

    return answer


@ANSWERS.refused("squashed", "squashed", first=True)
def exponentials_of_the_bounds(query, levels, own, top_k, branching):
    return scored_by(torch.exp)(query, levels, own, top_k, branching)


@ANSWERS.refused("squashed", "squashed", first=True)
def bounds_up_to_a_hundred(query, levels, own, top_k, branching):
    return scored_by(lambda scores: scores.clamp(-100, 100))(query, levels, own, top_k, branching)


@ANSWERS.refused("half the bound", "the whole bound", first=True)
def no_bound_below_zero(query, levels, own, top_k, branching):
    return scored_by(torch.relu)(query, levels, own, top_k, branching)


@ANSWERS.refused("not −∞", "stands for −∞", first=True)
def minus_a_billion_for_what_may_not_be_scored(query, levels, own, top_k, branching):
    """Takes the best of everything, hidden nodes at −1e9, and leaves out those that come later."""
    nodes = torch.arange(own // branching ** (len(levels) - 1))
    for level in range(len(levels) - 1, -1, -1):
        before, scores = own // branching**level, bounds(query, levels[level])[: own // branching**level]
        allowed = torch.zeros(before, dtype=torch.bool)
        allowed[nodes] = True
        best = scores.masked_fill(~allowed, -1e9).argsort(descending=True)[: top_k if level else top_k - 1]
        followed = torch.cat([best, torch.tensor([before])])
        if level:
            children = (branching * followed[:, None] + torch.arange(branching)).flatten()
            nodes = children[children < own // branching ** (level - 1)]
    return [own, *best[: len(nodes)].tolist()]


@ANSWERS.refused("no beam", "looks only at children of the best", first=True)
def begins_on_the_fourth_level_at_most(query, levels, own, top_k, branching):
    return descent(query, levels[:4], own, top_k, branching)


@ANSWERS.refused("lost on the way", "all that may be scored", first=True)
def at_most_thirty_two_on_the_coarsest_level(query, levels, own, top_k, branching):
    """Leaves out what is beyond, wherever the tree is cut off."""
    cut = [(top[:32], low[:32]) if level is levels[-1] else (top, low) for level in levels for top, low in [level]]
    return descent(query, cut, own, top_k, branching)
