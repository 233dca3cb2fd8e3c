"""Rows of a benchmark: measured values, the bars they are held to, a table and a JSON file."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dslearn.course.ledger import write_atomically
from dslearn.course.provenance import library_hash, machine, versions

RECORDS = Path("book/benchmarks")


@dataclass(frozen=True)
class Bar:
    """A limit that a value must reach: ``sense`` is ">=" or "<="."""

    sense: str
    limit: float

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.sense == ">=" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.sense} {self.limit:g}"


@dataclass
class Row:
    """One measured value; ``baseline`` says in words what it is set beside, ``samples`` are the raw ones."""

    id: str
    value: float | None
    unit: str
    baseline: str
    samples: dict[str, Any] = field(default_factory=dict)
    bar: str | None = None
    holds: bool | None = None


class Report:
    """Collects rows, judges them by ``bars``, shows and stores them. A bar without a row has failed."""

    def __init__(self, name: str, bars: Mapping[str, Bar], *, quick: bool) -> None:
        self.name, self.bars, self.quick = name, bars, quick
        self.rows: list[Row] = []
        self.library = library_hash()  # of the code that is measured: files may change while it runs
        self.console = Console(width=120)

    def add(self, row_id: str, value: float | None, unit: str, baseline: str, **samples: Any) -> None:
        """Add a value, to be judged where a bar of its id exists; None says that it could not be measured."""
        bar = None if self.quick else self.bars.get(row_id)
        holds = None if bar is None else value is not None and bar.holds(value)
        row = Row(row_id, value, unit, baseline, samples, None if bar is None else str(bar), holds)
        self.rows.append(row)
        self.console.print(f"  {row_id}: {_figure(value)} {unit}  {'' if bar is None else f'({bar})'}")

    def add_ratio(self, row_id: str, over: Sequence[float], under: Sequence[float], baseline: str) -> None:
        """How many times the median of ``under`` goes into that of ``over``, from times taken in the same run."""
        value = statistics.median(over) / statistics.median(under)
        self.add(row_id, value, "×", baseline, over_ms=list(over), under_ms=list(under))

    def finish(self) -> bool:
        """Add a failed row for each bar nothing was measured for, print the table, tell whether all bars hold."""
        measured = {row.id for row in self.rows}
        for missing in [] if self.quick else sorted(set(self.bars) - measured):
            self.rows.append(Row(missing, None, "", "not measured", bar=str(self.bars[missing]), holds=False))
        table = Table("id", "value", "unit", "bar", "holds", "beside", title=f"benchmarks.{self.name}")
        for row in self.rows:
            verdict = {None: "", True: "yes", False: "NO"}[row.holds]
            table.add_row(row.id, _figure(row.value), row.unit, row.bar or "", verdict, row.baseline)
        self.console.print(table)
        return all(row.holds is not False for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "benchmark": self.name,
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "quick": self.quick,
            "machine": machine(),
            "versions": versions(),
            "library": self.library,
            "rows": [asdict(row) for row in self.rows],
        }


def run(name: str, doc: str, bars: Mapping[str, Bar], measure: Callable[[Report], None]) -> int:
    """The command line of a benchmark: measure, show, store; the exit code is 1 where a bar does not hold."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--quick", action="store_true", help="a smoke run at small sizes; nothing is judged")
    parser.add_argument("--record", action="store_true", help=f"store the rows in {RECORDS} for the book")
    arguments = parser.parse_args()
    if arguments.record and arguments.quick:
        parser.error("--record stores whole runs; leave --quick out")
    report = Report(name, bars, quick=arguments.quick)
    measure(report)
    good = report.finish()
    for path in filter(None, [arguments.json, RECORDS / f"{name}.json" if arguments.record else None]):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(report.as_dict(), indent=1, ensure_ascii=False) + "\n")
    return 0 if good else 1


def _figure(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4g}"
