"""A board of exercises with a button to look again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import anywidget
import traitlets

from dslearn.widgets.base import source

Row = tuple[str, str, int, str, int, str]  # mark, exercise, minutes, state, tries, where the last try failed


class ProgressBoard(anywidget.AnyWidget):
    """What is done of the exercises, as a table.

    Args:
        look: gives a sentence and the rows; it is asked at once and whenever the button is pressed.
    """

    _esm = source("base.js", "progress.js")
    _css = source("base.css")
    board = traitlets.Dict().tag(sync=True)

    def __init__(self, look: Callable[[], tuple[str, Sequence[Row]]]) -> None:
        super().__init__()
        self._look = look
        self.look_again()
        self.on_msg(lambda *_: self.look_again())

    def look_again(self) -> None:
        """Ask for the state as it is now."""
        told, rows = self._look()
        self.board = {"told": told, "rows": [list(row) for row in rows]}

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live board for a kernel's notebook, a plain table for whatever else shows its outputs, and words."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self._table(), "text/plain": self.board["told"]}, metadata

    def _table(self) -> str:
        lines = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in self.board["rows"])
        return f"<p>{escape(self.board['told'])}</p><table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
