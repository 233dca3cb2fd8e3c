"""The built book holds together: no dead link, no request elsewhere, every page named and in the contents."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tests.book import site as book

GOOD = """<html lang="en"><head><title>t</title><link rel="stylesheet" href="a.css"></head>
<body><h1 id="top">t</h1><a href="#top">up</a><a href="other.html#here">there</a><img src="a.png" alt="">
<a href="https://arxiv.org/abs/1706.03762">paper</a></body></html>"""


@pytest.fixture(scope="module")
def built() -> tuple[Path, float]:
    started = time.monotonic()
    return book.build(), time.monotonic() - started


@pytest.fixture(scope="module")
def pages(built: tuple[Path, float]) -> dict[Path, BeautifulSoup]:
    return book.read_pages(built[0])


@pytest.mark.slow
def test_the_book_is_built_within_a_minute(built: tuple[Path, float]) -> None:
    assert (built[0] / "book" / "index.html").is_file()
    assert built[1] <= 60


@pytest.mark.slow
def test_no_link_is_dead(built: tuple[Path, float], pages: book.Pages) -> None:
    assert book.dead_links(built[0], pages) == []


@pytest.mark.slow
def test_links_that_lead_away_are_well_formed(pages: book.Pages) -> None:
    assert book.odd_links(pages) == []


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(built: tuple[Path, float], pages: book.Pages) -> None:
    assert book.fetched_elsewhere(built[0], pages) == []


@pytest.mark.slow
def test_every_page_and_picture_is_named(built: tuple[Path, float], pages: book.Pages) -> None:
    assert book.untidy(built[0], pages) == []


@pytest.mark.slow
def test_the_contents_lead_to_every_page(built: tuple[Path, float], pages: book.Pages) -> None:
    start = built[0] / "book" / "index.html"
    written = {built[0] / f"{name}.html" for name in book.sources()}
    assert written <= set(pages)
    assert book.in_contents(start, pages[start]) >= written - {start}


@pytest.mark.slow
def test_solutions_are_folded_and_their_words_are_not(built: tuple[Path, float], pages: book.Pages) -> None:
    page = pages[built[0] / "solutions" / "01_sparse_attention.html"]
    solutions = [block for block in page.select("pre") if "BEGIN SOLUTION" in block.get_text()]
    assert len(solutions) == 8
    assert all(block.find_parent("details") for block in solutions)
    assert len([block for block in page.select("details.sd-dropdown") if "One good answer" in block.get_text()]) == 2
    tasks = [heading.get_text() for heading in page.select("h2")]
    assert [text for text in tasks if re.match(r"01\.\d+ ·", text)]
    assert not [heading for heading in page.select("h2") if heading.find_parent("details")]


@pytest.mark.slow
def test_a_chapters_links_to_the_learners_copies_lead_to_the_exercises(
    built: tuple[Path, float], pages: book.Pages
) -> None:
    page = pages[built[0] / "chapters" / "01_sparse_attention.html"]
    assert [link for link in page.select("article a") if link.get("href") == "../solutions/01_sparse_attention.html"]


@pytest.mark.slow
def test_formulas_are_in_the_page_itself(built: tuple[Path, float], pages: book.Pages) -> None:
    page = pages[built[0] / "chapters" / "01_sparse_attention.html"]
    notebook = (book.ROOT / "chapters" / "01_sparse_attention.ipynb").read_text(encoding="utf-8")
    assert "\\\\operatorname{softmax}" in notebook
    assert len(page.select("math")) >= 30
    assert "softmax" in page.select_one("math[display=block]").get_text()  # type: ignore[union-attr]
    assert not re.search(r"\\(frac|operatorname|sum|sqrt)", page.get_text())


@pytest.mark.slow
def test_signatures_show_shapes(built: tuple[Path, float], pages: book.Pages) -> None:
    page = pages[built[0] / "book" / "api" / "attention.html"]
    signature = page.select_one("[id='dslearn.attention.select_blocks']")
    assert signature is not None
    assert "Float[Tensor, 'batch heads queries rank']" in signature.get_text().replace('"', "'")
    assert "jaxtyping" not in signature.get_text()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text(GOOD)
    (tmp_path / "other.html").write_text('<html lang="en"><title>o</title><h1>o</h1><p id="here"></p></html>')
    (tmp_path / "a.css").write_text("@font-face { src: url('a.woff2') }")
    (tmp_path / "a.png").write_bytes(b"")
    return tmp_path


def test_the_checker_is_content_with_a_good_site(small: Path) -> None:
    pages = book.read_pages(small)
    assert len(pages) == 2
    assert book.dead_links(small, pages) == []
    assert book.fetched_elsewhere(small, pages) == []
    assert book.odd_links(pages) == []
    assert book.untidy(small, pages) == []


@pytest.mark.parametrize("broken", ["nowhere.html", "other.html#there", "#nothing", "../page.html", "/page.html"])
def test_the_checker_finds_a_dead_link(small: Path, broken: str) -> None:
    (small / "page.html").write_text(GOOD.replace("other.html#here", broken))
    assert book.dead_links(small, book.read_pages(small)) == [f"page.html: {broken}"]


@pytest.mark.parametrize("odd", ["http://arxiv.org/abs/1", "https://nowhere", "htps://arxiv.org", "https://a.b/c d"])
def test_the_checker_finds_an_odd_address(small: Path, odd: str) -> None:
    (small / "page.html").write_text(GOOD.replace("https://arxiv.org/abs/1706.03762", odd))
    assert book.odd_links(book.read_pages(small)) == [odd]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a.css", "https://fonts.example.org/a.css"),
        ("a.png", "//cdn.example.org/a.png"),
        ("<h1", "<script src='https://cdn.example.org/a.js'></script><h1"),
        ("<h1", "<style>@import 'https://cdn.example.org/a.css';</style><h1"),
        ("<h1", "<h1 style='background: url(https://cdn.example.org/a.png)'"),
    ],
)
def test_the_checker_finds_what_would_be_fetched_from_elsewhere(small: Path, before: str, after: str) -> None:
    (small / "page.html").write_text(GOOD.replace(before, after, 1))
    assert len(book.fetched_elsewhere(small, book.read_pages(small))) == 1


def test_the_checker_reads_style_sheets(small: Path) -> None:
    (small / "a.css").write_text('@import url("https://fonts.example.org/a.css");')
    assert book.fetched_elsewhere(small, book.read_pages(small)) == ["a.css: https://fonts.example.org/a.css"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (' lang="en"', "", "no language"),
        ("<title>t</title>", "<title> </title>", "no title"),
        ("</h1>", "</h1><h1>again</h1>", "2 main headings"),
        (' alt=""', "", "a picture without alternative text"),
    ],
)
def test_the_checker_finds_what_has_no_name(small: Path, before: str, after: str, said: str) -> None:
    (small / "page.html").write_text(GOOD.replace(before, after))
    assert book.untidy(small, book.read_pages(small)) == [f"page.html: {said}"]
