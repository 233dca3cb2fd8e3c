from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import torch
from torch import nn

from tests.course.rejections import Answers

ANSWERS = Answers("01.8")


def lasting(lengths, wins):
    """The first length from which on all of `wins` are true."""
    return next((length for place, length in enumerate(lengths) if all(wins[place:])), None)


def apart(dense_ms, sparse_ms):
    return [max(sparse) < min(dense) for dense, sparse in zip(dense_ms, sparse_ms, strict=True)]


@ANSWERS.refused("summary", "may lie apart while single runs overlap", first=True)
def medians(lengths, dense_ms, sparse_ms):
    pairs = zip(dense_ms, sparse_ms, strict=True)
    return lasting(lengths, [statistics.median(sparse) < statistics.median(dense) for dense, sparse in pairs])


@ANSWERS.refused("summary", "may lie apart while single runs overlap", first=True)
def means(lengths, dense_ms, sparse_ms):
    pairs = zip(dense_ms, sparse_ms, strict=True)
    return lasting(lengths, [sum(sparse) / len(sparse) < sum(dense) / len(dense) for dense, sparse in pairs])


@ANSWERS.refused("first instead of lasting", "lost again", first=True)
def first_win(lengths, dense_ms, sparse_ms):
    for length, dense, sparse in zip(lengths, dense_ms, sparse_ms, strict=True):
        if max(sparse) < min(dense):
            return length
    return None


@ANSWERS.refused("≤ instead of <", "touch", first=True)
def touching_bands_count(lengths, dense_ms, sparse_ms):
    return lasting(lengths, [max(sparse) <= min(dense) for dense, sparse in zip(dense_ms, sparse_ms, strict=True)])


@ANSWERS.refused("index", "place in the list", first=True)
def index_of_the_length(lengths, dense_ms, sparse_ms):
    return lasting(range(len(lengths)), apart(dense_ms, sparse_ms))


@ANSWERS.refused("swapped arguments", "dense attention is faster", first=True)
def dense_and_sparse_swapped(lengths, dense_ms, sparse_ms):
    return lasting(lengths, apart(sparse_ms, dense_ms))


@ANSWERS.refused("ignores repeats", "first run", first=True)
def first_repeat_only(lengths, dense_ms, sparse_ms):
    return lasting(lengths, [sparse[0] < dense[0] for dense, sparse in zip(dense_ms, sparse_ms, strict=True)])


@ANSWERS.refused("no None", "return None itself", first=True)
def zero_for_none(lengths, dense_ms, sparse_ms):
    return lasting(lengths, apart(dense_ms, sparse_ms)) or 0


@ANSWERS.refused("mutated input", "argument, which is the caller's", first=True)
def sorts_in_place(lengths, dense_ms, sparse_ms):
    wins = []
    for dense, sparse in zip(dense_ms, sparse_ms, strict=True):
        dense.sort()
        sparse.sort()
        wins.append(sparse[-1] < dense[0])
    return lasting(lengths, wins)


@ANSWERS.refused("last instead of first", "longest", first=True)
def longest_winning_length(lengths, dense_ms, sparse_ms):
    for length, won in reversed(list(zip(lengths, apart(dense_ms, sparse_ms), strict=True))):
        if won:
            return length
    return None


@ANSWERS.refused("interpolation", "that was measured", first=True)
def crossing_between_two_lengths(lengths, dense_ms, sparse_ms):
    length = lasting(lengths, apart(dense_ms, sparse_ms))
    place = lengths.index(length) if length else 0
    return (lengths[place - 1] + length) / 2 if place else length


@ANSWERS.accepted
def walked_back_from_the_longest(lengths, dense_ms, sparse_ms):
    won = itertools.takewhile(
        lambda runs: max(runs[2]) < min(runs[1]), zip(lengths[::-1], dense_ms[::-1], sparse_ms[::-1], strict=True)
    )
    return min((length for length, _, _ in won), default=None)


@ANSWERS.accepted
def reset_by_every_doubt(lengths, dense_ms, sparse_ms):
    since = None
    for length, won in zip(lengths, apart(dense_ms, sparse_ms), strict=True):
        since = (since or length) if won else None
    return since


