"""Which cells of a learner's notebook an answer needs, whatever their order, ids and copies."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

_TIMED = re.compile(r"\A\s*%%(time|timeit|capture)\b.*\n")  # magics that run the cell as it is


@dataclass(frozen=True)
class Piece:
    """A code cell and the names in it.

    Attributes:
        id, source: the cell's; without a first line that only measures or hides its output.
        binds: names that it gives a meaning at its top level.
        uses: names that it needs from elsewhere, inside functions too.
        changes: names of which it changes a part (``x.y = …``, ``x[…] = …``).
        imports_all: whether it imports everything of a module.
        error: why it is not Python; empty if it is.
    """

    id: str
    source: str
    binds: frozenset[str]
    uses: frozenset[str]
    changes: frozenset[str]
    imports_all: bool
    error: str


def pieces(notebook: NotebookNode) -> list[Piece]:
    """The code cells of a notebook, in order."""
    return [_piece(cell.get("id", ""), cell.source) for cell in notebook.cells if cell.cell_type == "code"]


def needed(cells: Sequence[Piece], names: Collection[str], *, stubs: Collection[str] = ()) -> list[Piece]:
    """The cells that give ``names`` their meaning when all are run in order, and what these need in turn.

    Of several cells that define a name the last one counts, as when all cells are run; but a cell that still is as it
    was handed out (one of ``stubs``, sources) gives way to any other.
    """
    chosen: dict[int, None] = {number: None for number, cell in enumerate(cells) if cell.imports_all}
    for name in sorted(names):
        _require(cells, name, frozenset(stubs), chosen, set())
    return [cells[number] for number in chosen]


def names_bound(source: str) -> frozenset[str]:
    """The names that a cell defines at its top level.

    Raises:
        SyntaxError: it is not Python.
    """
    return _piece("", source).binds


def _require(
    cells: Sequence[Piece], name: str, stubs: frozenset[str], chosen: dict[int, None], under_way: set[str]
) -> None:
    if name in under_way:
        return
    under_way.add(name)
    for number in _definitions(cells, name, stubs):
        for other in sorted(cells[number].uses):
            _require(cells, other, stubs, chosen, under_way)
        chosen.setdefault(number)


def _definitions(cells: Sequence[Piece], name: str, stubs: frozenset[str]) -> list[int]:
    """The last definition, the earlier ones that it builds on, and the later changes to parts of it."""
    bound = [number for number, cell in enumerate(cells) if name in cell.binds]
    bound = [number for number in bound if cells[number].source not in stubs] or bound
    if not bound:
        return []
    first = last = bound[-1]
    for number in reversed(bound):
        first = number
        if name not in cells[number].uses:
            break
    chain = [number for number in bound if first <= number <= last]
    changes = [number for number, cell in enumerate(cells) if name in cell.changes and number > last]
    return [*chain, *changes]


def _piece(cell_id: str, source: str) -> Piece:
    source = _TIMED.sub("", source)
    try:
        text = TransformerManager().transform_cell(source)  # magics and shell commands become calls
        tree, table = ast.parse(text), symtable.symtable(text, "cell", "exec")
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        return Piece(cell_id, source, frozenset(), frozenset(), frozenset(), False, f"{message}{where}")
    binds = frozenset(s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported())
    uses = frozenset(_referenced(table)) - frozenset(dir(builtins))
    imports_all = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree))
    return Piece(cell_id, source, binds, uses, frozenset(_changed(tree.body)), imports_all, "")


def _referenced(table: symtable.SymbolTable) -> Iterator[str]:
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (top or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _referenced(inner)


def _changed(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """Names whose parts are assigned to, outside functions and classes."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
                base = node.value
                while isinstance(base, ast.Attribute | ast.Subscript):
                    base = base.value
                if isinstance(base, ast.Name):
                    yield base.id
