"""Finds numbers in prose that look like a measured result: a factor, a share, a time, a size, a score."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat

_DIGITS = r"(?<![\w.])[+−-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_ONES = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen"
_WORDS = rf"\b(?:{_ONES}|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand)\b"
_AMOUNT = rf"(?:{_DIGITS}|{_WORDS})"
_BETTER = "faster|slower|quicker|cheaper|dearer|smaller|larger|longer|shorter|higher|lower|better|worse|less|more|fewer"
_QUALITY = "accuracy|recall|precision|perplexity|loss|AUROC|AUC|F1|score|error|slope|utili[sz]ation|speed-?up"
_PRODUCTS = "Python|PyTorch|torch|CUDA|version"
_VERSION = r"\d+\.[\d.]++"
_LINK = "of|is|was|are|were|at|to|from|by|=|:"

# Each kind of result, as the words around its number.
_RESULTS = (
    rf"{_AMOUNT}\s?×(?!\s?[\d(])",
    rf"{_DIGITS}\s+times\b|{_AMOUNT}\s+times\s+(?:as|the|{_BETTER})\b",
    r"\b(?:twice|half|thrice)\s+(?:as\s+(?:fast|slow|quick|cheap|accurate|good)|the\s+(?:speed|time|memory|cost|loss))\b",
    rf"\b(?:a|an|{_ONES})\s+(?:half|third|quarter|fifth|sixth|seventh|eighth|ninth|tenth)s?\s+(?:{_BETTER})\b",
    rf"{_AMOUNT}\s?(?:[%‰]|per\s?cent\b|percentage\s+points?\b)",
    rf"{_AMOUNT}[\s-]?(?:ns|[µμ]s|ms|(?<!\d\d\d0)s|(?:milli|micro|nano)?sec(?:ond)?s?|min|minutes?|h|hours?|days?)\b",
    rf"{_AMOUNT}[\s-]?(?:[kKMGT]i?B|bytes?|[kMGTP]?FLOPs?|[kM]?Wh|joules?|watts?)\b",
    rf"{_AMOUNT}\s?(?:bits?|nats?|dB)\b",
    rf"{_AMOUNT}\s+(?:tokens?|words?|samples?|steps?|images?|sequences?|answers?)\s*(?:/|an?\s|per\s|each\s)\s*s(?:econd)?\b",
    rf"\b(?:{_QUALITY})\b[^.;!?|]{{0,30}}?(?:\b|\s)(?:{_LINK})\s*{_DIGITS}",
    rf"{_DIGITS}\s+(?:out\s+)?of\s+(?:the\s+)?{_DIGITS}",
    # A fraction in prose is hardly ever anything else; 01.3 is an exercise.
    r"(?<![\w.])[+−-]?(?!0\d)\d*\.\d+(?![\w.]*\d)",
)
_RESULT = [re.compile(pattern, re.IGNORECASE) for pattern in _RESULTS]

# What is no prose, and what would hide a number from the patterns.
_CLEANED = (
    (r"!?\[([^\]]*)\]\([^)\s]*\)", r"\1"),
    (r"https?://\S+|\b(?:arXiv|doi):\s?\S+", " "),
    (rf"\b(?:{_PRODUCTS})\s{_VERSION}(?:(?:,| to| or)\s{_VERSION})*+(?!\s?(?:[×%]|times|m?s\b))", " "),
    (r"^\*\d+ minutes · [●○]+\*$", " "),  # an exercise's head, held to its check by another test
    (r"^#+\s*\d\d\.\d+|\b[Ee]xercises?\s+\d\d\.\d+", " "),
    (r"</?[a-zA-Z][^>]*>|&\w+;|\\[,;:! ]", " "),
    (r"\\times\b", "×"),
    (r"\\(?=%)|[*_`$]", ""),
    (r"\s+", " "),
)


class Finding(NamedTuple):
    """A number that looks like a result, where it stands in a cleaned text."""

    start: int
    end: int
    shown: str


def clean(text: str) -> str:
    """Return the text as it is read: one line, without links' targets, emphasis and versions."""
    for pattern, new in _CLEANED:
        text = re.sub(pattern, new, text, flags=re.MULTILINE)
    return text.strip()


def typed_numbers(cleaned: str) -> list[Finding]:
    """Return what looks like a result in a cleaned text, in order."""
    spans = {match.span() for pattern in _RESULT for match in pattern.finditer(cleaned)}
    return [Finding(*span, f"…{cleaned[max(0, span[0] - 40) : span[1] + 40]}…") for span in sorted(spans)]


def unexplained(cleaned: str, allowed: list[str]) -> list[str]:
    """Return what looks like a result and stands in none of the allowed snippets."""
    places = [place for snippet in allowed for place in occurrences(cleaned, snippet)]
    inside = lambda found: any(start <= found.start and found.end <= end for start, end in places)
    return [found.shown for found in typed_numbers(cleaned) if not inside(found)]


def occurrences(cleaned: str, snippet: str) -> list[tuple[int, int]]:
    """Return where a snippet, as its author wrote it, stands in a cleaned text."""
    return [match.span() for match in re.finditer(re.escape(clean(snippet)), cleaned)]


def prose(root: Path, generated: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (place, cleaned text) of every page and Markdown cell whose numbers somebody typed."""
    for path in [root / "README.md", *sorted((root / "book").glob("*.md"))]:
        if (name := path.relative_to(root).as_posix()) not in generated:
            yield name, clean(path.read_text(encoding="utf-8"))
    for folder in ("chapters", "solutions"):
        for path in sorted((root / folder).glob("*.ipynb")):
            for cell in nbformat.read(path, as_version=4).cells:
                if cell.cell_type == "markdown":
                    yield f"{path.relative_to(root).as_posix()}#{cell.id}", clean(cell.source)
