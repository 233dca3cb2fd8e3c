"""The sentence about a result, built from what was measured and never typed."""

from __future__ import annotations

from dataclasses import dataclass

from dslearn.course.claims import NOT_YET, Measurement, Statement, figures, measurement, quantity, statements
from dslearn.course.ledger import reader_ledger


@dataclass(frozen=True)
class Verdict:
    """What the article says, what is known and what was measured; shown as text or Markdown."""

    statement: Statement
    row: Measurement | None
    predicted: float | None

    @property
    def word(self) -> str:
        """The verdict in the ledger's own words."""
        return self.row.verdict if self.row else NOT_YET

    def lines(self) -> list[tuple[str, str]]:
        """Return (heading, sentence) pairs, in reading order."""
        found = [("The article says", f"{self.statement.says}.")]
        if self.row is not None:
            found.append(("Measured here", self._measured(self.row)))
        if self.predicted is not None:
            found.append(("You predicted", self._compared(self.predicted)))
        known = self.statement.known
        return [*found, ("What is known", f"{known}. ({'; '.join(self.statement.sources)})")]

    def _measured(self, row: Measurement) -> str:
        text = row.value()
        if row.baseline:
            text += f", against {row.baseline}"
        return f"{text}. {row.note}." if row.note else f"{text}."

    def _compared(self, predicted: float) -> str:
        if self.row is None or self.row.measured is None:
            return f"{figures(predicted)}; nothing to compare it with yet."
        said = quantity(predicted, self.row.unit)
        low, high = self.row.spread or (self.row.measured, self.row.measured)
        if low <= predicted <= high:
            return f"{said}, and that is what came out."
        off = quantity(abs(predicted - self.row.measured), self.row.unit)
        return f"{said}, which is {off} too {'high' if predicted > self.row.measured else 'low'}."

    def _repr_markdown_(self) -> str:
        head = f"> **Verdict on `{self.statement.id}`: {self.word}.**"
        return "\n>\n".join([head, *(f"> *{heading}:* {text}" for heading, text in self.lines())])

    def __repr__(self) -> str:
        head = f"Verdict on {self.statement.id}: {self.word}."
        return "\n".join([head, *(f"  {heading}: {text}" for heading, text in self.lines())])


def verdict(claim_id: str) -> Verdict:
    """Return the verdict on a claim: the reader's own measurement, else the book's, beside the prediction.

    Raises:
        ValueError: no such claim.
        LedgerError: a ledger is damaged.
    """
    row = measurement(claim_id)
    made = reader_ledger().prediction(claim_id)
    return Verdict(statements()[claim_id], row, made["value"] if made else None)
