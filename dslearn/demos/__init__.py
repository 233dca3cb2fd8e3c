"""One Gradio app a chapter; ``dslearn demo NAME`` opens it, on this machine only.

A demo is a package of this room with an ``app`` that offers two functions: ``load()`` reads what it needs, and
``build(loaded)`` returns the page. ``serve`` and ``inputs`` hold what all of them share.
"""

from __future__ import annotations

DEMOS = ("attention", "moe")
