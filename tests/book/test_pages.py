"""The book's hand-written pages say of the code what the code says of itself."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dslearn

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\|.*?\| `(\w+)` \| (`.+?`) \| .* \| \{py:obj\}`~([\w.]+)` \|$", re.MULTILINE)
ROWS = ROW.findall(GLOSSARY)
# A room is a page of the library's reference as soon as it has names of its own to show.
ROOMS = sorted(path.parent.name for path in Path(dslearn.__file__).parent.glob("*/__init__.py"))
NO_PAGE = {"cli"}


def find(name: str) -> object:
    """What ``dslearn.attention.DenseAttention.forward`` names."""
    room, *rest = name.removeprefix("dslearn.").split(".")
    found: object = importlib.import_module(f"dslearn.{room}")
    for part in rest:
        found = getattr(found, part)
    return found


def source_of_signature(found: object) -> str:
    """The definition as it is written, up to its body: annotations as a reader sees them."""
    made = found.__init__ if inspect.isclass(found) else found  # type: ignore[misc]
    lines = inspect.getsource(inspect.unwrap(made))  # type: ignore[arg-type]
    return " ".join(lines.split('"""')[0].split())


def annotation(found: object, variable: str) -> str:
    written = source_of_signature(found)
    if variable == "return":
        return written.rsplit("->", 1)[1]
    match = re.search(rf"\b{variable}: (.*?)(, \w+:| = |, \*|,? \) ->)", written)
    assert match, f"{variable} is no parameter of {written}"
    return match[1]


def test_the_glossary_has_its_rows() -> None:
    assert len(ROWS) == GLOSSARY.count("{py:obj}")
    assert {"q", "k", "v", "index_q", "block_size", "top_k", "query_block", "branching", "beam"} <= {
        variable for variable, _, _ in ROWS
    }


@pytest.mark.parametrize(("variable", "shape", "place"), ROWS)
def test_each_variable_of_the_glossary_stands_where_it_says(variable: str, shape: str, place: str) -> None:
    written = annotation(find(place), variable)
    if " " in shape.strip("`") and "or" not in shape:
        assert f'"{shape.strip("`")}"' in written
    else:
        assert set(re.findall(r"\w+", written)) == set(re.findall(r"\w+", shape)) - {"or"}


def test_a_wrong_row_of_the_glossary_is_noticed() -> None:
    found = find("dslearn.attention.select_blocks")
    assert "queries rank" in annotation(found, "q")
    assert annotation(found, "top_k").strip() == "int"
    with pytest.raises(AssertionError, match="no parameter"):
        annotation(found, "budget")


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in NO_PAGE])
def test_every_room_has_a_page_of_reference(room: str) -> None:
    assert f".. automodule:: dslearn.{room}\n" in (ROOT / "book" / "api" / f"{room}.md").read_text(encoding="utf-8")
    assert f"book/api/{room}\n" in (ROOT / "book" / "_toc.yml").read_text(encoding="utf-8")


def cited() -> Iterator[tuple[str, str]]:
    """Every arXiv number and doi that the course names, and where."""
    patterns = ("dslearn/**/*.py", "dslearn/course/claims.json", "chapters/*.ipynb", "solutions/*.ipynb", "book/*.csv")
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        numbers = re.findall(r"arXiv[: ](\d{4}\.\d{4,5})", text) + re.findall(r"doi:(10\.[^\s;)\]\"]+)", text)
        yield from ((number, path.name) for number in numbers)


def test_whatever_is_cited_stands_in_the_bibliography() -> None:
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"(?:eprint|doi) = \{([^}]+)\}", entries))
    found = set(cited())
    assert len(found) > 30
    assert sorted((number, where) for number, where in found if number not in known) == []


def test_every_paper_stands_in_the_bibliography_once() -> None:
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    for field in (r"@\w+\{([^,]+),", r"eprint = \{([^}]+)\}", r"doi = \{([^}]+)\}"):
        names = re.findall(field, entries)
        assert sorted(names) == sorted(set(names))


def test_the_landing_page_takes_its_results_from_the_records() -> None:
    page = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    ledger = json.loads((ROOT / "book" / "claims.json").read_text(encoding="utf-8"))["claims"]
    measured = re.findall(r"\{\{ value_(\w+) \}\}", page)
    assert measured
    for name in measured:
        assert ledger[name.replace("_", "-")]["measured"] is not None
