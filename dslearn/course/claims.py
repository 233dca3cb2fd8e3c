"""Predict, measure, compare: the article's claims and what became of them.

The claims' wording is package data (``claims.json`` beside this file), so an installed library can quote it;
what was measured is a row of a :class:`~dslearn.course.ledger.Ledger`. The id joins the two.
"""

from __future__ import annotations

import difflib
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from dslearn.course.ledger import Ledger, book_ledger, reader_ledger
from dslearn.course.provenance import library_hash, machine, versions

NOT_YET = "not yet measured"
VERDICTS = (
    "reproduced",
    "reproduced in the small",
    "published elsewhere",
    "not reproduced",
    "contradicted",
    NOT_YET,
)

Number = int | float


@dataclass(frozen=True)
class Statement:
    """What the article says, in our words, and what is known about it.

    Attributes:
        id: the fixed name used by chapters, benchmarks and the ledger.
        chapter: number of the chapter that measures it.
        says: the article's claim.
        known: what is published or follows from arithmetic.
        sources: where that can be looked up.
    """

    id: str
    chapter: int
    says: str
    known: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Measurement:
    """One row of a ledger.

    Attributes:
        measured: the median, or the only value; None where nothing was measured here.
        unit: unit of ``measured``, ``spread`` and predictions.
        verdict: one of ``VERDICTS``.
        baseline: what it is compared with, in words.
        spread: lowest and highest value over the seeds or repetitions.
        seeds: the seeds used.
        note: a condition the number depends on.
        machine, date, versions, library: where the number comes from.
    """

    id: str
    measured: float | None
    unit: str
    verdict: str
    baseline: str | None
    spread: tuple[float, float] | None
    seeds: tuple[int, ...]
    note: str
    machine: dict[str, Any]
    date: str
    versions: dict[str, str]
    library: str

    def __post_init__(self) -> None:
        _require_id(self.id)
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}; got {self.verdict!r}")
        if self.measured is None and self.verdict not in ("published elsewhere", NOT_YET):
            raise ValueError(f"the verdict {self.verdict!r} needs a measured value; got None")
        if self.measured is not None and self.verdict == NOT_YET:
            raise ValueError(f"a measured value ({self.measured:g}) cannot have the verdict {NOT_YET!r}")
        if self.spread is not None and not self._spread_holds():
            raise ValueError(f"spread must be (low, high) around {self.measured}; got {self.spread}")

    def _spread_holds(self) -> bool:
        low, high = self.spread or (math.nan, math.nan)
        return self.measured is not None and low <= self.measured <= high

    def _repr_markdown_(self) -> str:
        return f"Recorded `{self.id}`: **{self.value()}**, {self.verdict}."

    def __repr__(self) -> str:
        return f"Recorded {self.id}: {self.value()}, {self.verdict}."

    def value(self) -> str:
        """Return the number with its unit and spread, rounded to three figures."""
        if self.measured is None:
            return "nothing measured here"
        text = quantity(self.measured, self.unit)
        if self.spread and self.spread[0] != self.spread[1]:
            text += f" ({figures(self.spread[0])} to {figures(self.spread[1])}"
            text += f" over {len(self.seeds)} seeds)" if self.seeds else ")"
        return text


@dataclass(frozen=True)
class Prediction:
    """A number the reader committed to before measuring."""

    id: str
    value: float

    def _repr_markdown_(self) -> str:
        return f"Your prediction for `{self.id}`, **{figures(self.value)}**, is written down."

    def __repr__(self) -> str:
        return f"Your prediction for {self.id}, {figures(self.value)}, is written down."


@cache
def statements() -> MappingProxyType[str, Statement]:
    """Return every claim of the article by id, in the order of the chapters."""
    rows = json.loads(resources.files("dslearn.course").joinpath("claims.json").read_text(encoding="utf-8"))
    found = (Statement(**{**row, "sources": tuple(row["sources"])}) for row in rows)
    return MappingProxyType({statement.id: statement for statement in found})


