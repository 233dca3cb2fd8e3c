"""What a notebook needs to become a page: folded solutions, links that do not lead to ``work/``, two buttons."""

from __future__ import annotations

import json
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx

# Where `dslearn lab` serves the clone, unless told otherwise.
LAB = "http://127.0.0.1:8888/lab/tree"
_SOLUTION = "One way to solve it"


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _prepare)
    app.connect("html-page-context", _buttons, priority=900)  # after the theme, whose list we fill
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _prepare(app: Sphinx, page: str, source: list[str]) -> None:
    folder, _, name = page.rpartition("/")
    if folder not in ("chapters", "solutions"):
        return
    notebook = json.loads(source[0])
    if folder == "solutions":
        notebook["cells"] = [_folded(cell) for cell in notebook["cells"] if not cell["id"].endswith("-text")]
        notebook["cells"][0]["source"] = [*notebook["cells"][0]["source"], _how_to_work(name)]
    # The learner's copies are not part of the book; the page that they were copied from is.
    source[0] = json.dumps(notebook).replace("](../work/", "](../solutions/")


def _how_to_work(name: str) -> str:
    return (
        f"\n\nTo work on them type `dslearn lab` and open `work/{name}.ipynb`, "
        f"or take {{download}}`the notebook <../exercises/{name}.ipynb>` from here. "
        "The answers below are folded: try first."
    )


def _folded(cell: dict[str, Any]) -> dict[str, Any]:
    """The cell with what would give an answer away folded: a solution, a sample answer, a rubric."""
    text = "".join(cell["source"])
    tags = cell["metadata"].get("tags", [])
    if cell["cell_type"] == "markdown":
        return {**cell, "source": f":::::{{dropdown}} One good answer\n{text}\n:::::"} if "solution" in tags else cell
    if "### BEGIN SOLUTION" in text:
        return _tagged(cell, [*tags, "hide-input"], _SOLUTION)
    if text.startswith("rubric("):
        return _tagged(cell, [*tags, "hide-output"], "The points to judge your answer by")
    return cell


def _tagged(cell: dict[str, Any], tags: list[str], prompt: str) -> dict[str, Any]:
    prompts = {"code_prompt_show": prompt, "code_prompt_hide": prompt}
    return {**cell, "metadata": {**cell["metadata"], "tags": tags, "mystnb": prompts}}


def _buttons(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    folder, _, name = page.rpartition("/")
    if folder not in ("chapters", "solutions"):
        return
    if folder == "chapters":
        opened, file = f"chapters/{name}.ipynb", f"_sources/{context['sourcename']}"
    else:
        exercises = next(doctree.findall(download_reference))["filename"]
        opened, file = f"work/{name}.ipynb", f"_downloads/{exercises}"
    context["header_buttons"] += [
        {
            "type": "link",
            "url": f"{LAB}/{opened}",
            "text": "Open in JupyterLab",
            "icon": "fas fa-rocket",
            "tooltip": "Opens on your own machine, where dslearn lab must be running",
            "label": "launch",
        },
        {
            "type": "link",
            "url": context["pathto"](file, 1),
            "text": "Download",
            "icon": "fas fa-download",
            "tooltip": "Download this notebook",
            "label": "download",
        },
    ]
