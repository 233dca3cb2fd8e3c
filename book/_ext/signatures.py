"""Signatures of one parameter a line, in elements that a screen reader does not take for a broken list.

Sphinx writes the lines as definitions (``<dd>``) without a term.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_LINES = re.compile(r"<dl>\s*((?:<dd>.*?</dd>\s*)+)</dl>", re.DOTALL)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-page-context", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _mend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    if "body" in context:
        context["body"] = _LINES.sub(_as_lines, context["body"])


def _as_lines(found: re.Match[str]) -> str:
    lines = found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'<span class="sig-lines">{lines}</span>'
