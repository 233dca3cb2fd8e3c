"""01.8: the length from which on sparse attention is faster, as far as repeated timings can tell."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from hypothesis import strategies as st

from dslearn.course.exercise import Behaviour, Call, Exercise, Slip, gives

Runs = list[list[float]]


def crossover(lengths: list[int], dense_ms: Runs, sparse_ms: Runs) -> int | None:
    """The shortest length from which on every sparse run is below every dense run; None if there is none."""
    answer = None
    for place in reversed(range(len(lengths))):
        if any(sparse >= dense for sparse in sparse_ms[place] for dense in dense_ms[place]):
            break
        answer = lengths[place]
    return answer


class _No(int):
    """None where there may be a number: a wrong None is an answer to be judged, not the lack of one."""

    def __repr__(self) -> str:
        return "None"


_NO = _No(-(10**9))


def ask(answer: Callable[[list[int], Runs, Runs], Any], lengths: list[int], dense_ms: Runs, sparse_ms: Runs) -> Any:
    """What ``answer`` returns, a None made comparable."""
    length = answer(lengths, dense_ms, sparse_ms)
    return _NO if length is None else length


def build(bands: tuple[str, ...], repeats: int, doubling: bool, seed: int) -> tuple[list[int], Runs, Runs]:
    """Rising lengths with timings; ``bands`` says for each length which is faster, or how the two meet."""
    chance = random.Random(seed)
    timings = [_timings(band, repeats, 5.0**place, chance) for place, band in enumerate(bands)]
    dense_ms, sparse_ms = (list(side) for side in zip(*timings, strict=True))
    return _lengths(len(bands), doubling, chance), dense_ms, sparse_ms


def _lengths(count: int, doubling: bool, chance: random.Random) -> list[int]:
    if doubling:
        return [1024 * 2**place for place in range(count)]
    lengths = [chance.randrange(301, 2000, 2)]
    while len(lengths) < count:
        lengths.append(int(chance.uniform(1.3, 2.2) * lengths[-1]) // 2 * 2 + 1)
    return lengths


def _timings(band: str, repeats: int, about: float, chance: random.Random) -> tuple[list[float], list[float]]:
    """(dense, sparse), in eighths of a millisecond: exact in single precision, and in half precision not."""
    scale = chance.choice((1, 1, 8)) / 8
    drawn = [about + scale * step for step in sorted(chance.sample(range(9 * repeats), 2 * repeats))]
    if band == "mixed":
        chance.shuffle(drawn)
    low, high = drawn[:repeats], drawn[repeats:]
    if band == "overlap":
        place = chance.randrange(repeats)
        low[-1], high[place] = high[place], low[-1]
    if band == "outlier":
        low[0] = high[-1] + 9 * repeats * scale
    if band == "touch":
        high[0] = low[-1]
    if band == "narrow":
        low[-1] = high[0] - 0.004
    chance.shuffle(low)
    chance.shuffle(high)
    return (low, high) if band == "dense" else (high, low)


def _apart(lengths: list[int], dense_ms: Runs, sparse_ms: Runs) -> dict[int, bool]:
    """Whether sparse attention is faster beyond doubt, by length."""
    measured = zip(lengths, dense_ms, sparse_ms, strict=True)
    return {length: max(sparse) < min(dense) for length, dense, sparse in measured}


def _wins(call: Call) -> dict[int, bool]:
    return _apart(*call.arguments.values())


def _is_none(length: Any) -> bool:
    return isinstance(length, _No)


def _measured(call: Call) -> bool:
    return _is_none(call.got) or call.got in call["lengths"]


def _none_if_never(call: Call) -> bool:
    return any(_wins(call).values()) or _is_none(call.got)


def _is_a_win(call: Call) -> bool:
    return _is_none(call.got) or any(won and length == call.got for length, won in _wins(call).items())


def _lasts(call: Call) -> bool:
    return _is_none(call.got) or all(won for length, won in _wins(call).items() if length >= call.got)


def _finds(call: Call) -> bool:
    return _is_none(call.expected) or not _is_none(call.got)


def _shortest(call: Call) -> bool:
    return bool(call.got == call.expected) and _is_none(call.got) == _is_none(call.expected)


def _number_for_none(call: Call) -> bool:
    """Right but for a number that stands for None."""
    if _is_none(call.expected):
        return not _is_none(call.got) and call.got not in call["lengths"]
    return _shortest(call)


def _never(call: Call) -> bool:
    return _is_none(call.got)


def _lasting(places: Sequence[int], won: Sequence[bool]) -> int:
    return next((length for at, length in enumerate(places) if all(won[at:])), _NO)


def _if(faster: Callable[[list[float], list[float]], bool]) -> Callable[[Call], bool]:
    """Whether all is explained by another idea of ``faster(dense, sparse)``."""

    def wrong(lengths: list[int], dense_ms: Runs, sparse_ms: Runs) -> int:
        return _lasting(lengths, [faster(*runs) for runs in zip(dense_ms, sparse_ms, strict=True)])

    return gives(wrong)


def _winning(one_of: Callable[[list[int]], int]) -> Callable[[Call], bool]:
    """Whether all is explained by taking one of the lengths that win, lasting or not."""

    def wrong(*arguments: Any) -> int:
        winners = [length for length, won in _apart(*arguments).items() if won]
        return one_of(winners) if winners else _NO

    return gives(wrong)


def _index(lengths: list[int], dense_ms: Runs, sparse_ms: Runs) -> int:
    length = crossover(lengths, dense_ms, sparse_ms)
    return _NO if length is None else lengths.index(length)


def _exchanged(lengths: list[int], dense_ms: Runs, sparse_ms: Runs) -> int:
    """The first number of a run from which on all lengths' runs win, taken for the number of a length."""
    dense_runs, sparse_runs = (zip(*side, strict=True) for side in (dense_ms, sparse_ms))
    won = [max(sparse) < min(dense) for dense, sparse in zip(dense_runs, sparse_runs, strict=True)]
    both = min(len(lengths), len(won))
    return _lasting(lengths[:both], won[:both])


