"""Timing that can be trusted: interleaved, repeated, and silent where the bands overlap."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from dslearn.course.claims import figures
from dslearn.course.ledger import project_root


@dataclass(frozen=True)
class Band:
    """A median with its lowest and highest sample."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Band:
        """Return the band of ``samples``.

        Raises:
            ValueError: there are none.
        """
        if not samples:
            raise ValueError("a band needs at least one sample; got none")
        return cls(statistics.median(samples), min(samples), max(samples))

    def overlaps(self, other: Band) -> bool:
        """Tell whether some value lies in both bands."""
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        return f"{figures(self.median)} ({figures(self.low)} to {figures(self.high)})"


def time_interleaved(works: Mapping[str, Callable[[], object]], *, repeats: int = 9) -> dict[str, list[float]]:
    """Time several pieces of work in turns, so that a busy moment of the machine hits all of them alike.

    Each is run once before, unmeasured: first calls allocate memory and fill caches. The order is drawn anew in every
    round: whoever follows a large product finds the caches full of something else.

    Args:
        works: name → a function without arguments.
        repeats: how often each is timed.

    Returns:
        name → ``repeats`` times in milliseconds.

    Raises:
        ValueError: no work, or ``repeats`` below 1.
    """
    if not works or repeats < 1:
        raise ValueError(f"give at least one piece of work and repeats ≥ 1; got {len(works)} and {repeats}")
    for work in works.values():
        work()
    samples: dict[str, list[float]] = {name: [] for name in works}
    order, chance = list(works), random.Random(0)
    for _ in range(repeats):
        chance.shuffle(order)
        for name in order:
            samples[name].append(_milliseconds(works[name]))
    return samples


def compare(samples: Mapping[str, Sequence[float]], *, quantity: str = "time", unit: str = "ms") -> str:
    """Say which of two is lower, or that their bands overlap and nothing follows.

    Raises:
        ValueError: not exactly two names.
    """
    if len(samples) != 2:
        raise ValueError(f"compare takes two names; got {len(samples)}: {', '.join(samples)}")
    (first, a), (second, b) = ((name, Band.of(values)) for name, values in samples.items())
    told = f"{first}: {a} {unit}\n{second}: {b} {unit}\n"
    if a.overlaps(b):
        return f"{told}The bands overlap: no conclusion about {quantity}."
    lower, low, high = (first, a, b) if a.median < b.median else (second, b, a)
    share = f", {low.median / high.median:.0%} of the other" if low.median > 0 else ""
    return f"{told}The bands are apart: {quantity} is lower for {lower}{share}."


def stored_rows(benchmark: str, *prefixes: str) -> str:
    """The rows of a recorded benchmark whose ids begin so, as a table; or that none is recorded."""
    root = project_root()
    path = root / "book" / "benchmarks" / f"{benchmark}.json" if root else None
    if path is None or not path.exists():
        return "No benchmark is recorded here yet; the live run above stands alone."
    record = json.loads(path.read_text(encoding="utf-8"))
    title = f"Recorded on {record['date'][:10]}, {record['machine'].get('processor', 'unknown processor')}:"
    rows = [
        f"{row['id']:<28}{row['value']:8.3g} {row['unit']:<7}{row['baseline']}"
        for row in record["rows"]
        if row["id"].startswith(prefixes) and row["value"] is not None
    ]
    return "\n".join([title, *rows])


def _milliseconds(work: Callable[[], object]) -> float:
    _wait_for_gpu()
    start = time.perf_counter()
    work()
    _wait_for_gpu()
    return 1e3 * (time.perf_counter() - start)


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
