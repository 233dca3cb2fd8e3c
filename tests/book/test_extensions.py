"""The book's small extensions, on a book of one page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "book" / "_ext")!r})
extensions = ["myst_nb", "sphinx.ext.autodoc", "mathml", "signatures"]
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
html_theme = "basic"
nb_execution_mode = "off"
python_maximum_signature_line_length = 20
"""


def build(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    (folder / "conf.py").write_text(CONF)
    (folder / "index.md").write_text(f"# Page\n\n{page}\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(folder), str(folder / "out")]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def shown(folder: Path) -> BeautifulSoup:
    return BeautifulSoup((folder / "out" / "index.html").read_text(encoding="utf-8"), "html.parser")


def test_a_formula_becomes_mathml_with_the_spaces_that_tex_gives(tmp_path: Path) -> None:
    built = build(tmp_path, r"Half is $O(n \log n)$, $\log(n)$ and $n/2$.")
    assert built.returncode == 0, built.stderr
    product, bracket, half = shown(tmp_path).find_all("math")
    assert product.get_text("", strip=True).replace("\u2061", "") == "O(nlogn)"
    assert len(product.find_all("mspace")) == 2
    assert not bracket.find_all("mspace")
    slash = half.find("mo")
    assert slash is not None
    assert slash.get("lspace") == slash.get("rspace") == "0"


def test_a_formula_that_cannot_be_read_stops_the_book(tmp_path: Path) -> None:
    built = build(tmp_path, r"Not a formula: $\fraktion{1}{2}$.")
    assert built.returncode != 0
    assert "fraktion" in built.stderr


def test_the_lines_of_a_signature_are_no_list(tmp_path: Path) -> None:
    built = build(tmp_path, "```{eval-rst}\n.. py:function:: long_enough(first: int, second: int) -> int\n```")
    assert built.returncode == 0, built.stderr
    page = shown(tmp_path)
    assert [line.get_text() for line in page.select(".sig-line")] == ["first: int,", "second: int,"]
    assert not page.select("dt dl, dt dd")


@pytest.fixture
def notebooks(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    import notebooks  # pyright: ignore[reportMissingImports]

    return notebooks


def test_what_would_give_an_answer_away_is_folded(notebooks: object) -> None:
    cells = [
        {"id": "title", "cell_type": "markdown", "metadata": {}, "source": ["# Exercises"]},
        {"id": "1-answer", "cell_type": "code", "metadata": {}, "source": "### BEGIN SOLUTION\nx = 1", "outputs": []},
        {"id": "1-text", "cell_type": "markdown", "metadata": {}, "source": "*Write your answer here.*"},
        {"id": "1-sample", "cell_type": "markdown", "metadata": {"tags": ["solution"]}, "source": "So it is."},
        {"id": "2-answer", "cell_type": "code", "metadata": {}, "source": 'rubric("2")', "outputs": []},
        {"id": "2-show", "cell_type": "code", "metadata": {"tags": ["expected"]}, "source": "show()", "outputs": []},
    ]
    source = [json.dumps({"cells": cells})]
    notebooks._prepare(None, "solutions/01_name", source)  # type: ignore[attr-defined]
    made = {cell["id"]: cell for cell in json.loads(source[0])["cells"]}
    assert list(made) == ["title", "1-answer", "1-sample", "2-answer", "2-show"]
    assert "../exercises/01_name.ipynb" in "".join(made["title"]["source"])
    assert made["1-answer"]["metadata"]["tags"] == ["hide-input"]
    assert made["1-sample"]["source"].startswith(":::::{dropdown}")
    assert made["2-answer"]["metadata"]["tags"] == ["hide-output"]
    assert made["2-show"] == cells[-1]


def test_other_pages_are_left_alone(notebooks: object) -> None:
    source = ["# Not a notebook, [work](../work/)"]
    notebooks._prepare(None, "book/index", source)  # type: ignore[attr-defined]
    assert source == ["# Not a notebook, [work](../work/)"]