EXERCISE = Exercise(
    id="01.8",
    title="Where do the lines cross?",
    minutes=20,
    difficulty=2,
    function="crossover",
    right=crossover,
    ask=ask,
    draw=st.tuples(
        st.lists(
            st.sampled_from(("sparse", "overlap", "sparse", "dense", "touch", "sparse", "mixed", "outlier")),
            min_size=1,
            max_size=5,
        ).map(tuple),
        st.sampled_from((1, 2, 3, 4, 3)),
        st.booleans(),
        st.sampled_from(range(100)),
    ),
    edges=(
        (("sparse",) * 6 + ("dense",), 3, True, 0),
        (("dense", "dense") + ("sparse",) * 5 + ("overlap",), 6, False, 1),
        (("narrow", "sparse"), 2, True, 2),
        *((("overlap", "sparse"), 7, True, seed) for seed in range(8)),
        (("overlap",) + ("narrow",) + ("sparse",) * 2, 5, False, 4),
    ),
    build=build,
    shown=(("dense", "sparse", "overlap", "sparse", "sparse"), 3, True, 0),
    behaviours=(
        Behaviour(
            "names a length that was measured, or None",
            _measured,
            "The answer is one of the numbers in `lengths`, or None: nothing is known about lengths in between.",
        ),
        Behaviour(
            "says None when the two never part",
            _none_if_never,
            "At no length here is the slowest sparse run below the fastest dense run, so nothing follows: None.",
        ),
        Behaviour(
            "takes overlapping bands for no win",
            _is_a_win,
            "At the length that you return, some sparse run took at least as long as some dense run. Beyond doubt "
            "means that the slowest sparse run is below the fastest dense run.",
        ),
        Behaviour(
            "does not count a win that is lost again",
            _lasts,
            "At a longer length sparse attention is not faster beyond doubt, so the win does not last. It has to hold "
            "at your length and at every longer one.",
        ),
        Behaviour(
            "finds a length where there is one",
            _finds,
            "At the longest length here, every sparse run is below every dense run, so there is an answer. Do you ask "
            "for more than that, or stop before the end of the list?",
        ),
        Behaviour(
            "finds the shortest",
            _shortest,
            "Sparse attention is faster beyond doubt at a shorter length already, and from there on. Walk back from "
            "the longest length for as long as the bands are apart, by however little.",
        ),
    ),
    slips=(
        Slip(
            _never,
            "None came back every time, even where sparse attention is faster at every length. Is a `return` missing?",
        ),
        Slip(
            _number_for_none,
            "All is right but for one thing: where there is no such length, return None itself. A number might be "
            "taken for a length.",
        ),
        Slip(gives(_index), "You return the place in the list. Return the length that stands there: `lengths[place]`."),
        Slip(
            _if(lambda dense, sparse: max(dense) < min(sparse)),
            "You found from where on dense attention is faster: the two are swapped.",
        ),
        Slip(
            gives(_exchanged),
            "You have exchanged lengths and runs: here `dense_ms[0]` holds all runs of the first length.",
        ),
        Slip(
            _winning(min),
            "You return the shortest length that wins, though a longer one loses. A later loss cancels a win: it must "
            "hold at every longer length.",
        ),
        Slip(
            _winning(max),
            "You return the longest length at which sparse attention wins. Go back from there: where does it begin?",
        ),
        Slip(
            _if(lambda dense, sparse: max(sparse) <= min(dense)),
            "You let bands count that touch: where the slowest sparse run took as long as the fastest dense one, there "
            "is doubt. `<`, not `<=`.",
        ),
        Slip(
            _if(lambda dense, sparse: median(sparse) < median(dense)),
            "You compare medians. They may lie apart while single runs overlap, and then nothing follows.",
        ),
        Slip(
            _if(lambda dense, sparse: mean(sparse) < mean(dense)),
            "You compare means. They may lie apart while single runs overlap, and then nothing follows.",
        ),
        Slip(
            _if(lambda dense, sparse: sparse[0] < dense[0]),
            "You look at the first run of each length alone. The others say how far it can be trusted.",
        ),
        Slip(
            _if(lambda dense, sparse: min(sparse) < min(dense)),
            "You compare the fastest runs of both. The *slowest* sparse run must be below the fastest dense one.",
        ),
        Slip(
            _if(lambda dense, sparse: max(sparse) < max(dense)),
            "You compare the slowest runs of both. The slowest sparse run must be below the *fastest* dense one.",
        ),
    ),
    done="A crossing that every run agrees with: below it nothing is promised, from it on sparse attention is faster.",
)
