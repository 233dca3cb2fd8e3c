"""Numbers about our own results are outputs: nobody types one into a chapter, a solution or a page."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, writes

from dslearn.course.pages import PAGES
from tests.notebooks.typed_numbers import clean, occurrences, prose, typed_numbers, unexplained

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("typed_numbers.toml")
ALLOWED: dict[str, dict[str, list[str]]] = tomllib.loads(LIST.read_text(encoding="utf-8"))
REASONS = {
    "the article's claim",
    "published, source beside it",
    "budget or limit",
    "arithmetic shown beside",
    "time to set aside",
    "an example, nobody's result",
}
PLACES = dict(prose(ROOT, {*PAGES, "book/rejections.md"}))
ENTRIES = [(place, snippet) for place, why in ALLOWED.items() for snippets in why.values() for snippet in snippets]


@pytest.mark.parametrize("place", PLACES)
def test_no_result_is_typed(place: str) -> None:
    allowed = [snippet for snippets in ALLOWED.get(place, {}).values() for snippet in snippets]
    found = unexplained(PLACES[place], allowed)
    assert not found, f"typed, where an output belongs; if it is no result of ours, say why in {LIST.name}: {found}"


@pytest.mark.parametrize(("place", "snippet"), ENTRIES)
def test_what_is_allowed_is_still_there(place: str, snippet: str) -> None:
    assert place in PLACES, "no such page or cell"
    text = PLACES[place]
    assert len(occurrences(text, snippet)) == 1, "it must stand there exactly once"
    assert typed_numbers(clean(snippet)), "nothing in it needs to be allowed"
    assert len(unexplained(text, [snippet])) < len(unexplained(text, [])), "nothing in it needs to be allowed"


def test_every_reason_is_one_of_a_few() -> None:
    assert {reason for why in ALLOWED.values() for reason in why} <= REASONS


@pytest.mark.parametrize(
    "sentence",
    [
        "our kernel was 3.2 times faster",
        "It is three times faster here.",
        "a speed-up of **3.2**× over dense",
        "a gain of $3.2\\times$",
        "decoding was twice as fast",
        "and took half the time",
        "a fifth quicker than dense",
        "eight times as much work was saved",
        "It ran 12 times in the time of one.",
        "accuracy rose to 91 %",
        "it recalled 91\u202f% of the pairs",
        "recalls ninety percent",
        "two percentage points better",
        "it took 14 ms",
        "it took `14 ms`",
        "it took 0.4 s",
        "training lasted 40\nminutes",
        "it took 2–4 min",
        "after some ten seconds",
        "a ten-second wait",
        "a kernel of 1,163 MB",
        "in 2.5 GiB of memory",
        "at 140 GFLOP/s",
        "the page needs 2 bits a letter",
        "the loss fell by 3 nats",
        "it writes 140 tokens per second",
        "140 tokens a second",
        "an accuracy of .91",
        "recall: 0.993",
        "The loss was 3 at the end.",
        "The slope is 2.",
        "the score went from .41 to .65",
        "it failed in 15 of 150 shapes",
        "99 out of 100 runs",
        "[it took](https://example.org/14) 14 ms",
        "<b>14</b> ms",
        "14&nbsp;ms",
        "faster than PyTorch 3.2 times over",
        "<5 ms and >3 ms",
        "with Python 3.13, 4 GB were enough",
    ],
)
def test_a_typed_result_is_caught(sentence: str) -> None:
    assert unexplained(clean(sentence), [])


@pytest.mark.parametrize(
    "sentence",
    [
        "blocks of 64 keys",
        "three heads",
        "chapter 01",
        "2025",
        "in September 2025, and in the 2010s",
        "Two heads of 64 features; 8 blocks of 64 keys are read, 512 in all; three repetitions.",
        "8 heads × 64 features",
        "a text of 24,576 tokens",
        "Python 3.11, 3.12 or 3.13",
        "DeepSeek-V3.2 and V3.1",
        "DeepSeek-V3 has 671 billion parameters",
        "Vaswani et al., 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), doi:10.1145/2807591.2807644",
        "`torch.randn(2, 2048, 256)`",
        "### 01.3 The best blocks",
        "Exercise 12.3 asks for it.",
        "how many **times faster** than dense",
        "Multiply two matrices nine times.",
        "int8 and fp32",
        "an 8-bit number",
        "one payment in 120",
        "The scores are in the positive ones and the negative ones.",
        "an eighth of the keys",
        "a gate with 64 experts, of which six are chosen",
    ],
)
def test_what_is_no_result_is_let_through(sentence: str) -> None:
    assert unexplained(clean(sentence), []) == []


def test_an_allowed_snippet_covers_its_own_words_only() -> None:
    text = clean("The article says *92 %* of the experts.\nHere 92 % were at work, in 14 ms.")
    assert len(unexplained(text, [])) == 3
    assert len(unexplained(text, ["says **92 %**\n of the experts"])) == 2
    assert len(unexplained(text, ["92"])) == 3


def test_cells_and_pages_are_read_and_outputs_and_generated_pages_are_not(tmp_path: Path) -> None:
    for name in ("book", "chapters", "solutions"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text("1 ms", encoding="utf-8")
    (tmp_path / "book" / "made.md").write_text("2 ms", encoding="utf-8")
    (tmp_path / "book" / "typed.md").write_text("3 ms", encoding="utf-8")
    cells = [new_markdown_cell("4 ms", id="a"), new_code_cell("print('5 ms')", id="b")]
    for name in ("chapters", "solutions"):
        (tmp_path / name / "01_x.ipynb").write_text(writes(new_notebook(cells=cells)), encoding="utf-8")
    assert dict(prose(tmp_path, {"book/made.md"})) == {
        "README.md": "1 ms",
        "book/typed.md": "3 ms",
        "chapters/01_x.ipynb#a": "4 ms",
        "solutions/01_x.ipynb#a": "4 ms",
    }
