"""Our own numbers for the book's pages, from the records: nobody types them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from dslearn.course import VERDICTS, Ledger, Measurement, statements
from dslearn.course.claims import NOT_YET, from_row


def results(book: Path) -> dict[str, str]:
    """Return the substitutions: ``says_dsa_speed``, ``value_dsa_speed``, ``verdict_dsa_speed`` for each claim; sums.

    ``claims`` is how many there are, ``judged`` how many have a verdict, ``claims_contradicted`` how many this one;
    ``rejections`` is a sentence of the rejection table.
    """
    rows = Ledger(book / "claims.json").read()["claims"]
    found: dict[str, str] = {}
    for claim_id, statement in statements().items():
        row, name = from_row(rows[claim_id]), claim_id.replace("-", "_")
        found |= {f"says_{name}": statement.says, f"value_{name}": _value(row), f"verdict_{name}": row.verdict}
    return found | _counts(Counter(row["verdict"] for row in rows.values())) | {"rejections": _rejections(book)}


def _value(row: Measurement) -> str:
    if row.verdict == NOT_YET:
        return NOT_YET
    return f"{row.value()}, against {row.baseline}" if row.baseline else row.value()


def _counts(verdicts: Counter[str]) -> dict[str, str]:
    each = {f"claims_{word.replace(' ', '_')}": str(verdicts[word]) for word in VERDICTS}
    return {"claims": str(verdicts.total()), "judged": str(verdicts.total() - verdicts[NOT_YET]), **each}


def _rejections(book: Path) -> str:
    page = (book / "rejections.md").read_text(encoding="utf-8")
    sentence = re.search(r"^\d+ checks accept .*$", page, re.MULTILINE)
    if sentence is None:
        raise ValueError("book/rejections.md no longer says how many answers the checks accept and refuse")
    return sentence.group()