def predict(claim_id: str, value: Number) -> Prediction:
    """Commit to a number before measuring it; :func:`verdict` compares.

    Args:
        claim_id: id of a claim (see :func:`statements`).
        value: the reader's guess, in the unit the chapter names.

    Raises:
        ValueError: no such claim, or not a finite number.
        LedgerError: the reader's ledger is damaged or cannot be written.
    """
    _require_id(claim_id)
    made = Prediction(claim_id, _finite("the prediction", value))
    reader_ledger().record_prediction(claim_id, {"value": made.value, "date": _now()})
    return made


def claim(
    claim_id: str,
    measured: Number | Sequence[Number] | None,
    unit: str = "",
    *,
    verdict: str,
    baseline: str | None = None,
    spread: tuple[Number, Number] | None = None,
    seeds: Sequence[int] = (),
    note: str = "",
    ledger: Ledger | None = None,
) -> Measurement:
    """Record what was measured for one of the article's claims.

    Args:
        claim_id: id of a claim (see :func:`statements`).
        measured: the value; or several, one a seed or repetition, of which the median is recorded and the
            lowest and highest as ``spread``; or None where only others published something.
        unit: unit of the value, e.g. ``"×"`` or ``"ms"``.
        verdict: one of ``VERDICTS``.
        baseline: what it is compared with, in words.
        spread: lowest and highest value, when ``measured`` is a single number.
        seeds: the seeds used.
        note: a condition the number depends on, as a sentence without its full stop.
        ledger: where to write; None means the reader's own. Benchmarks that record name the book's.

    Raises:
        ValueError: unknown id or verdict, a value that is not finite, a spread that excludes the value.
        LedgerError: the ledger is damaged or cannot be written.
    """
    value, band = _value_and_spread(measured, spread)
    where = (machine(), _now(), versions(), library_hash())
    row = Measurement(claim_id, value, unit, verdict, baseline, band, tuple(seeds), note, *where)
    (ledger or reader_ledger()).record_claim(claim_id, asdict(row))
    return row


def measurement(claim_id: str) -> Measurement | None:
    """Return the reader's own row for ``claim_id``, else the book's, else None.

    Raises:
        ValueError: no such claim.
        LedgerError: a ledger is damaged.
    """
    _require_id(claim_id)
    for ledger in (reader_ledger(), book_ledger()):
        row = ledger.claim(claim_id) if ledger else None
        if row is not None and row.get("verdict", NOT_YET) != NOT_YET:
            return from_row(row)
    return None


def from_row(row: dict[str, Any]) -> Measurement:
    """Return a ledger's row as a :class:`Measurement`."""
    spread = tuple(row["spread"]) if row["spread"] else None
    return Measurement(**{**row, "spread": spread, "seeds": tuple(row["seeds"])})


def figures(value: Number) -> str:
    """Return ``value`` with three significant figures, and whole numbers in full with thousands separated."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if float(value).is_integer():
        return f"{value:,.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def quantity(value: Number, unit: str) -> str:
    """Return ``value`` with its unit; ``×`` and ``%`` stand close to the number."""
    return f"{figures(value)}{'' if unit in ('×', '') else ' '}{unit}"


def _value_and_spread(
    measured: Number | Sequence[Number] | None, spread: tuple[Number, Number] | None
) -> tuple[float | None, tuple[float, float] | None]:
    if isinstance(measured, Sequence):
        if spread is not None:
            raise ValueError("give several measured values or one value with its spread, not both")
        values = [_finite("a measured value", value) for value in measured]
        if not values:
            raise ValueError("measured must hold at least one value; got an empty sequence")
        return statistics.median(values), (min(values), max(values))
    value = None if measured is None else _finite("the measured value", measured)
    return value, spread and (_finite("spread", spread[0]), _finite("spread", spread[1]))


def _finite(what: str, value: Number) -> float:
    # bool is an int to Python, and nothing was measured by saying True.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number; got {value!r}")
    return float(value)


def _require_id(claim_id: str) -> None:
    known = statements()
    if claim_id in known:
        return
    near = difflib.get_close_matches(claim_id, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"the ids are {', '.join(known)}"
    raise ValueError(f"no claim is called {claim_id!r}; {hint}")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
