"""What every stored chapter must be: executed, clean, described, small, and honest about its claims."""

from __future__ import annotations

import ast
import json
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from dslearn.course import statements
from dslearn.course.execute import code_hash
from dslearn.course.normalise import normalise

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
_HOME = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|opt|usr)/[\w.-]+")

pytestmark = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in cells(path, "code") for output in cell.outputs]


def test_it_is_a_valid_notebook_with_one_title_and_named_cells(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert re.findall(r"^# .+", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE) == [
        notebook.cells[0].source.splitlines()[0]
    ]
    assert notebook.cells[0].source.startswith(f"# {path.stem[:2]} ")
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_headings_do_not_skip_a_level(path: Path) -> None:
    text = "\n".join(re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL) for cell in cells(path, "markdown"))
    levels = [len(marks) for marks in re.findall(r"^(#{1,6}) ", text, re.MULTILINE)]
    assert all(after - before <= 1 for before, after in pairwise(levels)), levels


def test_it_is_stored_as_it_was_executed_in_order(path: Path) -> None:
    counts = [cell.execution_count for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))
    assert not [output for output in outputs(path) if output.output_type == "error"]


def test_its_outputs_are_those_of_its_present_code(path: Path) -> None:
    recorded = json.loads((ROOT / "book" / "execution.json").read_text(encoding="utf-8"))
    name = path.stem if path.parent.name == "chapters" else f"{path.parent.name}/{path.stem}"
    assert recorded[name]["code"] == code_hash(nbformat.read(path, as_version=4)), "run it again and store it"


def test_stored_outputs_are_normalised(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    before = nbformat.writes(notebook)
    assert nbformat.writes(normalise(notebook)) == before


def test_no_output_is_a_warning_or_names_a_place_on_this_machine(path: Path) -> None:
    for output in outputs(path):
        assert output.get("name") != "stderr", output.get("text")
        shown = output.get("text", "") + "".join(
            str(value) for kind, value in output.get("data", {}).items() if kind != "text/html"
        )
        assert not _HOME.search(shown), _HOME.search(shown)


def test_every_picture_is_described(path: Path) -> None:
    data = [output.get("data", {}) for output in outputs(path)]
    assert not [kinds for kinds in data if any(kind.startswith("image/") for kind in kinds)], (
        "shown without a description"
    )
    pictures = [kinds["text/html"] for kinds in data if "<img" in kinds.get("text/html", "")]
    assert pictures
    for picture in pictures:
        assert len(re.findall(r'alt="[^"]{40,}"', picture)) == picture.count("<img")
    for cell in cells(path, "markdown"):
        assert not re.search(r"!\[\]\(|<img(?![^>]*alt=\"[^\"]+\")", cell.source), cell.source


def test_it_is_small_enough(path: Path) -> None:
    assert path.stat().st_size <= 1_000_000


def test_each_claim_is_its_own_and_gets_its_verdict(path: Path) -> None:
    called: dict[str, set[str]] = {"claim": set(), "verdict": set(), "predict": set()}
    for cell in cells(path, "code"):
        for node in ast.walk(ast.parse(re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in called:
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    called[node.func.id].add(str(first.value))
    own = {claim_id for claim_id, row in statements().items() if row.chapter == int(path.stem[:2])}
    assert called["claim"] <= own
    assert called["claim"] <= called["verdict"]
    assert called["predict"] <= own
    assert own <= called["verdict"], f"without a verdict: {own - called['verdict']}"
