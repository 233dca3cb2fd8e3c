"""The directive ``explorer``: the widget of chapter 01, alive in the page."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dslearn.widgets import SparseMaskExplorer


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("explorer", Explorer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Explorer(SphinxDirective):
    """Put a ``SparseMaskExplorer`` here. It computes in its own script; without scripts its picture remains."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", f'<div class="explorer">{SparseMaskExplorer().as_html()}</div>', format="html")]
