"""The directive ``explorer``: the widget of chapter 01, alive in the page."""

from __future__ import annotations

from importlib.util import find_spec

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("explorer", Explorer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Explorer(SphinxDirective):
    """Put a ``SparseMaskExplorer`` here. It computes in its own script; without scripts its picture remains."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", f'<div class="explorer">{_explorer()}</div>', format="html")]


def _explorer() -> str:
    if find_spec("dslearn.widgets") is None:
        return _stand_in()
    from dslearn.widgets import SparseMaskExplorer

    return SparseMaskExplorer().as_html()


def _stand_in() -> str:
    """The widget's still picture, until the room of the widgets is here."""
    import torch

    from dslearn.attention import select_blocks
    from dslearn.plots import attention_mask

    past, block_of = torch.ones(64, 64).tril() > 0, torch.arange(64) // 8
    q, k = torch.randn(2, 1, 1, 64, 4, generator=torch.Generator().manual_seed(0))
    blocks = select_blocks(q, k, block_size=8, top_k=3)[0, 0]
    chosen = past & (blocks[:, :, None] == block_of).any(dim=1)
    window = past & (block_of[:, None] - block_of < 3)
    return attention_mask({"dense": past, "window": window, "chosen": chosen}, block_size=8).as_html()
