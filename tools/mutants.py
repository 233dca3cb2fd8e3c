"""Mutants of the solutions, judged by the checks: ``pip install cosmic-ray==8.7.0``, then ``python tools/mutants.py``.

Every operator of Cosmic Ray is applied at every place of every solution, one at a time. A mutant that a check accepts
survived: either it still is a right answer, or the check has a hole. What happened is written to
``tests/course/rejections/mutants.json``, where the reason for each survivor is added by hand, and kept.
"""

from __future__ import annotations

import difflib
import json
import re
import resource
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import nbformat
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.plugins import get_operator, operator_names
from tqdm import tqdm

from dslearn.course.checking import judge
from dslearn.course.exercises import MODULES, load

ROOT = Path(__file__).resolve().parent.parent
MEMORY = 8 * 2**30
RECORD = ROOT / "tests" / "course" / "rejections" / "mutants.json"


def mutants(source: str) -> Iterator[str]:
    """Every different text that one operator makes of ``source`` at one place; operators by chance are left out."""
    seen = {source}
    for operator in (get_operator(name) for name in operator_names()):
        if operator.arguments():
            continue
        for place in count():
            text = MutationVisitor.mutate_code(source, operator(), place)
            if text is None:
                break
            if text not in seen:
                seen.add(text)
                yield text


def judged(source: str, imports: str, number: str) -> bool:
    """Whether the check accepts the answer in ``source``."""
    exercise, names = load(number), {}
    try:
        exec(imports, names)
        exec(source, names)
    except Exception:
        return False
    return judge(exercise, names[exercise.function]).passed


def changed_line(before: str, after: str) -> str:
    """The lines that differ, as ``before → after``."""
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    old, new = (" ".join(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return f"{old} → {new or '(nothing)'}"


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))  # a mutant may ask for a number of a billion digits
    cells = {
        cell.id: cell.source
        for path in sorted((ROOT / "solutions").glob("*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
    }
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    record = {}
    for number in sys.argv[1:] or MODULES:
        source = re.sub(r" *### (BEGIN|END) SOLUTION\n?", "", cells[f"{number.replace('.', '-')}-answer"])
        reasons = {each["change"]: each["why"] for each in known.get(number, {}).get("survivors", [])}
        made, survivors = 0, []
        for text in tqdm(list(mutants(source)), desc=number):
            made += 1
            if judged(text, cells["imports"], number):
                change = changed_line(source, text)
                survivors.append({"change": change, "why": reasons.get(change, "")})
        record[number] = {"mutants": made, "survivors": survivors}
        RECORD.write_text(json.dumps({**known, **record}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
