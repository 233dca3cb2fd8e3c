"""What a check says to a learner: the same words in colour and plain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

State = Literal["done", "not yet", "not started"]

_COLOURS = {"done": "#1a7f37", "not yet": "#b35900", "not started": "#57606a"}
_PRE = "margin:0;white-space:pre-wrap;background:none;color:inherit"
_MARKS = {"done": "✓", "not yet": "✗", "not started": "·"}


@dataclass(frozen=True)
class Feedback:
    """The outcome of one check.

    Attributes:
        exercise: its id, such as ``"01.3"``.
        title: its name.
        state: ``"done"``, ``"not yet"`` or ``"not started"``.
        message: what to know or to do next; for a wrong answer the likely misconception.
        held: the behaviours that were seen to hold, in order.
        failed: the behaviour that did not.
        example: the smallest call that shows it.
        arguments: the arguments of that call by name, to try out.
        expected, got: what that call should return, and what it returned.
        printed: what appeared on the screen during that call.
        note: something about the check itself, such as progress that could not be stored.
    """

    exercise: str
    title: str
    state: State
    message: str
    held: tuple[str, ...] = ()
    failed: str = ""
    example: str = ""
    expected: str = ""
    got: str = ""
    printed: str = ""
    note: str = ""
    arguments: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the answer is right."""
        return self.state == "done"

    @property
    def head(self) -> str:
        """Exercise and state in one line."""
        return f"{self.exercise} {self.title}: {self.state}"

    def __repr__(self) -> str:
        lines = [f"{_MARKS[self.state]} {self.head}"]
        lines += [f"  {mark} {says}" for mark, says in self._behaviours()]
        lines += [f"    {what}: {_under(text, 6 + len(what))}" for what, text in self._example()]
        lines += [f"  {line}" for line in filter(None, (self.message, self.note))]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = _COLOURS[self.state]
        parts = [f'<b><span style="color:{colour}">{_MARKS[self.state]}</span> {escape(self.head)}</b>']
        parts += [f"<div>{mark} {escape(says)}</div>" for mark, says in self._behaviours()]
        rows = "".join(
            f'<tr><th style="text-align:left;vertical-align:top">{what}</th>'
            f'<td style="text-align:left"><pre style="{_PRE}">{escape(text)}</pre></td></tr>'
            for what, text in self._example()
        )
        parts += [f"<table>{rows}</table>"] if rows else []
        parts += [f"<div>{_marked(line)}</div>" for line in filter(None, (self.message, self.note))]
        return f'<div style="border-left:4px solid {colour};padding-left:.8em">{"".join(parts)}</div>'

    def _behaviours(self) -> Iterator[tuple[str, str]]:
        yield from ((_MARKS["done"], says) for says in self.held)
        if self.failed:
            yield _MARKS["not yet"], self.failed

    def _example(self) -> list[tuple[str, str]]:
        rows = (("for", self.example), ("expected", self.expected), ("got", self.got), ("on the screen", self.printed))
        return [(what, text) for what, text in rows if text]


def _under(text: str, column: int) -> str:
    return text.replace("\n", "\n" + " " * column)


def _marked(text: str) -> str:
    """Escaped, with `code` between backquotes, *emphasis* between asterisks and lines kept."""
    plain, *rest = escape(text).replace("\n", "<br>").split("`")
    pairs = zip(rest[::2], rest[1::2], strict=False)
    return _emphasised(plain) + "".join(f"<code>{code}</code>{_emphasised(after)}" for code, after in pairs)


def _emphasised(text: str) -> str:
    return re.sub(r"\*(\w[^*]*)\*", r"<em>\1</em>", text)
