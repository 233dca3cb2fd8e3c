"""Make an executed notebook the same file on every machine, as far as its numbers allow."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from nbformat import NotebookNode

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")
_TIMESTAMP = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?")
_PROGRESS = re.compile(r"\d+%\|.*\||[━╸╺]{3,}|\b\d+(?:\.\d+)?\s?(?:it/s|s/it)\b|^\s*\d+/\d+ \[")
_WIDGET = "application/vnd.jupyter.widget-view+json"  # needs its kernel: what an explorer leaves beside it does not
_BLANK = ("", "Output()")  # an output without text, and a live display, which is empty once the kernel is gone
_KEPT_CELL_METADATA = ("tags", "editable", "mystnb", "jupyter", "slideshow")


def normalise(notebook: NotebookNode, root: Path | None = None) -> NotebookNode:
    """Strip what changes from run to run: paths, addresses, time stamps, progress bars, execution metadata.

    Args:
        notebook: changed in place and returned.
        root: folder whose absolute path is written as ``.``.
    """
    count = 0
    for cell in notebook.cells:
        cell.metadata = NotebookNode({key: cell.metadata[key] for key in _KEPT_CELL_METADATA if key in cell.metadata})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count if cell.source.strip() else None
        cell.outputs = [output for output in cell.outputs if _normalise_output(output, count, root)]
    notebook.metadata = _metadata(notebook)
    return notebook


def scrub(text: str, root: Path | None = None) -> str:
    """Return ``text`` without terminal colours, memory addresses, clock times and this machine's paths."""
    text = _TIMESTAMP.sub("(time)", _ADDRESS.sub("0x…", _ANSI.sub("", text)))
    places = [(root, "."), (Path(sys.prefix), "(environment)"), (Path.home(), "~")]
    for place, name in places:
        if place is not None and place != Path(place.anchor):
            text = text.replace(str(place), name)
    return text


def _metadata(notebook: NotebookNode) -> NotebookNode:
    kept = {key: notebook.metadata[key] for key in ("title", "authors") if key in notebook.metadata}
    kept["kernelspec"] = NotebookNode(display_name="Python 3", language="python", name="python3")
    kept["language_info"] = NotebookNode(file_extension=".py", mimetype="text/x-python", name="python")
    return NotebookNode(kept)


def _normalise_output(output: NotebookNode, count: int, root: Path | None) -> bool:
    """Scrub an output in place; return whether anything is left to show."""
    if "execution_count" in output:
        output.execution_count = count
    if output.output_type == "stream":
        lines = scrub(output.text, root).splitlines(keepends=True)
        output.text = "".join(line for line in lines if not _PROGRESS.search(line))
        return bool(output.text.strip())
    if output.output_type == "error":
        output.traceback = [scrub(line, root) for line in output.traceback]
        output.evalue = scrub(output.evalue, root)
        return True
    plain = str(output.data.get("text/plain", "no text")).strip()
    if _PROGRESS.search(plain) or plain in _BLANK:
        return False  # a bar that a widget or coloured text drew, or what is left of one
    output.data.pop(_WIDGET, None)
    for kind, content in output.data.items():
        if kind.startswith("text/") and isinstance(content, str) and ";base64," not in content:
            output.data[kind] = scrub(content, root)
    return True