@ANSWERS.accepted
def as_arrays(lengths, dense_ms, sparse_ms):
    won = np.max(sparse_ms, axis=1) < np.min(dense_ms, axis=1)
    lasting = np.flatnonzero(np.logical_and.accumulate(won[::-1])[::-1])
    return np.array(lengths)[lasting[0]] if len(lasting) else None


class AsTensors(nn.Module):
    def forward(self, lengths, dense_ms, sparse_ms):
        won = torch.tensor(sparse_ms).amax(dim=1) < torch.tensor(dense_ms).amin(dim=1)
        lost = (~won).nonzero().flatten().tolist()
        after = lost[-1] + 1 if lost else 0
        return torch.tensor(lengths)[after] if after < len(lengths) else None


ANSWERS.accepted(AsTensors)
ANSWERS.accepted(lambda lengths, dense_ms, sparse_ms: lasting(lengths, apart(dense_ms, sparse_ms)))


@ANSWERS.refused("no None", "return None itself")
def infinity_for_none(lengths, dense_ms, sparse_ms):
    return lasting(lengths, apart(dense_ms, sparse_ms)) or math.inf


@ANSWERS.refused("no None", "says None when the two never part")
def longest_for_none(lengths, dense_ms, sparse_ms):
    return lasting(lengths, apart(dense_ms, sparse_ms)) or lengths[-1]


@ANSWERS.refused("wrong bands", "fastest runs of both")
def fastest_against_fastest(lengths, dense_ms, sparse_ms):
    pairs = zip(dense_ms, sparse_ms, strict=True)
    return lasting(lengths, [min(sparse) < min(dense) for dense, sparse in pairs])


@ANSWERS.refused("wrong bands", "slowest runs of both")
def slowest_against_slowest(lengths, dense_ms, sparse_ms):
    pairs = zip(dense_ms, sparse_ms, strict=True)
    return lasting(lengths, [max(sparse) < max(dense) for dense, sparse in pairs])


@ANSWERS.refused("wrong bands", "slowest sparse run below the fastest dense run")
def run_against_run(lengths, dense_ms, sparse_ms):
    """Compares the first runs, the second ones and so on, but not every run with every other."""
    pairs = zip(dense_ms, sparse_ms, strict=True)
    return lasting(lengths, [all(s < d for d, s in zip(dense, sparse, strict=True)) for dense, sparse in pairs])


@ANSWERS.refused("summary", "slowest sparse run below the fastest dense run")
def means_two_spreads_apart(lengths, dense_ms, sparse_ms):
    wins = []
    for dense, sparse in zip(dense_ms, sparse_ms, strict=True):
        spread = statistics.pstdev(dense) + statistics.pstdev(sparse)
        wins.append(statistics.mean(sparse) + spread < statistics.mean(dense))
    return lasting(lengths, wins)


@ANSWERS.refused("too strict", "ask for more than that")
def a_tenth_faster(lengths, dense_ms, sparse_ms):
    pairs = zip(dense_ms, sparse_ms, strict=True)
    return lasting(lengths, [max(sparse) < 0.9 * min(dense) for dense, sparse in pairs])


@ANSWERS.refused("off by one", "stop before the end")
def the_longest_length_left_out(lengths, dense_ms, sparse_ms):
    return lasting(lengths[:-1], apart(dense_ms, sparse_ms))


@ANSWERS.refused("off by one", "overlapping bands for no win")
def the_length_before(lengths, dense_ms, sparse_ms):
    """Walks back one step too far: the last length that is not won."""
    length = lasting(lengths, apart(dense_ms, sparse_ms))
    return lengths[max(0, lengths.index(length) - 1)] if length else None


@ANSWERS.refused("ignores what is beyond", "lost again")
def the_next_length_alone_must_win_too(lengths, dense_ms, sparse_ms):
    won = apart(dense_ms, sparse_ms)
    return next((length for at, length in enumerate(lengths) if all(won[at : at + 2])), None)


