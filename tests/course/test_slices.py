"""Which cells an answer needs."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dslearn.course.slices import names_bound, needed, pieces

STUB = "def f():\n    raise NotImplementedError"


def sliced(*sources: str, names: tuple[str, ...] = ("f",), stubs: tuple[str, ...] = (STUB,)) -> list[str]:
    notebook = new_notebook(cells=[new_markdown_cell("def f(): ..."), *map(new_code_cell, sources)])
    return [piece.source for piece in needed(pieces(notebook), names, stubs=stubs)]


def test_only_what_is_needed_in_the_order_of_need() -> None:
    f, g, other = "def f():\n    return g() + c", "from m import g", "def h():\n    return 1"
    assert sliced(f, other, "c = 3", g) == ["c = 3", g, f]


def test_the_last_definition_counts_unless_it_is_the_stub() -> None:
    assert sliced("def f(): return 1", "def f(): return 2") == ["def f(): return 2"]
    assert sliced("def f(): return 1", STUB) == ["def f(): return 1"]
    assert sliced(STUB) == [STUB]


def test_a_definition_that_builds_on_an_earlier_one_brings_it() -> None:
    assert sliced("f = 1", "f = 5", "f = f + 1", "f = wrap(f)") == ["f = 5", "f = f + 1", "f = wrap(f)"]


def test_changes_to_parts_come_too() -> None:
    assert sliced("table = {}", "table['a'] = 1", "def f(): return table") == [
        "table = {}",
        "table['a'] = 1",
        "def f(): return table",
    ]


def test_functions_that_call_each_other_end() -> None:
    f, g = "def f(): return g()", "def g(): return f()"
    assert sorted(sliced(f, g)) == [f, g]
    assert sliced("def f(n): return f(n - 1)") == ["def f(n): return f(n - 1)"]


def test_stars_classes_magics_and_broken_cells() -> None:
    assert sliced("from m import *", "class f:\n    x = y", "y = 1") == [
        "from m import *",
        "y = 1",
        "class f:\n    x = y",
    ]
    assert sliced("%matplotlib inline\ndef f(): return 1") == ["%matplotlib inline\ndef f(): return 1"]
    assert sliced("def f(:", "def f(): return 1") == ["def f(): return 1"]
    broken = pieces(new_notebook(cells=[new_code_cell("x = 1\ndef f(:")]))[0]
    assert broken.error.endswith("line 2")


def test_what_a_cell_binds() -> None:
    assert names_bound("import a.b as c\nfor i in x:\n    d = 1\nwith y as e: pass\n(g := 2)") == set("cideg") - {
        "i"
    } | {"i"}
    assert names_bound("def f():\n    inner = 1") == {"f"}
    assert names_bound("x.y = 1\nz[0] = 2") == frozenset()


@pytest.mark.parametrize("source", ["", "# nothing", "1 + 1"])
def test_a_cell_that_defines_nothing(source: str) -> None:
    assert sliced(source) == []
