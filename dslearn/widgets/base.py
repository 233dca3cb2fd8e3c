"""What every explorer shares: one script for notebook and page, and a fragment of HTML that lives without a kernel."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import anywidget

from dslearn.plots import DescribedFigure

_FOLDER = Path(__file__).parent


def source(*names: str) -> str:
    """Files of this folder as one: scripts as one JavaScript module, of which only the last exports."""
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)


class Explorer(anywidget.AnyWidget):
    """A widget whose script computes by itself, so that it stays alive on a page without a kernel.

    A subclass gives ``_esm`` and ``_css`` by :func:`source`, its state as synchronised traits, and
    :meth:`figure`, the picture that takes its place where there is no JavaScript.
    """

    _esm: str
    _css: str

    def figure(self) -> DescribedFigure:
        """The static twin of what is on show."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What the script sees: the synchronised traits by name."""
        names = self.traits(sync=True).keys() - anywidget.AnyWidget.class_traits(sync=True).keys()
        return {name: getattr(self, name) for name in sorted(names) if not name.startswith("_")}

    def as_html(self) -> str:
        """A fragment for any HTML page: the widget, alive without a kernel; without JavaScript, its static twin.

        It asks for nothing outside itself.
        """
        return self._fragment(self.figure())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live widget for a kernel's notebook, the fragment for whatever else shows its outputs, and words."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        picture = self.figure()
        return {**data, "text/html": self._fragment(picture), "text/plain": f"Explorer: {picture.alt}"}, metadata

    def _fragment(self, picture: DescribedFigure) -> str:
        return _FRAGMENT.format(
            picture=picture.as_html(),
            css=self._css,
            state=_json(self.state()),
            esm=_json(self._esm),
            alive=source("static.js"),
        )


def _json(value: Any) -> str:
    """JSON that cannot end the script element it stands in; bytes as ``{"base64": …}``."""
    plain = json.dumps(value, ensure_ascii=False, default=lambda packed: {"base64": b64encode(packed).decode()})
    return plain.replace("<", "\\u003c")


# The picture is there first and goes when the script has drawn: nothing jumps, and without a script it stays.
_FRAGMENT = """\
<div class="dslearn-static">
<div class="dslearn-picture">{picture}</div>
<style>{css}</style>
<script type="application/json">{state}</script>
<script type="application/json">{esm}</script>
<script type="module">
{alive}
</script>
</div>
"""