@ANSWERS.refused("wrong axis", "exchanged lengths and runs")
def runs_and_lengths_exchanged(lengths, dense_ms, sparse_ms):
    answer = None
    for length, won in reversed(list(zip(lengths, np.max(sparse_ms, axis=0) < np.min(dense_ms, axis=0), strict=False))):
        if not won:
            break
        answer = length
    return answer


@ANSWERS.refused("ignores an argument", "that was measured")
def lengths_that_double_from_1024(lengths, dense_ms, sparse_ms):
    return lasting([1024 * 2**at for at in range(len(lengths))], apart(dense_ms, sparse_ms))


@ANSWERS.refused("ignores an argument", "None when the two never part")
def dense_times_not_looked_at(lengths, dense_ms, sparse_ms):
    """Waits until sparse attention grows more slowly than the text, whatever dense attention takes."""
    slower = [True, *[min(b) < 2 * max(a) for a, b in itertools.pairwise(sparse_ms)]]
    return lasting(lengths, slower)


@ANSWERS.refused("ignores an argument", "None when the two never part")
def sparse_times_not_looked_at(lengths, dense_ms, sparse_ms):
    return lasting(lengths, [min(dense) > 2.0 for dense in dense_ms])


@ANSWERS.refused("right kind, zeros", "that was measured")
def zero(lengths, dense_ms, sparse_ms):
    return 0


@ANSWERS.refused("shown example only", "that was measured")
def the_shown_answer(lengths, dense_ms, sparse_ms):
    return 8192


@ANSWERS.refused("no answer", "Is a `return` missing?")
def prints_instead_of_returning(lengths, dense_ms, sparse_ms):
    print(lasting(lengths, apart(dense_ms, sparse_ms)))


@ANSWERS.refused("wrong type", "returns a list")
def all_lasting_lengths(lengths, dense_ms, sparse_ms):
    won = apart(dense_ms, sparse_ms)
    return [length for at, length in enumerate(lengths) if all(won[at:])]


@ANSWERS.refused("wrong type", "returns a bool")
def whether_it_crosses(lengths, dense_ms, sparse_ms):
    return lasting(lengths, apart(dense_ms, sparse_ms)) is not None


@ANSWERS.refused("precision", "finds a length where there is one")
def timings_in_half_precision(lengths, dense_ms, sparse_ms):
    sparse, dense = torch.tensor(sparse_ms).half(), torch.tensor(dense_ms).half()
    return lasting(lengths, (sparse.amax(dim=1) < dense.amin(dim=1)).tolist())


@ANSWERS.refused("precision", "that was measured")
def lengths_in_half_precision(lengths, dense_ms, sparse_ms):
    length = lasting(lengths, apart(dense_ms, sparse_ms))
    return int(torch.tensor(length).half()) if length else None


@ANSWERS.refused("ignores what is beyond", "lost again", first=True)
def the_next_three_must_win_too(lengths, dense_ms, sparse_ms):
    wins = apart(dense_ms, sparse_ms)
    return next((length for at, length in enumerate(lengths) if all(wins[at : at + 4])), None)


@ANSWERS.refused("too strict", "by however little", first=True)
def by_a_tenth_of_a_millisecond(lengths, dense_ms, sparse_ms):
    pairs = zip(dense_ms, sparse_ms, strict=True)
    return lasting(lengths, [max(sparse) < min(dense) - 0.1 for dense, sparse in pairs])


@ANSWERS.refused("too strict", "by however little", first=True)
def rounded_to_a_tenth(lengths, dense_ms, sparse_ms):
    pairs = zip(dense_ms, sparse_ms, strict=True)
    return lasting(lengths, [round(max(sparse), 1) < round(min(dense), 1) for dense, sparse in pairs])


@ANSWERS.refused("ignores repeats", "overlapping bands", first=True)
def five_runs_of_each(lengths, dense_ms, sparse_ms):
    pairs = zip(dense_ms, sparse_ms, strict=True)
    return lasting(lengths, [max(sparse[:5]) < min(dense[:5]) for dense, sparse in pairs])
